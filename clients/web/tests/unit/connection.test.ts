import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { backoff, mayReturn } from '../../src/connection/backoff';
import { CommandRefused, Connection, LineLost, Stop } from '../../src/connection/connection';
import type { ServerFrame } from '../../src/protocol';
import { FakeSocket, welcome } from './socket';

const typing = { type: 'typing', room: 'r', to: { kind: 'announcements' } } as const;

function scene(prepare = async (): Promise<Record<string, string | null>> => ({ room: 'position' }), heard = () => undefined as void) {
  const sockets: FakeSocket[] = [];
  const frames: ServerFrame[] = [];
  const signedOut = vi.fn();
  const connection = new Connection(
    { prepare, frame: (frame) => (frames.push(frame), heard()), signedOut },
    {
      open: () => {
        const socket = new FakeSocket();
        sockets.push(socket);
        return socket as unknown as WebSocket;
      },
      random: () => 1,
    },
  );
  const opened = async () => {
    await vi.advanceTimersByTimeAsync(0);
    const socket = sockets.at(-1)!;
    socket.onopen?.();
    return socket;
  };
  const live = async () => {
    const socket = await opened();
    socket.says(welcome);
    return socket;
  };
  return { connection, sockets, frames, signedOut, opened, live };
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe('backoff', () => {
  it('doubles up to its longest step, and jitters over all of it', () => {
    expect([0, 1, 2, 3].map((attempt) => backoff(attempt, () => 1))).toEqual([500, 1000, 2000, 4000]);
    expect(backoff(50, () => 1)).toBe(10_000);
    expect(backoff(9, () => 0)).toBe(0);
  });

  it('is for all close codes but 44xx', () => {
    expect([1000, 1006, 1012, 4399, 4500, 4504].every(mayReturn)).toBe(true);
    expect([4400, 4401, 4499].some(mayReturn)).toBe(false);
  });
});

describe('the connection', () => {
  it('says hello with its positions, and is live after the welcome', async () => {
    const { connection, opened, frames } = scene();
    connection.start();
    const socket = await opened();
    expect(socket.sent).toEqual([{ type: 'hello', positions: { room: 'position' } }]);
    expect(connection.line.value).toBe('connecting');
    socket.says(welcome);
    expect(connection.line.value).toBe('live');
    expect(frames.map(({ type }) => type)).toEqual(['welcome']);
  });

  it('matches answers to commands by ref', async () => {
    const { connection, live } = scene();
    connection.start();
    const socket = await live();
    const first = connection.send(typing);
    const second = connection.send(typing);
    socket.says({ type: 'error', ref: 1, code: 'forbidden', message: 'no', retryable: false });
    socket.says({ type: 'ack', ref: 2, n: 7 });
    await expect(first).rejects.toBeInstanceOf(CommandRefused);
    expect(await second).toMatchObject({ n: 7 });
  });

  it('comes back with growing waits, and with the positions of then', async () => {
    let position = 'a';
    const { connection, sockets, live } = scene(async () => ({ room: position }));
    connection.start();
    (await live()).onclose?.({ code: 1006 });
    position = 'b';
    expect(connection.line.value).toBe('away');
    await vi.advanceTimersByTimeAsync(499);
    expect(sockets).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(1);
    expect(sockets).toHaveLength(2);
    sockets[1]!.onclose?.({ code: 1006 });
    await vi.advanceTimersByTimeAsync(999);
    expect(sockets).toHaveLength(2);
    await vi.advanceTimersByTimeAsync(1);
    expect(sockets).toHaveLength(3);
    sockets[2]!.onopen?.();
    expect(sockets[2]!.sent[0]).toMatchObject({ positions: { room: 'b' } });
  });

  it('begins its waits anew only after a session that lasted', async () => {
    const { connection, sockets, live } = scene();
    connection.start();
    (await live()).onclose?.({ code: 4500 });
    await vi.advanceTimersByTimeAsync(500);
    const socket = await live();
    await vi.advanceTimersByTimeAsync(6_000);
    socket.onclose?.({ code: 4500 });
    await vi.advanceTimersByTimeAsync(500);
    expect(sockets).toHaveLength(3);
  });

  it('comes back when the server said, after bye', async () => {
    const { connection, sockets, live } = scene();
    connection.start();
    const socket = await live();
    socket.says({ type: 'bye', reason: 'draining', reconnect_after_ms: 7_000 });
    socket.onclose?.({ code: 1012 });
    await vi.advanceTimersByTimeAsync(6_999);
    expect(sockets).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(1);
    expect(sockets).toHaveLength(2);
  });

  it.each([
    ['a close code 44xx', (socket: FakeSocket) => socket.onclose?.({ code: 4401 })],
    ['a bye because of signing out', (socket: FakeSocket) => socket.says({ type: 'bye', reason: 'signed_out', reconnect_after_ms: 0 })],
  ])('does not come back after %s', async (_, end) => {
    const { connection, sockets, live, signedOut } = scene();
    connection.start();
    end(await live());
    await vi.advanceTimersByTimeAsync(60_000);
    expect(signedOut).toHaveBeenCalledOnce();
    expect(connection.line.value).toBe('stopped');
    expect(sockets).toHaveLength(1);
  });

  it('does not come back when preparing says that there is no use', async () => {
    const { connection, sockets, signedOut } = scene(async () => {
      throw new Stop();
    });
    connection.start();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(sockets).toHaveLength(0);
    expect(signedOut).toHaveBeenCalledOnce();
  });

  it('rejects what was under way when the line is lost, and what is sent without one', async () => {
    const { connection, live } = scene();
    connection.start();
    const socket = await live();
    const sent = connection.send(typing);
    socket.onclose?.({ code: 1006 });
    await expect(sent).rejects.toBeInstanceOf(LineLost);
    await expect(connection.send(typing)).rejects.toBeInstanceOf(LineLost);
  });

  it('takes a line for dead that does not answer a command, or never welcomes', async () => {
    const { connection, sockets, live, opened } = scene();
    connection.start();
    const socket = await live();
    const sent = expect(connection.send(typing)).rejects.toBeInstanceOf(LineLost);
    await vi.advanceTimersByTimeAsync(10_500);
    await sent;
    expect(socket.closed).toBe(true);
    await opened();
    expect(sockets).toHaveLength(2);
    await vi.advanceTimersByTimeAsync(20_500);
    expect(sockets[1]!.closed).toBe(true);
  });

  it('ignores what a line says that it has given up', async () => {
    const { connection, live, frames } = scene();
    connection.start();
    const old = await live();
    connection.lost();
    await vi.advanceTimersByTimeAsync(500);
    await live();
    const before = frames.length;
    old.says({ type: 'caught_up', room: 'r' });
    old.onclose?.({ code: 4401 });
    expect(frames).toHaveLength(before);
    expect(connection.line.value).toBe('live');
  });

  it('starts over when a frame can’t be read, and survives one of an unknown type', async () => {
    const { connection, live } = scene();
    const quiet = vi.spyOn(console, 'error').mockImplementation(() => undefined);
    connection.start();
    const socket = await live();
    socket.says({ type: 'fireworks' });
    expect(connection.line.value).toBe('live');
    socket.says({ type: 'caught_up' });
    expect(connection.line.value).toBe('away');
    quiet.mockRestore();
  });

  it('has one socket at a time, however often it is hurried or started while one is connecting', async () => {
    const { connection, sockets, live } = scene();
    connection.start();
    (await live()).onclose?.({ code: 1006 });
    connection.hurry();
    await vi.advanceTimersByTimeAsync(0);
    expect(sockets).toHaveLength(2);
    connection.hurry();
    await vi.advanceTimersByTimeAsync(0);
    connection.start();
    await vi.advanceTimersByTimeAsync(0);
    expect(sockets.slice(1).filter(({ closed }) => !closed)).toHaveLength(1);
    await live();
    connection.start();
    await vi.advanceTimersByTimeAsync(0);
    expect(sockets.slice(1).filter(({ closed }) => !closed)).toHaveLength(1);
    expect(connection.line.value).toBe('live');
  });

  it('says nothing over a socket that was given up before it was open', async () => {
    const { connection, sockets } = scene();
    connection.start();
    await vi.advanceTimersByTimeAsync(0);
    connection.lost();
    sockets[0]!.onopen?.();
    expect(sockets[0]!.sent).toEqual([]);
  });

  it('a try from before it was stopped neither goes on nor ends what was started since', async () => {
    const tries: { resolve(positions: Record<string, string>): void; reject(error: Error): void }[] = [];
    const { connection, sockets, signedOut } = scene(() => new Promise((resolve, reject) => void tries.push({ resolve, reject })));
    connection.start();
    connection.stop();
    connection.start();
    expect(tries).toHaveLength(2);
    tries[0]!.reject(new Stop());
    await vi.advanceTimersByTimeAsync(0);
    expect(signedOut).not.toHaveBeenCalled();
    tries[1]!.resolve({ room: 'later' });
    await vi.advanceTimersByTimeAsync(0);
    sockets[0]!.onopen?.();
    expect(sockets[0]!.sent).toEqual([{ type: 'hello', positions: { room: 'later' } }]);
  });

  it('stays stopped when it is stopped because of what the welcome says', async () => {
    const { connection, live } = scene(undefined, () => connection.stop());
    connection.start();
    await live();
    expect(connection.line.value).toBe('stopped');
  });

  it('hurries when asked to, once', async () => {
    const { connection, sockets, live } = scene();
    connection.start();
    (await live()).onclose?.({ code: 1006 });
    connection.hurry();
    connection.hurry();
    await vi.advanceTimersByTimeAsync(0);
    expect(sockets).toHaveLength(2);
    await vi.advanceTimersByTimeAsync(5_000);
    expect(sockets).toHaveLength(2);
  });
});
