/** Small drawings. Owns: their lines. They never speak alone: a word stands beside each, so they are hidden from readers. */
const PATHS = {
  back: 'M15 5l-7 7 7 7',
  settings:
    'M12 8.5a3.5 3.5 0 100 7 3.5 3.5 0 000-7zM19.4 13.5l1.6 1.2-1.8 3.1-1.9-.7a7.5 7.5 0 01-2.6 1.5l-.3 2h-3.6l-.3-2a7.5 7.5 0 01-2.6-1.5l-1.9.7-1.8-3.1 1.6-1.2a7.6 7.6 0 010-3L4.2 9.3 6 6.2l1.9.7a7.5 7.5 0 012.6-1.5l.3-2h3.6l.3 2a7.5 7.5 0 012.6 1.5l1.9-.7L21 9.3l-1.6 1.2a7.6 7.6 0 010 3z',
  send: 'M4 12l16-8-5 16-3.5-6.5L4 12zM11.5 13.5L20 4',
  announce: 'M4 10v4h3l8 4.5v-13L7 10H4zM18 9.5a3.5 3.5 0 010 5M7 14l1.2 5h2.3L9.4 15.3',
  message: 'M4 5.5h16v11H10.5L6 20v-3.5H4z',
  waiting: 'M12 4a8 8 0 100 16 8 8 0 000-16zM12 8v4.2l2.8 1.8',
  sent: 'M5 12.5l4.5 4.5L19 7.5',
  delivered: 'M2 12.5l4.5 4.5L16 7.5M11 16l1 1 9.5-9.5',
  read: 'M2.5 12S6 5.8 12 5.8 21.5 12 21.5 12 18 18.2 12 18.2 2.5 12 2.5 12zM12 9.4a2.6 2.6 0 100 5.2 2.6 2.6 0 000-5.2z',
  failed: 'M12 4l9 16H3zM12 10v4.5M12 17v.4',
  more: 'M5.5 12h.01M12 12h.01M18.5 12h.01',
  down: 'M12 5v14M6 13l6 6 6-6',
  chevron: 'M9 5l7 7-7 7',
  offline: 'M3 3l18 18M5 12.5a10 10 0 013.2-2.2M2 9a15 15 0 014-2.6M19 12.5a10 10 0 00-4-2.6M22 9a15 15 0 00-9.6-3.9M8.5 16a5 5 0 017 0M12 19.5h.01',
  lock: 'M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 017 0v3',
  close: 'M6 6l12 12M18 6L6 18',
};

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class={`icon icon-${name}`} viewBox="0 0 24 24" width="24" height="24" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
