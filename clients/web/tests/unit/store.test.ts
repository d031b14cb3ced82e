import 'fake-indexeddb/auto';
import { IDBFactory } from 'fake-indexeddb';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { Family, Fault, Home, RoomSummary } from '../../src/protocol';
import { Storage } from '../../src/store/storage';
import { Store } from '../../src/store/store';
import { CONVERSATION, ME, ROOM, changed, message, posted, summary, takenBack, until } from './samples';
import { FakeSocket, welcome } from './socket';

const room = (more: Partial<RoomSummary> = {}): RoomSummary => ({
  room: ROOM, kind: 'class', title: 'Class 4B', school: 'Hillside', role: 'guardian', students: [], conversations: [], position: null, ...more,
});

/** The server, as far as a store asks it over HTTP. */
let home: Home;
let history: { messages: ReturnType<typeof message>[]; more: boolean };
let families: Family[];
let status: number;
/** What is refused otherwise than with 401. */
let refusal: Partial<Fault>;
/** Pages of history are answered after this. */
let gate: Promise<void>;
/** The status with which a room's details are answered. */
let details: Promise<number>;
/** There is no answer when a page is asked for. */
let noPages: boolean;
const asked: string[] = [];
const opened: Store[] = [];

beforeEach(() => {
  home = { you: welcome.you, rooms: [room()] };
  history = { messages: [], more: false };
  families = [];
  status = 200;
  refusal = {};
  gate = Promise.resolve();
  noPages = false;
  details = Promise.resolve(200);
  asked.length = 0;
  vi.stubGlobal('fetch', async (url: string) => {
    asked.push(url);
    if (url.includes('/messages')) await gate;
    if (noPages && url.includes('/messages')) throw new TypeError('no network');
    const gone = url.endsWith(ROOM) && home.rooms.length === 0;
    const answered = url.endsWith(ROOM) && status === 200 ? await details : status;
    if (gone) return new Response(JSON.stringify({ code: 'not_found', message: 'No such room.', retryable: false }), { status: 404 });
    const body = answered !== 200 ? { code: 'unauthenticated', message: 'Sign in first.', retryable: false, ...refusal }
      : url.endsWith('/home') ? home
      : url.includes('/messages') ? history
      : { summary: home.rooms[0], staff: [], families };
    return new Response(JSON.stringify(body), { status: answered });
  });
});
afterEach(() => {
  for (const store of opened.splice(0)) store.connection.stop();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

function scene(factory = new IDBFactory(), forgetMore?: () => void) {
  const sockets: FakeSocket[] = [];
  const storage = new Storage('t', factory);
  const store = new Store(storage, {
    open: () => {
      const socket = new FakeSocket();
      sockets.push(socket);
      return socket as unknown as WebSocket;
    },
    random: () => 0,
  }, forgetMore);
  opened.push(store);
  const live = async (position: string | null = null) => {
    await until('a socket', () => sockets.at(-1)?.closed === false);
    const socket = sockets.at(-1)!;
    socket.onopen?.();
    socket.says({ ...welcome, you: home.you, rooms: [{ room: ROOM, title: 'Class 4B', role: 'guardian', position }] });
    socket.says({ type: 'caught_up', room: ROOM });
    return socket;
  };
  const held = () => store.conversations.value.get(CONVERSATION);
  /** Answers every command that waits. */
  const answer = (socket: FakeSocket) => {
    for (const { ref } of socket.sent) if (ref) socket.says({ type: 'ack', ref });
  };
  return { store, storage, sockets, live, held, answer };
}

it('a device that knows nothing fetches the first screen, and says hello with its positions', async () => {
  home.rooms = [room({ position: 'event 9', conversations: [summary(9, { last: message(9) })] })];
  const { store, live } = scene();
  await store.open();
  await until('ready', () => store.phase.value === 'ready');
  const socket = await live('event 9');
  expect(socket.sent[0]).toEqual({ type: 'hello', positions: { [ROOM]: 'event 9' } });
});

it('delivered is told after the messages are stored, together with the position', async () => {
  const { store, storage, live, held, answer } = scene();
  await store.open();
  const socket = await live();
  socket.says({ type: 'event', ...posted(1) });
  expect(held()?.messages).toHaveLength(1);
  expect(socket.sent.some(({ type }) => type === 'delivered')).toBe(false);
  await until('told', () => socket.sent.some(({ type }) => type === 'delivered'));
  const kept = await storage.load();
  expect(kept.conversations[0]?.messages).toHaveLength(1);
  expect(kept.positions.get(ROOM)).toBe('event 1');
  answer(socket);
  await until('known', () => held()?.mine.delivered === 1);
});

it('a device that was here before shows what it holds at once, and goes on from its position', async () => {
  const factory = new IDBFactory();
  const first = scene(factory);
  await first.store.open();
  (await first.live()).says({ type: 'event', ...posted(1) });
  await vi.waitFor(async () => expect((await first.storage.load()).positions.get(ROOM)).toBe('event 1'));
  first.store.connection.stop();

  status = 503;
  const second = scene(factory);
  await second.store.open();
  expect(second.store.phase.value).toBe('ready');
  expect(second.held()?.messages).toHaveLength(1);
  await until('a socket', () => second.sockets.length === 1);
  second.sockets[0]!.onopen?.();
  expect(second.sockets[0]!.sent[0]).toEqual({ type: 'hello', positions: { [ROOM]: 'event 1' } });
});

it('after a reset what was held is forgotten, and a fresh snapshot takes its place', async () => {
  const { store, live, held } = scene();
  await store.open();
  const socket = await live();
  for (const n of [1, 2, 3]) socket.says({ type: 'event', ...posted(n) });
  home.rooms = [room({ position: 'event 2', conversations: [summary(2, { last: message(2, 'restored') })] })];
  history = { messages: [message(1)], more: false };
  socket.says({ type: 'reset', room: ROOM, position: 'event 2', reason: 'unknown_position' });
  await until('restored', () => held()?.messages.at(-1)?.envelope?.text === 'restored');
  expect(held()).toMatchObject({ n: 2 });
  // A number that the lost history had too is new again.
  socket.says({ type: 'event', ...posted(3, { client_id: 'another' }) });
  expect(held()?.messages.at(-1)?.client_id).toBe('another');
});

it('events that come before the snapshot of their room are not lost by it', async () => {
  const { store, live, held } = scene();
  home.rooms = [];
  await store.open();
  await until('ready', () => store.phase.value === 'ready');
  home.rooms = [room({ position: 'event 1', conversations: [summary(1, { last: message(1) })] })];
  history = { messages: [message(1)], more: false };
  const socket = await live('event 1');
  socket.says({ type: 'event', ...posted(2) });
  await until('the room', () => store.rooms.value.length === 1);
  expect(held()?.messages.at(-1)?.n).toBe(2);
  await until('all of it', () => held()?.from === 1);
  expect(held()?.messages.map(({ n }) => n)).toEqual([1, 2]);
});

it('what is only known in summary is fetched before it is called delivered', async () => {
  home.rooms = [room({ position: 'event 3', conversations: [summary(3, { last: message(3), unread: 3 })] })];
  history = { messages: [message(2), message(1)], more: false };
  const { store, live, held } = scene();
  await store.open();
  const socket = await live('event 3');
  await until('told', () => socket.sent.some(({ type, n }) => type === 'delivered' && n === 3));
  expect(held()?.messages).toHaveLength(3);
  expect(asked.filter((url) => url.includes('before=3'))).toHaveLength(1);
});

it('what is missed is fetched while a screen fetches it, too, and neither keeps the other from its answer', async () => {
  home.rooms = [room({ position: 'event 3', conversations: [summary(3, { last: message(3), unread: 3 })] })];
  history = { messages: [message(2), message(1)], more: false };
  const { store, live, held } = scene();
  await store.open();
  await until('ready', () => store.phase.value === 'ready');
  let open = () => {};
  gate = new Promise((resolve) => (open = resolve));
  void store.older(CONVERSATION);
  await live('event 3');
  await until('the details', () => store.rooms.value[0]?.detailed === true);
  setTimeout(open);
  await until('all of it', () => held()?.messages.length === 3);
});

it('what is taken back while its page is on its way stays so, on the screen and on the device', async () => {
  home.rooms = [room({ position: 'event 3', conversations: [summary(3, { last: message(3), unread: 3 })] })];
  history = { messages: [message(2), message(1)], more: false };
  const { store, storage, live, held } = scene();
  await store.open();
  let open = () => {};
  gate = new Promise((resolve) => (open = resolve));
  const socket = await live('event 3');
  await until('the page on its way', () => asked.some((url) => url.includes('before=3')));
  socket.says({ type: 'event', ...changed(4, 'retracted', takenBack(2)) });
  open();
  await until('all of it', () => held()?.messages.length === 3);
  expect(held()!.messages.map(({ envelope }) => envelope !== undefined)).toEqual([true, false, true]);
  await vi.waitFor(async () => expect((await storage.load()).conversations[0]?.messages[1]).toEqual(takenBack(2)));
});

it('a page that brings nothing new ends the search for what was missed', async () => {
  home.rooms = [room({ position: 'event 3', conversations: [summary(3, { last: message(3), unread: 3 })] })];
  history = { messages: [message(3)], more: true };
  const { store, live } = scene();
  await store.open();
  await live('event 3');
  await until('the details', () => store.rooms.value[0]?.detailed === true);
  await store.refresh();
  expect(asked.filter((url) => url.includes('before=3')).length).toBeLessThanOrEqual(2);
});

it('many who join together are asked for once, when they are all there', async () => {
  const { store, live } = scene();
  await store.open();
  const socket = await live();
  await until('the details', () => store.rooms.value[0]?.detailed === true);
  await store.refresh();
  const times = () => asked.filter((url) => url.endsWith('/home')).length;
  const before = times();
  for (let n = 1; n <= 20; n++) {
    socket.says({ type: 'event', room: ROOM, id: `event ${n}`, at: '', kind: 'member_joined', person: `person ${n}`, role: 'guardian', student: 's' });
    await new Promise((resolve) => setTimeout(resolve));
  }
  expect(times()).toBe(before);
  await until('asked', () => times() > before);
  await store.refresh();
  expect(times()).toBeLessThanOrEqual(before + 2);
});

it('a server that can not answer is asked again ever later, and nothing is asked of it beside that', async () => {
  home.rooms = [room({ position: 'event 3', conversations: [
    summary(3, { last: message(3), unread: 3 }), summary(3, { conversation: 'another', last: message(3), unread: 3 }),
  ] })];
  history = { messages: [message(2), message(1)], more: false };
  const { store, live, held } = scene();
  await store.open();
  await until('ready', () => store.phase.value === 'ready');
  const timer = vi.spyOn(globalThis, 'setTimeout');
  vi.spyOn(Math, 'random').mockReturnValue(0.999);
  noPages = true;
  const pages = () => asked.filter((url) => url.includes('/messages')).length;
  const waits = () => timer.mock.calls.flatMap(([, wait]) => (wait && wait > 800 && wait < 10_000 ? Math.round(wait / 100) / 10 : []));
  await live('event 3');
  await until('asked', () => waits().length === 1);
  expect(pages(), 'the other conversation is not tried').toBe(1);
  await until('asked again', () => waits().length === 2);
  expect(pages()).toBe(2);
  expect(waits()[1]).toBeGreaterThan(waits()[0]!);
  noPages = false;
  details = Promise.resolve(200);
  await until('all of it', () => held()?.messages.length === 3);
});

it('reading moves the count at once, and is told to the server', async () => {
  const { store, live, held } = scene();
  await store.open();
  const socket = await live();
  socket.says({ type: 'event', ...posted(1) });
  store.read(CONVERSATION, 1);
  expect(held()?.read).toBe(1);
  await until('told', () => socket.sent.some(({ type, n }) => type === 'read' && n === 1));
});

it('what is written without a line is sent after the welcome', async () => {
  const { store, live } = scene();
  await store.open();
  await until('ready', () => store.phase.value === 'ready');
  const conversation = store.conversation(CONVERSATION, ROOM, { kind: 'private', guardian: ME, student: 's' });
  await store.act(conversation, {
    kind: 'post', to: { kind: 'private', guardian: ME, student: 's' }, draft: { language: 'es', text: 'hola', protected: [] }, urgent: false,
  });
  const socket = await live();
  await until('sent', () => socket.sent.some(({ type }) => type === 'post'));
  const post = socket.sent.find(({ type }) => type === 'post')!;
  socket.says({ type: 'ack', ref: post.ref, id: 'event 1', n: 1 });
  await until('acknowledged', () => store.outbox.pending.value[0]?.state === 'sent');
  socket.says({ type: 'event', ...posted(1, { author: ME, client_id: String(post['client_id']) }) });
  expect(store.outbox.pending.value).toHaveLength(0);
});

it('a sign-in that is over forgets all that is on the device', async () => {
  const forgetMore = vi.fn();
  const { store, storage, live } = scene(undefined, forgetMore);
  await store.open();
  const socket = await live();
  socket.says({ type: 'event', ...posted(1) });
  expect(forgetMore).not.toHaveBeenCalled();
  socket.onclose?.({ code: 4401 });
  expect(forgetMore, 'at once: the device may be slow, or hang').toHaveBeenCalledOnce();
  await until('signed out', () => store.phase.value === 'signed_out');
  expect(store.conversations.value.size).toBe(0);
  expect((await storage.load()).conversations).toEqual([]);
});

/** Somebody signs in, and out again before they were answered; `answer` gives the answer, a status, after that. */
async function leftUnanswered() {
  const all = scene();
  await all.store.open();
  const first = await all.live();
  await until('the details', () => all.store.rooms.value[0]?.detailed === true);
  let answer = (_: number) => {};
  details = new Promise((resolve) => (answer = resolve));
  const refreshed = all.store.refresh();
  await until('asked', () => asked.filter((url) => url.endsWith(ROOM)).length === 2);
  return { ...all, first, answered: (code: number) => (answer(code), refreshed) };
}

it('who signs in after somebody else in the same page gets all that is theirs, and nothing of the other', async () => {
  const { store, live, first, answered } = await leftUnanswered();
  first.says({ type: 'event', ...posted(1) });
  store.read(CONVERSATION, 1);
  first.says({ type: 'typing', room: ROOM, conversation: CONVERSATION, person: 'them' });
  expect(store.typing.value.size).toBe(1);
  await until('the mark under way', () => first.sent.some(({ type }) => type === 'read'));
  await store.signedOut();
  expect(store.typing.value.size).toBe(0);

  home.you = { person: 'ben', name: 'Ben', language: 'en' };
  details = Promise.resolve(200);
  await store.open();
  const second = await live();
  await until('their details', () => store.rooms.value[0]?.detailed === true);
  expect(second.sent.map(({ type }) => type)).toEqual(['hello']);
  await answered(200);
});

it('a refusal that was meant for whoever signed out does not sign out the next', async () => {
  const { store, live, answered } = await leftUnanswered();
  await store.signedOut();
  details = Promise.resolve(200);
  await store.open();
  await until('ready', () => store.phase.value === 'ready');
  await answered(401);
  await live();
  await until('their details', () => store.rooms.value[0]?.detailed === true);
  expect(store.phase.value).toBe('ready');
});

it('a first screen that comes after a sign-out is for nobody, and whoever came next gets their own', async () => {
  let answer = (_: Response) => {};
  const answers = vi.fn(fetch).mockImplementationOnce(() => new Promise((resolve) => (answer = resolve)));
  vi.stubGlobal('fetch', answers);
  const { store } = scene();
  await store.open();
  await until('asked', () => answers.mock.calls.length === 1);
  await store.signedOut();
  await store.open();
  answer(new Response(JSON.stringify({ code: 'unauthenticated', message: '', retryable: false }), { status: 401 }));
  await until('ready', () => store.phase.value === 'ready');
});

it('nobody is told that they are signed out before the server has said so', async () => {
  const { store, live } = scene();
  await store.open();
  await live();
  for (const [code, refused] of [['forbidden', 403], ['conflict', 409], ['invalid', 422]] as const) {
    status = refused;
    refusal = { code };
    await expect(store.signOut()).rejects.toMatchObject({ status });
    expect(store.phase.value).toBe('ready');
  }
  status = 200;
  await store.signOut();
  expect(store.phase.value).toBe('signed_out');
});

it('signing out of a sign-in that the server does not know any more is done with that', async () => {
  const { store, live } = scene();
  await store.open();
  await live();
  await until('the details', () => store.rooms.value[0]?.detailed === true);
  status = 401;
  await store.signOut();
  expect(store.phase.value).toBe('signed_out');
});

it('a device whose sign-in is over when it opens shows the way in, and does not try on', async () => {
  status = 401;
  const { store, sockets } = scene();
  await store.open();
  await until('signed out', () => store.phase.value === 'signed_out');
  expect(sockets).toHaveLength(0);
  expect(asked).toHaveLength(1);
});

it('a room that its person has left is forgotten', async () => {
  const { store, live } = scene();
  await store.open();
  const socket = await live();
  socket.says({ type: 'event', ...posted(1) });
  home.rooms = [];
  socket.says({ type: 'left', room: ROOM });
  expect(store.rooms.value).toHaveLength(0);
  expect(store.conversations.value.size).toBe(0);
});

it('a room that its person left while the first screen was on its way does not come back with it', async () => {
  const { store, live } = scene();
  await store.open();
  const socket = await live();
  await until('the details', () => store.rooms.value[0]?.detailed === true);
  await store.refresh();
  const shown: number[] = [];
  let answer = (_: Response) => {};
  const answers = vi.fn(fetch).mockImplementationOnce(() => new Promise((resolve) => (answer = resolve)));
  vi.stubGlobal('fetch', answers);
  const before = new Response(JSON.stringify(home));
  const refreshed = store.refresh();
  home.rooms = [];
  socket.says({ type: 'left', room: ROOM });
  const over = store.rooms.subscribe((rooms) => void shown.push(rooms.length));
  answer(before);
  await refreshed;
  over();
  expect(Math.max(...shown)).toBe(0);
  expect(answers.mock.calls.filter(([url]) => String(url).endsWith('/home')), 'asked anew').toHaveLength(2);
});

it('a guardian of whom something is heard has signed in, whatever was known before', async () => {
  const guardian = (person: string) => ({ person, name: person, language: 'es', reachable: false, conversation: `${person}'s` });
  families = [{ student: { person: 'maria', name: 'Maria' }, guardians: [guardian('ana'), guardian('rui'), guardian('eva')] }];
  home.rooms = [room({ role: 'staff' })];
  const { store, live } = scene();
  await store.open();
  const socket = await live();
  const reachable = () => store.rooms.value[0]?.families[0]?.guardians.filter((one) => one.reachable).map(({ person }) => person);
  await until('the families', () => store.rooms.value[0]?.detailed === true);
  expect(reachable()).toEqual([]);
  socket.says({ type: 'mark', room: ROOM, conversation: CONVERSATION, person: 'ana', delivered: 1, read: 0 });
  socket.says({ type: 'event', ...posted(1, { author: 'rui' }) });
  expect(reachable()).toEqual(['ana', 'rui']);
});

it('a class that was renamed is called so when somebody looks at the page again, and not asked for at each look', async () => {
  const { store, live } = scene();
  await store.open();
  await live();
  await until('the details', () => store.rooms.value[0]?.detailed === true);
  home.rooms = [room({ title: 'Class 5B' })];
  const times = () => asked.filter((url) => url.endsWith('/home')).length;
  const before = times();
  store.lookedAt();
  expect(times()).toBe(before);
  const now = performance.now();
  vi.spyOn(performance, 'now').mockReturnValue(now + 11 * 60_000);
  vi.spyOn(Date, 'now').mockReturnValue(0);
  store.lookedAt();
  await until('the new name', () => store.rooms.value[0]?.title === 'Class 5B');
  store.lookedAt();
  expect(times()).toBe(before + 1);
  vi.restoreAllMocks();
});

it('what a page left unsent that was closed is sent by the one that is still open', async () => {
  const factory = new IDBFactory();
  const [closed, open] = [scene(factory), scene(factory)];
  await closed.store.open();
  await open.store.open();
  const old = await open.live();
  const to = { kind: 'private', guardian: ME, student: 's' } as const;
  await closed.store.act(closed.store.conversation(CONVERSATION, ROOM, to), {
    kind: 'post', to, draft: { language: 'es', text: 'hola', protected: [] }, urgent: false,
  });
  closed.store.connection.stop();
  old.onclose?.({ code: 1006 });
  await until('another socket', () => open.sockets.length === 2);
  const socket = await open.live();
  await until('sent', () => socket.sent.some(({ type }) => type === 'post'));
});
