import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { EventId, You } from '../../src/protocol';
import { withEvent } from '../../src/store/conversation';
import { type Holdings, Keeper } from '../../src/store/keeper';
import type { Room } from '../../src/store/room';
import type { Changes, Storage } from '../../src/store/storage';
import { CONVERSATION, ME, ROOM, empty, posted } from './samples';

/** A keeper whose storage fails as often as the test says. */
function scene() {
  const held = { you: { person: ME, name: 'Ana', language: 'es' } as You, conversation: empty(), position: null as EventId | null };
  const saved: Changes[] = [];
  const told: number[] = [];
  const device = { failing: 0, tries: 0 };
  const storage = {
    save: async (changes: Changes) => {
      device.tries += 1;
      if (device.failing > 0) {
        device.failing -= 1;
        throw new DOMException('full', 'QuotaExceededError');
      }
      saved.push(changes);
    },
    clear: async () => undefined,
  };
  const keeper = new Keeper(storage as unknown as Storage, {
    you: () => held.you,
    rooms: () => [{ id: ROOM } as Room],
    conversation: (id) => (id === CONVERSATION ? held.conversation : undefined),
    position: () => held.position,
    stored: ({ n }) => void told.push(n),
  } satisfies Holdings);
  const hear = (n: number) => {
    held.conversation = withEvent(held.conversation, posted(n));
    held.position = `event ${n}`;
    keeper.conversation(CONVERSATION);
    keeper.position(ROOM);
    keeper.save();
  };
  return { held, keeper, saved, told, device, hear };
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

it('a position is never stored ahead of events that could not be stored before', async () => {
  const { keeper, saved, told, device, hear } = scene();
  device.failing = 1;
  keeper.you();
  keeper.room(ROOM);
  hear(1);
  await vi.advanceTimersByTimeAsync(0);
  expect(device.tries).toBe(1);
  expect(told).toEqual([]);
  // What comes next in the room is about something else.
  keeper.position(ROOM);
  keeper.save();
  await vi.advanceTimersByTimeAsync(5_000);
  expect(saved).toHaveLength(1);
  expect(saved[0]).toMatchObject({ you: { person: ME }, rooms: [{ id: ROOM }], conversations: [{ n: 1 }] });
  expect(saved[0]!.positions).toEqual(new Map([[ROOM, 'event 1']]));
  expect(told).toEqual([1]);
});

it('what could not be stored is tried again by itself, with growing pauses', async () => {
  const { saved, told, device, hear } = scene();
  device.failing = 1_000;
  hear(1);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(device.tries).toBeGreaterThan(3);
  expect(device.tries).toBeLessThan(10);
  // However much comes in meanwhile.
  const before = device.tries;
  for (let n = 2; n <= 50; n++) hear(n);
  await vi.advanceTimersByTimeAsync(100);
  expect(device.tries - before).toBeLessThanOrEqual(1);
  device.failing = 0;
  await vi.advanceTimersByTimeAsync(60_000);
  expect(saved).toHaveLength(1);
  expect(told).toEqual([50]);
});

it('what was forgotten is forgotten, however often that fails', async () => {
  const { keeper, saved, device } = scene();
  device.failing = 2;
  keeper.forgetConversation('gone');
  keeper.forgetRoom('gone too');
  keeper.save();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(saved.map(({ forget }) => forget)).toEqual([{ rooms: ['gone too'], conversations: ['gone'] }]);
});

it('what could not be stored of one person is not stored for the next', async () => {
  const { keeper, saved, device, hear } = scene();
  device.failing = 1;
  hear(1);
  await Promise.resolve();
  keeper.letGo();
  await vi.advanceTimersByTimeAsync(0);
  await keeper.clear();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(device.tries).toBe(1);
  expect(saved).toEqual([]);
});

it('signing out does not wait for a device that can’t store', async () => {
  const { keeper, device, hear } = scene();
  device.failing = 1_000;
  hear(1);
  await vi.advanceTimersByTimeAsync(500);
  keeper.letGo();
  const cleared = vi.fn();
  void keeper.clear().then(cleared);
  await vi.advanceTimersByTimeAsync(0);
  expect(cleared).toHaveBeenCalledOnce();
});
