/**
 * Whom an announcement has reached.
 *
 * Owns: the report as fetched, and moving it on with the marks that come in. Refuses to know: how it looks.
 */
import { signal } from '@preact/signals';
import { store } from '../page';
import { call } from '../connection/http';
import * as wire from '../connection/wire';
import type { EventId, Mark, Reach, ReachedGuardian, RoomId } from '../protocol';

export type Report = { state: 'loading' } | { state: 'failed' } | { state: 'known'; n: number; reach: Reach };

export const reports = signal<ReadonlyMap<EventId, Report>>(new Map());

function put(message: EventId, report: Report): void {
  reports.value = new Map(reports.value).set(message, report);
}

/** Fetches the report of a message with this number, unless it is there. */
export async function fetchReach(room: RoomId, message: EventId, n: number, anew = false): Promise<void> {
  const known = reports.value.get(message);
  if (known && known.state !== 'failed' && !anew) return;
  if (!known) put(message, { state: 'loading' });
  const person = store.you.peek()?.person;
  const over = () => person !== store.you.peek()?.person;
  try {
    const reach = await call('GET', `rooms/${room}/messages/${message}/reach`, wire.reach);
    if (!over()) put(message, { state: 'known', n, reach });
  } catch (error) {
    if (over()) return;
    console.error('no reach report', error);
    if (!known || known.state !== 'known') put(message, { state: 'failed' });
  }
}

/** The report after somebody's mark moved. */
export function moved(reach: Reach, n: number, mark: Mark): Reach {
  const guardians = reach.guardians.map((line) =>
    line.about.guardian !== mark.person ? line
    : { ...line, delivered: line.delivered || mark.delivered >= n || mark.read >= n, read: line.read || mark.read >= n });
  return { ...reach, guardians };
}

// Whom somebody has reached is for them.
store.you.subscribe((you) => {
  if (!you) reports.value = new Map();
});

store.announced.subscribe((announced) => {
  if (!announced) return;
  let changed = false;
  const next = new Map(reports.peek());
  const messages = store.conversations.peek().get(announced.conversation)?.messages ?? [];
  for (const { id } of messages) {
    const report = next.get(id);
    if (report?.state !== 'known') continue;
    next.set(id, { ...report, reach: moved(report.reach, report.n, announced.mark) });
    changed = true;
  }
  if (changed) reports.value = next;
});

/** The report in three groups. */
export function grouped(reach: Reach): Record<'not' | 'delivered' | 'read', ReachedGuardian[]> {
  return {
    not: reach.guardians.filter((line) => !line.delivered && !line.read),
    delivered: reach.guardians.filter((line) => line.delivered && !line.read),
    read: reach.guardians.filter((line) => line.read),
  };
}
