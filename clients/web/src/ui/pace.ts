/**
 * When the page is drawn anew.
 *
 * Owns: that drawing leaves time for everything else. Refuses to know: what is drawn.
 *
 * However much comes in, it is drawn once a frame; and where a frame takes long, on an old telephone or while a class
 * answers at once, the next one waits for twice as long as the last one took. What comes first after a rest is drawn at
 * once. Without this, painting takes all the time that there is, and what is to be painted queues behind it.
 */

/** So many times as long as a frame took is left to everything else. */
const REST = 2;
/** However slow it is, so often somebody sees that something happens. */
const LONGEST_REST_MS = 100;
/** A page that nobody sees has no frames, and a title all the same. */
const HIDDEN_MS = 100;

/** For `options.debounceRendering`. */
export function paced(): (draw: () => void) => void {
  let notBefore = 0;
  return (draw) => {
    let done = false;
    const once = () => {
      if (done) return;
      done = true;
      const began = performance.now();
      draw();
      // After the frame, laid out and painted.
      setTimeout(() => {
        const now = performance.now();
        notBefore = now + Math.min(REST * (now - began), LONGEST_REST_MS);
      });
    };
    const wait = notBefore - performance.now();
    const frame = () => !document.hidden && requestAnimationFrame(once);
    if (wait > 0) setTimeout(frame, wait);
    else frame();
    setTimeout(once, Math.max(0, wait) + HIDDEN_MS);
  };
}
