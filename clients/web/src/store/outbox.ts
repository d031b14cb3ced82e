/**
 * What is still to be sent: posts, edits and retractions, kept on the device until the server acknowledged them.
 *
 * Owns: that each is sent until it is acknowledged or refused, in the order of writing within a conversation, one at a
 * time, and with a client id that makes sending twice harmless. Refuses to know: sockets (it is given a way to send) and
 * the screen.
 */
import { signal } from '@preact/signals';
import type { Address, ConversationId, Draft, EventId, RoomId } from '../protocol';
import { CommandRefused, type Answer, type Unsent } from '../connection/connection';

/** What is to be done. */
export type Deed =
  | { kind: 'post'; to: Address; draft: Draft; urgent: boolean }
  | { kind: 'edit'; message: EventId; draft: Draft }
  | { kind: 'retract'; message: EventId };

/** Something to be sent. */
export interface Pending {
  readonly clientId: string;
  /** Rises with each; what is stored comes back in this order. */
  readonly order: number;
  /** When it was written. */
  readonly at: string;
  readonly room: RoomId;
  readonly conversation: ConversationId;
  readonly deed: Deed;
  /** `waiting` to be sent, or under way; `sent`: acknowledged, its event is still to come; `failed`: refused for good. */
  readonly state: 'waiting' | 'sent' | 'failed';
  /** Why it failed, in words for people. */
  readonly reason?: string;
  /** Its number, once acknowledged. */
  readonly n?: number;
}

/** What the outbox needs. */
export interface Post {
  /** Sends a command; rejects with `CommandRefused`, or anything else for 'not known'. */
  send(command: Unsent): Promise<Answer>;
  /** What is kept and dropped in one turn is on the device together, or not at all. */
  keep(pending: Pending): Promise<void>;
  drop(clientId: string): Promise<void>;
  /** What is on the device now, whichever page kept it. */
  kept(): Promise<readonly Pending[]>;
  /** How far the conversation's events have come. */
  heard(conversation: ConversationId): number;
  newId(): string;
  now(): Date;
}

/** A retryable refusal that names no time. */
const PAUSE_MS = 1_000;

export class Outbox {
  readonly pending = signal<readonly Pending[]>([]);
  #busy = new Set<ConversationId>();
  #online = false;
  #order = 0;
  /** Acknowledged or given up here; should the device not know yet, or never learn it, they are not taken up again. */
  readonly #done = new Set<string>();
  /** Refused for now in this session: until they come again the server lets nothing pass them, what was written earlier neither. */
  readonly #first = new Set<string>();

  constructor(readonly post: Post) {}

  /** Takes up what an earlier visit or another page left unsent. */
  restore(pending: readonly Pending[]): void {
    this.pending.value = [...pending, ...this.pending.value].sort((a, b) => a.order - b.order);
    this.#order = Math.max(this.#order, ...pending.map((item) => item.order));
  }

  /** Queues a deed. It is on its way as soon as there is a line, and on the device when this resolves. */
  async add(room: RoomId, conversation: ConversationId, deed: Deed): Promise<void> {
    const now = this.post.now();
    // By the clock, which all pages share; they do not know each other's numbers.
    this.#order = Math.max(this.#order + 1, now.getTime());
    const item: Pending = {
      clientId: this.post.newId(), order: this.#order, at: now.toISOString(),
      room, conversation, deed, state: 'waiting',
    };
    this.pending.value = [...this.pending.value, item];
    // Stored before it may be dropped: the storage keeps the order of what is asked of it.
    const kept = noted(this.post.keep(item));
    this.#pump(conversation);
    await kept;
  }

  /** Tries a refused one again, as a new one at the end: its place in the order is taken by what came after it. */
  async again(clientId: string): Promise<void> {
    const item = this.pending.value.find((one) => one.clientId === clientId);
    if (item?.state !== 'failed') return;
    // In one turn, so that the device has the one or the other, whatever happens meanwhile.
    await Promise.all([this.add(item.room, item.conversation, item.deed), this.discard(clientId)]);
  }

