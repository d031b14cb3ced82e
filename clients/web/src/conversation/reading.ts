/**
 * When a message counts as read: it is on the screen, and the page is looked at.
 *
 * Owns: watching the rows of a conversation. Refuses to know: what is told to the server.
 */
import type { RefObject } from 'preact';
import { useEffect, useRef } from 'preact/hooks';

/** So much of a row must be seen; for one that is higher than the screen, any part. */
const SEEN = 0.6;

/** Calls `seen` with the highest `data-n` among the rows in view, whenever it may have changed while somebody looks. */
export function useReading(list: RefObject<HTMLElement | null>, rows: number, conversation: string, seen: (n: number) => void): void {
  const report = useRef(seen);
  report.current = seen;
  useEffect(() => {
    const root = list.current;
    if (!root) return;
    const visible = new Map<Element, number>();
    const look = () => {
      if (document.visibilityState !== 'visible' || !document.hasFocus()) return;
      const highest = Math.max(0, ...visible.values());
      if (highest > 0) report.current(highest);
    };
    const observer = new IntersectionObserver(
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
    for (const row of root.querySelectorAll('[data-n]')) observer.observe(row);
    document.addEventListener('visibilitychange', look);
    addEventListener('focus', look);
    return () => {
      observer.disconnect();
      document.removeEventListener('visibilitychange', look);
      removeEventListener('focus', look);
    };
  }, [list, rows, conversation]);
}
