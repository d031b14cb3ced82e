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
  #changed = nothing();
  #forgotten: Changes['forget'] = { rooms: [], conversations: [] };
  #saving: Promise<void> | null = null;
  readonly #stored = new Map<ConversationId, Conversation>();

  constructor(readonly storage: Storage, readonly holdings: Holdings) {}

  you(): void {
    this.#changed.you = true;
  }

  room(id: RoomId): void {
    this.#changed.rooms.add(id);
  }

  conversation(id: ConversationId): void {
    this.#changed.conversations.add(id);
  }

  position(room: RoomId): void {
    this.#changed.positions.add(room);
  }

  forgetConversation(id: ConversationId): void {
    this.#stored.delete(id);
    this.#changed.conversations.delete(id);
    this.#forgotten.conversations.push(id);
  }

  forgetRoom(id: RoomId): void {
    this.#changed.rooms.delete(id);
    this.#changed.positions.delete(id);
    this.#forgotten.rooms.push(id);
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
    this.#changed = nothing();
    this.#forgotten = { rooms: [], conversations: [] };
  }

  /** Forgets all that is on the device. */
  async clear(): Promise<void> {
    await this.#saving;
    await this.storage.clear().catch((error: unknown) => console.error('not cleared', error));
    this.#stored.clear();
  }

  /** Stores what has changed; then, and only then, it may be called delivered. One transaction at a time. */
  save(): void {
    this.#saving ??= this.#saveAll()
      // A full disk: the page goes on from memory, and calls nothing delivered.
      .catch((error: unknown) => console.error('not stored', error))
      .finally(() => (this.#saving = null));
  }

  async #saveAll(): Promise<void> {
    // What comes in the same turn is stored together.
    await Promise.resolve();
    while (this.#due()) {
      const changed = this.#changed;
      const forget = this.#forgotten;
      this.letGo();
      const { holdings } = this;
      const conversations = [...changed.conversations].flatMap((id) => holdings.conversation(id) ?? []);
      const positions = new Map<RoomId, EventId | null>();
      for (const room of changed.positions) {
        const position = holdings.position(room);
        if (position !== undefined) positions.set(room, position);
      }
      await this.storage.save({
        you: changed.you ? holdings.you() ?? undefined : undefined,
        rooms: holdings.rooms().filter((room) => changed.rooms.has(room.id)),
        conversations, positions, forget,
      });
      for (const conversation of conversations) {
        if (!holdings.conversation(conversation.id)) continue;
        this.#stored.set(conversation.id, conversation);
        holdings.stored(conversation);
      }
      await new Promise((resolve) => setTimeout(resolve, BETWEEN_MS));
    }
  }

  #due(): boolean {
    const { you, rooms, conversations, positions } = this.#changed;
    return you || rooms.size + conversations.size + positions.size + this.#forgotten.rooms.length + this.#forgotten.conversations.length > 0;
  }
}

/** Nothing that would have to be stored. */
function nothing() {
  return { you: false, rooms: new Set<RoomId>(), conversations: new Set<ConversationId>(), positions: new Set<RoomId>() };
}
