import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type Answer, CommandRefused, LineLost, type Unsent } from '../../src/connection/connection';
import type { ErrorCode } from '../../src/protocol';
import { type Deed, Outbox, type Pending } from '../../src/store/outbox';
import { ROOM, until } from './samples';

interface Sent {
  command: Unsent;
  ack(n: number): void;
  refuse(code: ErrorCode, retryable: boolean): void;
  lose(): void;
}

/** An outbox with a line whose every answer the test decides. */
function scene(kept = new Map<string, Pending>(), now = () => 0) {
  const sent: Sent[] = [];
  let ids = kept.size;
  const device = {
    fails: false,
    heard: 0,
    works() {
      if (this.fails) throw new DOMException('full', 'QuotaExceededError');
    },
  };
  const outbox = new Outbox({
    send: (command) =>
      new Promise<Answer>((resolve, reject) => {
        sent.push({
          command,
          ack: (n) => resolve({ type: 'ack', ref: 1, id: `event ${n}`, n }),
          refuse: (code, retryable) =>
            reject(new CommandRefused({ type: 'error', ref: 1, code, message: `because ${code}`, retryable, retry_after_ms: 1 })),
          lose: () => reject(new LineLost()),
        });
      }),
    keep: async (pending) => (device.works(), void kept.set(pending.clientId, pending)),
    drop: async (clientId) => (device.works(), void kept.delete(clientId)),
    kept: async () => [...kept.values()],
    heard: () => device.heard,
    newId: () => `client ${(ids += 1)}`,
    now: () => new Date(now()),
  });
  return { outbox, sent, kept, device };
}

const post = (text: string): Deed => ({
  kind: 'post', to: { kind: 'announcements' }, draft: { language: 'en', text, protected: [] }, urgent: false,
});
const textsOf = (sent: Sent[]) => sent.map(({ command }) => ('draft' in command ? command.draft.text : command.type));
const idsOf = (sent: Sent[]) => sent.map(({ command }) => ('client_id' in command ? command.client_id : ''));

beforeEach(() => void vi.spyOn(console, 'error').mockImplementation(() => undefined));
afterEach(() => void vi.restoreAllMocks());

