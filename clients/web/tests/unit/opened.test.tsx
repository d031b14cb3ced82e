import { beforeEach, expect, it, vi } from 'vitest';
import { type Conversation, withSummary } from '../../src/store/conversation';
import type { Room } from '../../src/store/room';
import { FakeIntersections, drawn, stubPage } from './dom';
import { CONVERSATION, ME, ROOM, message, summary, until } from './samples';

stubPage();
const { store } = await import('../../src/page');
const { ConversationPane } = await import('../../src/conversation/Conversation');

const room: Room = { id: ROOM, kind: 'class', title: 'Class 4B', school: 'Hillside', role: 'guardian', students: [], staff: [], families: [], detailed: true };
const address = { kind: 'announcements' } as const;
const held = () => store.conversation(CONVERSATION, ROOM, address);
const Pane = () => <ConversationPane room={room} conversation={held()} />;

/** A conversation as a new device holds it: of `n` announcements, `unread` of which are new, the last one. */
function scene(n: number, unread: number) {
  const said = (at: number) => message(at, undefined, { at: new Date(Date.UTC(2026, 10, 24, 8, at)).toISOString() });
  const latest = (n: number, unread: number): Conversation => {
    const mine = { person: ME, delivered: n, read: n - unread };
    return withSummary(undefined, ROOM, summary(n, { last: said(n), unread, mine, address }), ME);
  };
  store.conversations.value = new Map([[CONVERSATION, latest(n, unread)]]);
  let answers = () => undefined as void;
  const network = new Promise<void>((resolve) => (answers = resolve));
  vi.stubGlobal('fetch', async (url: string) => {
    await network;
    const before = Number(/before=(\d+)/.exec(url)?.[1]);
    const page = Array.from({ length: Math.min(50, before - 1) }, (_, i) => said(before - 1 - i));
    return new Response(JSON.stringify({ messages: page, more: page.at(-1)!.n > 1 }));
  });
  const { root, draw } = drawn(<Pane />);
  const box = root.querySelector('.messages')!;
  /** Draws what is due and looks at it, until it holds. */
  const sees = (what: string, holds: () => boolean) => until(what, () => {
    draw();
    FakeIntersections.all.at(-1)?.looks();
    return holds();
  });
  const texts = () => root.querySelectorAll('.text').map(({ text }) => text);
  return { root, box, sees, answers, texts, latest };
}

beforeEach(() => {
  FakeIntersections.all = [];
  store.history.value = new Map();
  vi.restoreAllMocks();
});

it('what is only known in summary is fetched, shown from its first on, and read as it is seen', async () => {
  const read = vi.spyOn(store, 'read');
  const { box, sees, answers, texts, root } = scene(30, 25);
  await sees('what is held', () => read.mock.calls.length > 0);
  expect(held().read).toBe(5);
  expect(root.querySelector('.new-line')).toBeNull();
  answers();
  await sees('the first new ones', () => held().read > 5);
  expect(texts()).toHaveLength(30);
  // The line, and the five below it.
  expect(box.scrollTop).toBe(root.querySelector('.new-line')!.above);
  expect(held().read).toBe(10);
  // Somebody jumps to the end, and goes up and down again.
  box.scrollTop = 10_000;
  box.does('scroll');
  const times = read.mock.calls.length;
  await sees('the end', () => read.mock.calls.length > times + 1);
  expect(held().read).toBe(10);
  for (let to = 500; to < 3_000; to += 300) {
    box.scrollTop = to;
    FakeIntersections.all.at(-1)!.looks();
  }
  await sees('all of it', () => held().read === 30);
});

it('more new ones than a long conversation is drawn with are drawn from the first on', async () => {
  const { sees, answers, texts, root, box } = scene(150, 65);
  answers();
  await sees('the first new one', () => root.querySelector('.new-line') !== null);
  expect(texts()).toContain('message 86');
  expect(box.scrollTop).toBe(root.querySelector('.new-line')!.above);
  await sees('the first ones', () => held().read > 85);
  expect(held().read).toBe(90);
});

it('where nothing is new its end is shown', async () => {
  const { box, sees, answers, texts, root } = scene(80, 0);
  answers();
  await sees('its end', () => texts().length > 20);
  expect(root.querySelector('.new-line')).toBeNull();
  expect(box.scrollTop).toBe(box.scrollHeight - box.clientHeight);
});

it('what was forgotten and comes anew while it is open is opened anew', async () => {
  const { box, sees, answers, texts, root, latest } = scene(3, 0);
  answers();
  await sees('all of it', () => texts().length === 3);
  store.conversations.value = new Map();
  await sees('nothing', () => texts().length === 0);
  store.conversations.value = new Map([[CONVERSATION, latest(30, 25)]]);
  await sees('the first new ones', () => held().read > 5);
  expect(box.scrollTop).toBe(root.querySelector('.new-line')!.above);
  expect(held().read).toBe(10);
});
