/** Small makers of protocol values for the tests. */
import type { ConversationSummary, Event, Message } from '../../src/protocol';
import type { Conversation } from '../../src/store/conversation';
import { unheard } from '../../src/store/conversation';

export const ME = 'me';
export const THEM = 'them';
export const ROOM = 'room';
export const CONVERSATION = 'conversation';

export function message(n: number, text = `message ${n}`, more: Partial<Message> = {}): Message {
  return {
    id: `event ${n}`, n, author: THEM, client_id: `client ${n}`, at: '2026-11-24T10:00:00.000Z', urgent: false,
    envelope: { language: 'en', direction: 'ltr', text, protected: [], translations: {} }, ...more,
  };
}

export function takenBack(n: number): Message {
  const { envelope: _, ...rest } = message(n);
  return { ...rest, retracted_at: '2026-11-24T11:00:00.000Z' };
}

export function posted(n: number, more: Partial<Message> = {}): Event {
  const said = message(n, undefined, more);
  return { room: ROOM, id: said.id, conversation: CONVERSATION, about: { guardian: ME, student: 's' }, n, at: said.at, kind: 'posted', message: said };
}

export function changed(n: number, kind: 'edited' | 'retracted', said: Message): Event {
  return { room: ROOM, id: `event ${n}`, conversation: CONVERSATION, about: { guardian: ME, student: 's' }, n, at: said.at, kind, message: said };
}

export function empty(): Conversation {
  return unheard(CONVERSATION, ROOM, { kind: 'private', guardian: ME, student: 's' }, ME);
}

export function summary(n: number, more: Partial<ConversationSummary> = {}): ConversationSummary {
  return {
    conversation: CONVERSATION, address: { kind: 'private', guardian: ME, student: 's' }, n, unread: 0,
    mine: { person: ME, delivered: 0, read: 0 }, others: [], ...more,
  };
}

/** Waits until `holds`, for a condition and never for a time; fails with what is being waited for. */
export async function until(what: string, holds: () => boolean): Promise<void> {
  for (let turn = 0; turn < 2_000; turn++) {
    if (holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  throw new Error(`never: ${what}`);
}