  /** Gives up a refused one. */
  async discard(clientId: string): Promise<void> {
    this.#done.add(clientId);
    this.pending.value = this.pending.value.filter((one) => one.clientId !== clientId);
    await noted(this.post.drop(clientId));
  }

  /** There is a line: send what waits, here or left by a page that was closed. */
  online(): void {
    this.#online = true;
    this.#first.clear();
    this.#pumpAll();
    void this.#takeUp();
  }

  /** The line is lost. */
  offline(): void {
    this.#online = false;
  }

  /** The conversation's events have come up to `n`: what was acknowledged up to there need not be shown from here. */
  seen(conversation: ConversationId, n: number): void {
    const gone = (item: Pending) => item.state === 'sent' && item.conversation === conversation && (item.n ?? 0) <= n;
    if (this.pending.value.some(gone)) this.pending.value = this.pending.value.filter((item) => !gone(item));
  }

  /** Should the page that wrote it still be there, both send it: under one client id, which makes that harmless. */
  async #takeUp(): Promise<void> {
    const kept = await this.post.kept().catch((error: unknown) => (console.error('the outbox is not read', error), []));
    // Whoever has signed out meanwhile sends nothing more.
    if (!this.#online) return;
    const known = new Set([...this.#done, ...this.pending.value.map(({ clientId }) => clientId)]);
    const left = kept.filter(({ clientId, state }) => state === 'waiting' && !known.has(clientId));
    if (left.length === 0) return;
    this.restore(left);
    this.#pumpAll();
  }

  #pumpAll(): void {
    for (const conversation of new Set(this.pending.value.map((item) => item.conversation))) this.#pump(conversation);
  }

  #pump(conversation: ConversationId): void {
    if (!this.#online || this.#busy.has(conversation)) return;
    const waiting = this.pending.value.filter((one) => one.conversation === conversation && one.state === 'waiting');
    const item = waiting.find(({ clientId }) => this.#first.has(clientId)) ?? waiting[0];
    if (!item) return;
    this.#busy.add(conversation);
    void this.#deliver(item).then((pause) => {
      this.#busy.delete(conversation);
      if (pause === 0) this.#pump(conversation);
      else setTimeout(() => this.#pump(conversation), pause);
    });
  }

  /** Sends one, and says how long to wait before the next try. */
  async #deliver(item: Pending): Promise<number> {
    try {
      const answer = await this.post.send(command(item));
      this.#done.add(item.clientId);
      this.#change(item.clientId, { state: 'sent', ...(answer.type === 'ack' && answer.n ? { n: answer.n } : {}) });
      // Its event may have come before the acknowledgement.
      this.seen(item.conversation, this.post.heard(item.conversation));
      // Not waited for: should it fail, the same client id is sent again, and harmless.
      void noted(this.post.drop(item.clientId));
      return 0;
    } catch (error) {
      if (!(error instanceof CommandRefused)) {
        // Whether it was done is not known; `online` sends it again, with the same client id.
        this.offline();
        return 0;
      }
      if (error.fault.retryable) {
        this.#first.add(item.clientId);
        return error.fault.retry_after_ms ?? PAUSE_MS;
      }
      this.#change(item.clientId, { state: 'failed', reason: error.fault.message });
      const failed = this.pending.value.find((one) => one.clientId === item.clientId);
      // Not waited for either: what was written after it must not wait for the device.
      if (failed) void noted(this.post.keep(failed));
      return 0;
    }
  }

  #change(clientId: string, change: Partial<Pending>): void {
    this.pending.value = this.pending.value.map((item) => (item.clientId === clientId ? { ...item, ...change } : item));
  }
}

/** What the device can't note is done from memory, and holds nothing up. */
function noted(work: Promise<void>): Promise<void> {
  return work.catch((error: unknown) => console.error('the outbox is not kept', error));
}

function command({ room, clientId, deed }: Pending): Unsent {
  switch (deed.kind) {
    case 'post':
      return { type: 'post', room, client_id: clientId, to: deed.to, draft: deed.draft, urgent: deed.urgent };
    case 'edit':
      return { type: 'edit', room, client_id: clientId, message: deed.message, draft: deed.draft };
    case 'retract':
      return { type: 'retract', room, client_id: clientId, message: deed.message };
  }
}
