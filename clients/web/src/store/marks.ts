/**
 * Tells the server how far this device has stored, and its person has read, each conversation.
 *
 * Owns: that marks are told one at a time, slowly enough for the server's limit, newest only, until acknowledged.
 * Refuses to know: what was read (the conversation on the screen says so) and what was stored (the storage does).
 */
import type { ConversationId, RoomId } from '../protocol';
import { CommandRefused, type Answer, type Unsent } from '../connection/connection';

/** Room is left for posts in the 20 commands a second that a session may send. */
const BETWEEN_MS = 80;
/** One that has just been told is told again after this at the soonest: what comes meanwhile is told together. */
const AGAIN_MS = 400;

type Kind = 'delivered' | 'read';
interface Mark {
  kind: Kind;
  room: RoomId;
  conversation: ConversationId;
  n: number;
}

export class Marks {
  #due = new Map<string, Mark>();
  /** When each was told last, by a clock that nobody sets. */
  #lastTold = new Map<string, number>();
  #running = false;
  #online = false;

  constructor(
    readonly send: (command: Unsent) => Promise<Answer>,
    readonly told: (kind: Kind, conversation: ConversationId, n: number) => void,
  ) {}

  /** Notes a mark to be told. Only the furthest of each kind and conversation is. */
  note(kind: Kind, room: RoomId, conversation: ConversationId, n: number): void {
    const key = `${kind} ${conversation}`;
    const due = this.#due.get(key);
    if (due && due.n >= n) return;
    this.#due.set(key, { kind, room, conversation, n });
    void this.#run();
  }

  online(): void {
    this.#online = true;
    void this.#run();
  }

  offline(): void {
    this.#online = false;
  }

  /** Somebody signed out: what they read and stored is not for the next one to tell. */
  clear(): void {
    this.#due = new Map();
    this.#lastTold = new Map();
  }

  async #run(): Promise<void> {
    if (this.#running) return;
    this.#running = true;
    while (this.#online) {
      if (this.#due.size === 0) break;
      const rested = [...this.#due].filter(([key]) => performance.now() - (this.#lastTold.get(key) ?? -AGAIN_MS) >= AGAIN_MS);
      // What was read matters more to the other side than what was stored.
      const next = rested.find(([, mark]) => mark.kind === 'read') ?? rested[0];
      if (!next) {
        await new Promise((resolve) => setTimeout(resolve, BETWEEN_MS));
        continue;
      }
      const [key, mark] = next;
      const due = this.#due;
      let pause = BETWEEN_MS;
      try {
        await this.send({ type: mark.kind, room: mark.room, conversation: mark.conversation, n: mark.n });
        // Told for somebody who is not there any more.
        if (due !== this.#due) continue;
        this.#lastTold.set(key, performance.now());
        this.told(mark.kind, mark.conversation, mark.n);
        if (due.get(key) === mark) due.delete(key);
      } catch (error) {
        if (!(error instanceof CommandRefused)) break;
        if (error.fault.retryable) pause = error.fault.retry_after_ms ?? 1_000;
        else due.delete(key);
      }
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
    this.#running = false;
  }
}
