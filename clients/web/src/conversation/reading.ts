/**
 * When a message counts as read: it is on the screen, and the page is looked at.
 *
 * Owns: watching the rows of a conversation. Refuses to know: what is told to the server.
 */
import type { RefObject } from 'preact';
import { useEffect, useRef } from 'preact/hooks';

/** So much of a row must be seen; for one that is higher than the screen, any part. */
const SEEN = 0.6;

/** What is read is told so often at most: each time the lists are drawn anew with what is left. */
const EVERY_MS = 250;

/** Calls `seen` with the highest `data-n` among the rows in view, whenever it may have changed while somebody looks. */
export function useReading(list: RefObject<HTMLElement | null>, conversation: string, seen: (n: number) => void): void {
  const report = useRef(seen);
  report.current = seen;
  const observer = useRef<IntersectionObserver | null>(null);
  const watched = useRef(new WeakSet<Element>());
  useEffect(() => {
    const root = list.current;
    if (!root) return;
    const visible = new Map<Element, number>();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let told = 0;
    const tell = () => {
      timer = undefined;
      if (document.visibilityState !== 'visible' || !document.hasFocus()) return;
      const highest = Math.max(0, ...visible.values());
      if (highest === 0) return;
      told = performance.now();
      report.current(highest);
    };
    const look = () => {
      timer ??= setTimeout(tell, Math.max(0, told + EVERY_MS - performance.now()));
    };
    const watching = new IntersectionObserver(
      (changes) => {
        for (const { target, isIntersecting, intersectionRatio, boundingClientRect } of changes) {
          const tall = boundingClientRect.height > root.clientHeight * SEEN;
          if (isIntersecting && (tall || intersectionRatio >= SEEN)) visible.set(target, Number((target as HTMLElement).dataset['n']));
          else visible.delete(target);
        }
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
    for (const row of list.current?.querySelectorAll('[data-n]') ?? []) {
      if (watched.current.has(row)) continue;
      watched.current.add(row);
      observer.current?.observe(row);
    }
  });
}
