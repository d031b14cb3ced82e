/**
 * What has changed and is to be stored on the device.
 *
 * Owns: what is still to be stored, and what is known to be: only that may be called delivered. Refuses to know: how it is
 * stored, and what is told to the server.
 */
import type { ConversationId, EventId, RoomId, You } from '../protocol';
import type { Conversation } from './conversation';
import type { Room } from './room';
import type { Changes, Storage } from './storage';

/** While much comes in it is stored so often at most. What is not stored yet is not called delivered, and comes again. */
const BETWEEN_MS = 100;
/** What could not be stored is tried again after so long, and each time after twice as long, up to the longest. */
const AGAIN_MS = 1_000;
const LONGEST_MS = 30_000;

/** What is held now, for the moment in which it is stored. */
export interface Holdings {
  you(): You | null;
  rooms(): readonly Room[];
  conversation(id: ConversationId): Conversation | undefined;
  /** Undefined for a room of which no snapshot was merged: its position stands for nothing. */
  position(room: RoomId): EventId | null | undefined;
  /** The conversation is on the device now. */
  stored(conversation: Conversation): void;
}

export class Keeper {
  #due = nothing();
  #saving: Promise<void> | null = null;
  /** Runs while nothing is tried, after as many failures. */
  #pause: ReturnType<typeof setTimeout> | undefined;
  #failures = 0;
  /** Counts sign-ins: what could not be stored in an earlier one is not stored in the next. */
  #visit = 0;
  readonly #stored = new Map<ConversationId, Conversation>();

  constructor(readonly storage: Storage, readonly holdings: Holdings) {}

  you(): void {
    this.#due.you = true;
  }

  room(id: RoomId): void {
    this.#due.rooms.add(id);
  }

  conversation(id: ConversationId): void {
    this.#due.conversations.add(id);
  }

  position(room: RoomId): void {
    this.#due.positions.add(room);
  }

  forgetConversation(id: ConversationId): void {
    this.#stored.delete(id);
    this.#due.conversations.delete(id);
    this.#due.forget.conversations.push(id);
  }

  forgetRoom(id: RoomId): void {
    this.#due.rooms.delete(id);
    this.#due.positions.delete(id);
    this.#due.forget.rooms.push(id);
  }

  /** What is on the device of the conversation. */
  stored(id: ConversationId): Conversation | undefined {
    return this.#stored.get(id);
  }

  /** What an earlier visit left on the device. */
  found(conversation: Conversation): void {
    this.#stored.set(conversation.id, conversation);
  }

  /** Drops what was about to be stored. */
  letGo(): void {
    this.#visit += 1;
    this.#due = nothing();
    clearTimeout(this.#pause);
    this.#pause = undefined;
  }

  /** Forgets all that is on the device. */
  async clear(): Promise<void> {
    await this.#saving;
    await this.storage.clear().catch((error: unknown) => console.error('not cleared', error));
    this.#stored.clear();
  }

  /** Stores what has changed; then, and only then, it may be called delivered. One transaction at a time. */
  save(): void {
    // After a failure all of it is tried together, when the pause is over.
    if (this.#pause !== undefined) return;
    this.#saving ??= this.#saveAll().finally(() => (this.#saving = null));
  }

  async #saveAll(): Promise<void> {
    // What comes in the same turn is stored together.
    await Promise.resolve();
    while (this.#isDue()) {
      const visit = this.#visit;
      const due = this.#due;
      this.#due = nothing();
      try {
        await this.#write(due);
      } catch (error) {
        // A full disk: the page goes on from memory, and calls nothing delivered.
        console.error('not stored', error);
        if (visit === this.#visit) this.#failed(due);
        return;
      }
      this.#failures = 0;
      await new Promise((resolve) => setTimeout(resolve, BETWEEN_MS));
    }
  }

  async #write(due: Due): Promise<void> {
    const { holdings } = this;
    const conversations = [...due.conversations].flatMap((id) => holdings.conversation(id) ?? []);
    const positions = new Map<RoomId, EventId | null>();
    for (const room of due.positions) {
      const position = holdings.position(room);
      if (position !== undefined) positions.set(room, position);
    }
    await this.storage.save({
      you: due.you ? holdings.you() ?? undefined : undefined,
      rooms: holdings.rooms().filter((room) => due.rooms.has(room.id)),
      conversations, positions, forget: due.forget,
    });
    for (const conversation of conversations) {
      if (!holdings.conversation(conversation.id)) continue;
      this.#stored.set(conversation.id, conversation);
      holdings.stored(conversation);
    }
  }

  /** Puts back what could not be stored, to what has come since: all of it goes with the next position, or neither does. */
  #failed(lost: Due): void {
    const due = this.#due;
    due.you ||= lost.you;
    for (const kind of ['rooms', 'conversations', 'positions'] as const) for (const id of lost[kind]) due[kind].add(id);
    for (const kind of ['rooms', 'conversations'] as const) due.forget[kind].push(...lost.forget[kind]);
    const again = () => {
      this.#pause = undefined;
      this.save();
    };
    this.#pause = setTimeout(again, Math.min(AGAIN_MS * 2 ** this.#failures, LONGEST_MS));
    this.#failures += 1;
  }

  #isDue(): boolean {
    const { you, rooms, conversations, positions, forget } = this.#due;
    return you || rooms.size + conversations.size + positions.size + forget.rooms.length + forget.conversations.length > 0;
  }
}

/** What is to be stored: as it is held at that moment. */
interface Due {
  you: boolean;
  rooms: Set<RoomId>;
  conversations: Set<ConversationId>;
  positions: Set<RoomId>;
  forget: Changes['forget'];
}

function nothing(): Due {
  return { you: false, rooms: new Set(), conversations: new Set(), positions: new Set(), forget: { rooms: [], conversations: [] } };
}
