import 'fake-indexeddb/auto';
import { IDBFactory } from 'fake-indexeddb';
import { describe, expect, it, vi } from 'vitest';
import { withEvent } from '../../src/store/conversation';
import { type Changes, Storage } from '../../src/store/storage';
import type { Pending } from '../../src/store/outbox';
import type { Room } from '../../src/store/room';
import { CONVERSATION, ROOM, changed, empty, message, posted } from './samples';

const changes = (more: Partial<Changes>): Changes => ({
  rooms: [], conversations: [], positions: new Map(), forget: { rooms: [], conversations: [] }, ...more,
});
const upTo = (n: number, from = 1) =>
  Array.from({ length: n - from + 1 }, (_, i) => posted(from + i)).reduce(withEvent, empty());

describe('storage', () => {
  it('gives back what was stored, with positions of rooms in which nothing happened yet', async () => {
    const factory = new IDBFactory();
    const storage = new Storage('t', factory);
    const you = { person: 'p', name: 'Ana', language: 'es' };
    await storage.save(changes({ you, conversations: [upTo(3)], positions: new Map([[ROOM, 'event 3'], ['quiet', null]]) }));
    const kept = await new Storage('t', factory).load();
    expect(kept.you).toEqual(you);
    expect(kept.conversations).toEqual([upTo(3)]);
    expect(kept.positions).toEqual(new Map([[ROOM, 'event 3'], ['quiet', null]]));
  });

  it('joins what two pages stored, whichever came last', async () => {
    const storage = new Storage('t', new IDBFactory());
    await storage.save(changes({ conversations: [upTo(5)] }));
    await storage.save(changes({ conversations: [upTo(4)] }));
    const [conversation] = (await storage.load()).conversations;
    expect(conversation).toMatchObject({ n: 5, from: 1 });
    expect(conversation!.messages).toHaveLength(5);
  });

  it('keeps the newer of two stretches that do not touch', async () => {
    const storage = new Storage('t', new IDBFactory());
    await storage.save(changes({ conversations: [upTo(3)] }));
    await storage.save(changes({ conversations: [upTo(12, 10)] }));
    expect((await storage.load()).conversations[0]).toMatchObject({ n: 12, from: 10 });
  });

  it('keeps the newest messages of a long conversation, and knows that there are more', async () => {
    const storage = new Storage('t', new IDBFactory());
    await storage.save(changes({ conversations: [upTo(260)] }));
    const [conversation] = (await storage.load()).conversations;
    expect(conversation).toMatchObject({ n: 260, from: 61, more: true });
    expect(conversation!.messages).toHaveLength(200);
  });

  it('keeps what is to be sent in the order of writing, until it is dropped', async () => {
    const storage = new Storage('t', new IDBFactory());
    const pending = (clientId: string, order: number): Pending => ({
      clientId, order, at: '', room: ROOM, conversation: CONVERSATION, state: 'waiting', deed: { kind: 'retract', message: 'm' },
    });
    await storage.keepPending(pending('a', 2));
    await storage.keepPending(pending('b', 1));
    expect((await storage.load()).pending.map((item) => item.clientId)).toEqual(['b', 'a']);
    await storage.dropPending('b');
    expect((await storage.load()).pending).toHaveLength(1);
  });

  it('writes what has changed since it was stored last: what is new, and what was edited', async () => {
    const factory = new IDBFactory();
    const storage = new Storage('t', factory);
    const held = upTo(3);
    await storage.save(changes({ conversations: [held] }));
    const put = vi.spyOn(IDBObjectStore.prototype, 'put');
    const edited = withEvent(held, changed(4, 'edited', message(2, 'better', { edited_at: '2026-11-24T11:00:00.000Z' })));
    const longer = withEvent(edited, posted(5));
    await storage.save(changes({ conversations: [longer] }));
    expect(put.mock.calls.map(([, key]) => key)).toEqual([[CONVERSATION, 2], [CONVERSATION, 5], CONVERSATION]);
    put.mockRestore();
    expect((await new Storage('t', factory).load()).conversations).toEqual([longer]);
  });

  it('takes over what an earlier version stored', async () => {
    const factory = new IDBFactory();
    await new Promise<void>((resolve) => {
      const request = factory.open('t', 1);
      request.onupgradeneeded = () => {
        for (const store of ['people', 'rooms', 'conversations', 'positions', 'outbox']) request.result.createObjectStore(store);
        request.transaction!.objectStore('conversations').put(upTo(3), CONVERSATION);
      };
      request.onsuccess = () => (request.result.close(), resolve());
    });
    expect((await new Storage('t', factory).load()).conversations).toEqual([upTo(3)]);
  });

  it('forgets a room with all in it, and everything when somebody signs out', async () => {
    const storage = new Storage('t', new IDBFactory());
    await storage.save(changes({ conversations: [upTo(2)], positions: new Map([[ROOM, 'event 2']]) }));
    await storage.save(changes({ forget: { rooms: [ROOM], conversations: [CONVERSATION] } }));
    expect(await storage.load()).toMatchObject({ conversations: [], positions: new Map() });
    await storage.save(changes({ conversations: [upTo(2)] }));
    await storage.clear();
    expect((await storage.load()).conversations).toEqual([]);
  });

  it('holds a room that was left and joined again before it could be stored', async () => {
    const storage = new Storage('t', new IDBFactory());
    const room = { id: ROOM } as Room;
    await storage.save(changes({ rooms: [room], positions: new Map([[ROOM, 'event 2']]), forget: { rooms: [ROOM], conversations: [] } }));
    expect(await storage.load()).toMatchObject({ rooms: [room], positions: new Map([[ROOM, 'event 2']]) });
  });

  it('writes what is asked of the outbox in one turn at once, all or nothing', async () => {
    const storage = new Storage('t', new IDBFactory());
    const pending = (clientId: string): Pending => ({
      clientId, order: 1, at: '', room: ROOM, conversation: CONVERSATION, state: 'waiting', deed: { kind: 'retract', message: 'm' },
    });
    await storage.keepPending(pending('old'));
    const begun = vi.spyOn(IDBDatabase.prototype, 'transaction');
    await Promise.all([storage.keepPending(pending('new')), storage.dropPending('old')]);
    expect(begun).toHaveBeenCalledTimes(1);
    begun.mockRestore();
    expect((await storage.load()).pending.map((item) => item.clientId)).toEqual(['new']);
  });

  it('works from memory where the device does not answer, and leaves nothing there for whoever comes next', async () => {
    vi.useFakeTimers();
    const request = { result: { close: vi.fn() } } as unknown as IDBOpenDBRequest;
    const deleteDatabase = vi.fn();
    const storage = new Storage('t', { open: () => request, deleteDatabase } as unknown as IDBFactory);
    const kept = vi.fn();
    void storage.load().then(kept);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(kept).toHaveBeenCalledWith(expect.objectContaining({ conversations: [] }));
    // An answer that comes after all is of no use any more.
    request.onsuccess?.call(request, new Event('success'));
    expect(request.result.close).toHaveBeenCalledOnce();
    await storage.clear();
    expect(deleteDatabase).toHaveBeenCalledWith('t');
    vi.useRealTimers();
  });

  it('works from memory where there is none', async () => {
    const none = new Storage('t', { open: () => { throw new Error('not allowed'); } } as unknown as IDBFactory);
    await none.save(changes({ conversations: [upTo(1)] }));
    expect((await none.load()).conversations).toEqual([]);
    vi.restoreAllMocks();
  });
});