describe('the outbox', () => {
  it('keeps what is written offline, and sends it in order once there is a line', async () => {
    const { outbox, sent, kept } = scene();
    for (const text of ['one', 'two', 'three']) await outbox.add(ROOM, 'a', post(text));
    expect(sent).toHaveLength(0);
    expect(kept.size).toBe(3);
    outbox.online();
    for (const n of [1, 2, 3]) {
      await until(`${n} sent`, () => sent.length === n);
      sent[n - 1]!.ack(n);
    }
    await until('nothing kept', () => kept.size === 0);
    expect(textsOf(sent)).toEqual(['one', 'two', 'three']);
  });

  it('has one under way in a conversation, and does not let one conversation wait for another', async () => {
    const { outbox, sent } = scene();
    outbox.online();
    await outbox.add(ROOM, 'a', post('a1'));
    await outbox.add(ROOM, 'a', post('a2'));
    await outbox.add(ROOM, 'b', post('b1'));
    await until('two sent', () => sent.length === 2);
    expect(textsOf(sent)).toEqual(['a1', 'b1']);
  });

  it('sends again what was under way when the line was lost, first and with the same client id', async () => {
    const { outbox, sent } = scene();
    outbox.online();
    await outbox.add(ROOM, 'a', post('one'));
    await outbox.add(ROOM, 'a', post('two'));
    sent[0]!.lose();
    await until('idle', () => outbox.pending.value.every((item) => item.state === 'waiting'));
    outbox.offline();
    outbox.online();
    await until('sent again', () => sent.length === 2);
    sent[1]!.ack(1);
    await until('the next', () => sent.length === 3);
    expect(textsOf(sent)).toEqual(['one', 'one', 'two']);
    expect(idsOf(sent)[0]).toBe(idsOf(sent)[1]);
  });

  it('tries the refused one again before any later one, when the refusal is for now', async () => {
    const { outbox, sent } = scene();
    outbox.online();
    await outbox.add(ROOM, 'a', post('one'));
    await outbox.add(ROOM, 'a', post('two'));
    sent[0]!.refuse('unavailable', true);
    await until('tried again', () => sent.length === 2);
    expect(textsOf(sent)).toEqual(['one', 'one']);
    expect(idsOf(sent)[0]).toBe(idsOf(sent)[1]);
  });

  it('shows what was refused for good, goes on with the next, and can send it anew under another id', async () => {
    const { outbox, sent, kept } = scene();
    outbox.online();
    await outbox.add(ROOM, 'a', post('one'));
    await outbox.add(ROOM, 'a', post('two'));
    sent[0]!.refuse('conflict', false);
    await until('the next', () => sent.length === 2);
    expect(outbox.pending.value[0]).toMatchObject({ state: 'failed', reason: 'because conflict' });
    expect(kept.get('client 1')).toMatchObject({ state: 'failed' });
    sent[1]!.ack(1);
    await outbox.again('client 1');
    await until('sent anew', () => sent.length === 3);
    expect(idsOf(sent)[2]).not.toBe('client 1');
    expect(textsOf(sent)[2]).toBe('one');
  });

  it('takes up after a reload what an earlier visit left, before what is written now', async () => {
    const earlier = scene();
    await earlier.outbox.add(ROOM, 'a', post('before'));
    const { outbox, sent } = scene(earlier.kept);
    outbox.restore([...earlier.kept.values()]);
    await outbox.add(ROOM, 'a', post('after'));
    outbox.online();
    await until('the first', () => sent.length === 1);
    sent[0]!.ack(1);
    await until('the second', () => sent.length === 2);
    expect(textsOf(sent)).toEqual(['before', 'after']);
    expect(outbox.pending.value.map((item) => item.order)).toEqual([1, 2]);
  });

  it('shows what was acknowledged until its event has come', async () => {
    const { outbox, sent } = scene();
    outbox.online();
    await outbox.add(ROOM, 'a', post('one'));
    sent[0]!.ack(4);
    await until('acknowledged', () => outbox.pending.value[0]?.state === 'sent');
    outbox.seen('a', 3);
    expect(outbox.pending.value).toHaveLength(1);
    outbox.seen('a', 4);
    expect(outbox.pending.value).toHaveLength(0);
  });

  it('goes on with a conversation when the device can’t note what was refused in it', async () => {
    const { outbox, sent, device } = scene();
    outbox.online();
    await outbox.add(ROOM, 'a', post('one'));
    await outbox.add(ROOM, 'a', post('two'));
    device.fails = true;
    sent[0]!.refuse('forbidden', false);
    await until('the next', () => sent.length === 2);
    expect(outbox.pending.value[0]).toMatchObject({ state: 'failed', reason: 'because forbidden' });
  });

  it('keeps a text that is tried again in the same turn in which it drops the old one, and loses it by no failure', async () => {
    const { outbox, sent, kept, device } = scene();
    outbox.online();
    await outbox.add(ROOM, 'a', post('precious'));
    sent[0]!.refuse('forbidden', false);
    await until('failed', () => kept.get('client 1')?.state === 'failed');
    outbox.offline();
    const again = outbox.again('client 1');
    // Should the page be closed now, it is on the device.
    expect([...kept.keys()]).toEqual(['client 2']);
    await again;
    outbox.online();
    sent[1]!.refuse('forbidden', false);
    await until('failed again', () => kept.get('client 2')?.state === 'failed');
    device.fails = true;
    await outbox.again('client 2');
    expect(outbox.pending.value.map(({ clientId, state }) => [clientId, state])).toEqual([['client 3', 'waiting']]);
    expect([...kept.keys()]).toEqual(['client 2']);
    expect(textsOf(sent)).toEqual(['precious', 'precious', 'precious']);
  });

  it('gives up a refused one on the screen also where the device can’t', async () => {
    const { outbox, sent, kept, device } = scene();
    outbox.online();
    await outbox.add(ROOM, 'a', post('one'));
    sent[0]!.refuse('forbidden', false);
    await until('failed', () => kept.get('client 1')?.state === 'failed');
    device.fails = true;
    await outbox.discard('client 1');
    expect(outbox.pending.value).toEqual([]);
  });

  it('sends what another page left that was closed, once', async () => {
    const closed = scene();
    await closed.outbox.add(ROOM, 'a', post('left behind'));
    const { outbox, sent, kept } = scene(new Map(closed.kept));
    outbox.online();
    await until('the first', () => sent.length === 1);
    expect(outbox.pending.value).toHaveLength(1);
    outbox.offline();
    outbox.online();
    await Promise.resolve();
    expect(outbox.pending.value).toHaveLength(1);
    sent[0]!.ack(1);
    await until('nothing kept', () => kept.size === 0);
    expect(idsOf(sent)).toEqual(['client 1']);
  });

  it('tries what was refused for now before what is taken up, however early that was written: the server waits for it', async () => {
    const closed = scene();
    await closed.outbox.add(ROOM, 'a', post('left behind'));
    const { outbox, sent } = scene(closed.kept, () => 5_000);
    await outbox.add(ROOM, 'a', post('own'));
    outbox.online();
    await until('taken up', () => outbox.pending.value.length === 2);
    sent[0]!.refuse('unavailable', true);
    await until('tried again', () => sent.length === 2);
    sent[1]!.ack(1);
    await until('the other', () => sent.length === 3);
    expect(textsOf(sent)).toEqual(['own', 'own', 'left behind']);
  });

  it('takes up neither what it has done with, should the device still have it, nor what was refused', async () => {
    const { outbox, sent, kept, device } = scene();
    outbox.online();
    for (const text of ['one', 'two']) await outbox.add(ROOM, 'a', post(text));
    device.fails = true;
    sent[0]!.ack(1);
    await until('the second', () => sent.length === 2);
    sent[1]!.refuse('forbidden', false);
    await until('refused', () => outbox.pending.value.some(({ state }) => state === 'failed'));
    await outbox.discard('client 2');
    outbox.seen('a', 1);
    kept.set('client 9', { ...kept.get('client 2')!, clientId: 'client 9', state: 'failed' });
    outbox.offline();
    outbox.online();
    await outbox.add(ROOM, 'a', post('three'));
    await until('the third', () => sent.length === 3);
    expect(outbox.pending.value.map(({ clientId }) => clientId)).toEqual(['client 3']);
  });

  it('takes up nothing more once the line is lost again: somebody may have signed out', async () => {
    const closed = scene();
    await closed.outbox.add(ROOM, 'a', post('left behind'));
    const { outbox } = scene(closed.kept);
    outbox.online();
    outbox.offline();
    await new Promise((resolve) => setTimeout(resolve));
    expect(outbox.pending.value).toEqual([]);
  });

  it('keeps one order over all pages, by when something was written, and rising', async () => {
    let now = 5_000;
    const { outbox } = scene(undefined, () => now);
    for (const at of [5_000, 5_000, 4_000, 9_000]) {
      now = at;
      await outbox.add(ROOM, 'a', post('x'));
    }
    expect(outbox.pending.value.map(({ order }) => order)).toEqual([5_000, 5_001, 5_002, 9_000]);
  });

  it('shows a change no longer that was acknowledged after its event had come', async () => {
    const { outbox, sent, device } = scene();
    outbox.online();
    await outbox.add(ROOM, 'a', post('one'));
    device.heard = 4;
    sent[0]!.ack(4);
    await until('nothing shown', () => outbox.pending.value.length === 0);
  });
});
