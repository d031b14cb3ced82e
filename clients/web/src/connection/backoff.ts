/**
 * When to come back after a lost connection.
 *
 * Owns: exponential backoff with full jitter, and which close codes end it. Refuses to know: sockets.
 */

/** The first wait is at most so many milliseconds; each next one may be twice as long. */
const FIRST_MS = 500;
/** No wait is longer: somebody may be looking at the page, and a server that starts again is there within seconds. */
const LONGEST_MS = 10_000;

/**
 * Milliseconds to wait before try number `attempt` (from 0): anything from nothing to the full step, so that the
 * thousands that lost the same server do not come back at the same moment.
 */
export function backoff(attempt: number, random: () => number = Math.random): number {
  return random() * Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(attempt, 16));
}

/** Whether a client that was closed with this number should come back by itself: 44xx no, all others yes. */
export function mayReturn(code: number): boolean {
  return code < 4400 || code >= 4500;
}
