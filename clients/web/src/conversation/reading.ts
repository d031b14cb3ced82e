/**
 * When a message counts as read: it was on the screen, the page was looked at, and so it was with all that is new before it.
 *
 * Owns: watching the rows of a conversation, and how far it was read. Refuses to know: what is told to the server.
 */
import type { RefObject } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import type { EventId } from '../protocol';
import type { Conversation } from '../store/conversation';

/** So much of a row must be seen; for one that is higher than the screen, any part. */
const SEEN = 0.6;

/** What is read is told so often at most: each time the lists are drawn anew with what is left. */
const EVERY_MS = 250;

/** How far it was read, where these were on the screen: up to before the first new one that was not. */
export function readUpTo(held: Conversation, seen: ReadonlySet<EventId>): number {
  // What is between has still to come in above.
  if (held.more && held.from > held.read + 1) return held.read;
  const missed = held.messages.find(
    ({ n, id, author, retracted_at }) => n > held.read && author !== held.mine.person && !retracted_at && !seen.has(id),
  );
  return missed ? missed.n - 1 : held.n;
}

/** Calls `report` with the `data-id` of all rows that were in view, whenever there may be more of them while somebody looks. */
export function useReading(list: RefObject<HTMLElement | null>, conversation: string, report: (seen: ReadonlySet<EventId>) => void): void {
  const latest = useRef(report);
  latest.current = report;
  const observer = useRef<IntersectionObserver | null>(null);
  const watched = useRef(new WeakSet<Element>());
  useEffect(() => {
    const root = list.current;
    if (!root) return;
    const visible = new Set<HTMLElement>();
    const seen = new Set<EventId>();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let told = 0;
    /** Notes what is in view; false while nobody looks. */
    const note = () => {
      if (document.visibilityState !== 'visible' || !document.hasFocus()) return false;
      for (const row of visible) seen.add(row.dataset['id'] ?? '');
      return visible.size > 0;
    };
    const tell = () => {
      timer = undefined;
      if (!note()) return;
      told = performance.now();
      latest.current(seen);
    };
    const look = () => {
      timer ??= setTimeout(tell, Math.max(0, told + EVERY_MS - performance.now()));
    };
    const watching = new IntersectionObserver(
      (changes) => {
        for (const { target, isIntersecting, intersectionRatio, boundingClientRect } of changes) {
          const row = target as HTMLElement;
          const tall = boundingClientRect.height > root.clientHeight * SEEN;
          if (isIntersecting && (tall || intersectionRatio >= SEEN)) visible.add(row);
          else visible.delete(row);
        }
        // At once: by the time that it is told, somebody may have scrolled on.
        note();
        look();
      },
      { root, threshold: [0, SEEN] },
    );
    observer.current = watching;
    watched.current = new WeakSet();
    document.addEventListener('visibilitychange', look);
    addEventListener('focus', look);
    return () => {
      if (timer !== undefined) {
        clearTimeout(timer);
        tell();
      }
      watching.disconnect();
      document.removeEventListener('visibilitychange', look);
      removeEventListener('focus', look);
    };
  }, [list, conversation]);
  // After each drawing, so that no row is missed: those that are watched already cost nothing.
  useEffect(() => {
    for (const row of list.current?.querySelectorAll('[data-id]') ?? []) {
      if (watched.current.has(row)) continue;
      watched.current.add(row);
      observer.current?.observe(row);
    }
  });
}
