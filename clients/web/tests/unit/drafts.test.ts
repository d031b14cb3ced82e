import 'fake-indexeddb/auto';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { until } from './samples';

/** The page, anew: its modules look at the window as soon as they are loaded. */
async function page() {
  vi.resetModules();
  const { store } = await import('../../src/page');
  const drafts = await import('../../src/conversation/drafts');
  return { store, ...drafts };
}

/** As a browser has it: what is kept are its own keys. */
class Kept {
  getItem(key: string): string | null {
    return (this as unknown as Record<string, string>)[key] ?? null;
  }
  setItem(key: string, value: string): void {
    (this as unknown as Record<string, string>)[key] = value;
  }
  removeItem(key: string): void {
    delete (this as unknown as Record<string, string>)[key];
  }
}

let kept: Kept;
/** What pages speak to each other over; closed after each test, or the page of an earlier one would listen on. */
const channels: BroadcastChannel[] = [];
class Channel extends BroadcastChannel {
  constructor(name: string) {
    super(name);
    channels.push(this);
  }
}
const listeners = new Map<string, () => void>();

beforeEach(() => {
  kept = new Kept();
  kept.setItem('draft of a conversation', 'she was ill');
  kept.setItem('something else', 'stays');
  const listen = (kind: string, then: () => void) => void listeners.set(kind, then);
  vi.stubGlobal('localStorage', kept);
  vi.stubGlobal('addEventListener', listen);
  vi.stubGlobal('document', { addEventListener: listen });
  vi.stubGlobal('location', { hash: '', reload: vi.fn() });
  vi.stubGlobal('BroadcastChannel', Channel);
});
afterEach(() => {
  for (const channel of channels.splice(0)) channel.close();
  vi.unstubAllGlobals();
});

it('a sign-in that was ended from elsewhere takes what was half written with it', async () => {
  const refusal = { code: 'unauthenticated', message: 'Sign in first.', retryable: false };
  vi.stubGlobal('fetch', async () => new Response(JSON.stringify(refusal), { status: 401 }));
  const { store, draftOf, keepDraft } = await page();
  expect(draftOf('of a conversation')).toBe('she was ill');
  keepDraft('of another one', 'not on the device yet');
  await store.open();
  await until('signed out', () => store.phase.value === 'signed_out');
  listeners.get('pagehide')?.();
  expect(Object.keys(kept)).toEqual(['something else']);
  expect(draftOf('of another one')).toBe('');
});

it('a page that hears of it from another one writes nothing more either', async () => {
  const { draftOf, keepDraft } = await page();
  keepDraft('of another one', 'not on the device yet');
  new BroadcastChannel('homeroom').postMessage('left');
  await until('the draft is gone', () => draftOf('of another one') === '');
  await until('the page begins anew', () => vi.mocked(location.reload).mock.calls.length > 0);
  listeners.get('pagehide')?.();
  expect(Object.keys(kept)).toEqual(['something else']);
});
