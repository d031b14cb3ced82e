/**
 * What is kept on the device: rooms, conversations, positions, and what is still to be sent. IndexedDB.
 *
 * Owns: that a position is never stored without the messages before it. Refuses to know: what they mean.
 *
 * Two pages of the same person may be open. Both write here, so a conversation is merged with what is stored, in the
 * same transaction, and never overwritten: what a stored position stands for is then there whichever page wrote last.
 *
 * Where there is no IndexedDB (some private windows) everything works from memory and is fetched anew at each start.
 */
import type { ConversationId, EventId, RoomId, You } from '../protocol';
import type { Pending } from './outbox';
import type { Conversation } from './conversation';
import type { Room } from './room';

/** Older messages than these are fetched again when somebody scrolls that far. */
const KEPT_MESSAGES = 200;
const VERSION = 1;

/** All that is kept. */
export interface Kept {
  you: You | undefined;
  rooms: Room[];
  conversations: Conversation[];
  positions: Map<RoomId, EventId | null>;
  pending: Pending[];
}

/** What has changed and is to be kept, all or nothing. */
export interface Changes {
  you?: You | undefined;
  rooms: Room[];
  conversations: Conversation[];
  positions: Map<RoomId, EventId | null>;
  forget: { rooms: RoomId[]; conversations: ConversationId[] };
}

const STORES = ['people', 'rooms', 'conversations', 'positions', 'outbox'] as const;

export class Storage {
  #db: Promise<IDBDatabase | null>;

  constructor(name = 'homeroom', factory: IDBFactory | undefined = globalThis.indexedDB) {
    this.#db = open(name, factory);
  }

  /** Everything, as it was stored last. */
  async load(): Promise<Kept> {
    const kept: Kept = { you: undefined, rooms: [], conversations: [], positions: new Map(), pending: [] };
    const db = await this.#db;
    if (!db) return kept;
    const at = db.transaction([...STORES]);
    const all = <T>(store: (typeof STORES)[number]) => result<T[]>(at.objectStore(store).getAll());
    const [people, rooms, conversations, positions, keys, pending] = await Promise.all([
      all<You>('people'),
      all<Room>('rooms'),
      all<Conversation>('conversations'),
      all<EventId | ''>('positions'),
      result(at.objectStore('positions').getAllKeys()),
      all<Pending>('outbox'),
    ]);
    return {
      you: people[0],
      rooms,
      conversations,
      positions: new Map(keys.map((key, i) => [String(key), positions[i] || null])),
      pending: pending.sort((a, b) => a.order - b.order),
    };
  }

  /** Stores the changes, all or nothing. Resolves once they are stored. */
  async save(changes: Changes): Promise<void> {
    const db = await this.#db;
    if (!db) return;
    const at = db.transaction(['people', 'rooms', 'conversations', 'positions'], 'readwrite');
    if (changes.you) at.objectStore('people').put(changes.you, 'you');
    for (const room of changes.rooms) at.objectStore('rooms').put(room, room.id);
    for (const [room, position] of changes.positions) at.objectStore('positions').put(position ?? '', room);
    const conversations = at.objectStore('conversations');
    for (const room of changes.forget.rooms) {
      at.objectStore('rooms').delete(room);
      at.objectStore('positions').delete(room);
    }
    for (const conversation of changes.forget.conversations) conversations.delete(conversation);
    for (const conversation of changes.conversations) {
      const request: IDBRequest<Conversation | undefined> = conversations.get(conversation.id);
      request.onsuccess = () => conversations.put(shortened(joined(request.result, conversation)), conversation.id);
    }
    await done(at);
  }

  /** Keeps something to be sent until it was acknowledged. */
  async keepPending(pending: Pending): Promise<void> {
    await this.#outbox((outbox) => outbox.put(pending, pending.clientId));
  }

  /** Forgets something that was sent. */
  async dropPending(clientId: string): Promise<void> {
    await this.#outbox((outbox) => outbox.delete(clientId));
  }

  /** Forgets everything: somebody signed out. */
  async clear(): Promise<void> {
    const db = await this.#db;
    if (!db) return;
    const at = db.transaction([...STORES], 'readwrite');
    for (const store of STORES) at.objectStore(store).clear();
    await done(at);
  }

  async #outbox(change: (outbox: IDBObjectStore) => void): Promise<void> {
    const db = await this.#db;
    if (!db) return;
    const at = db.transaction('outbox', 'readwrite', { durability: 'strict' });
    change(at.objectStore('outbox'));
    await done(at);
  }
}

/** What another page stored and what this one holds, as one stretch. */
function joined(stored: Conversation | undefined, held: Conversation): Conversation {
  if (!stored) return held;
  const touching = stored.n + 1 >= held.from && held.n + 1 >= stored.from;
  if (!touching) return held.n >= stored.n ? held : stored;
  const messages = new Map(stored.messages.map((message) => [message.n, message]));
  const newer = held.n >= stored.n;
  for (const message of held.messages) if (newer || !messages.has(message.n)) messages.set(message.n, message);
  const longer = stored.from < held.from ? stored : held;
  return {
    ...(newer ? held : stored),
    from: longer.from,
    more: longer.more,
    messages: [...messages.values()].sort((a, b) => a.n - b.n),
    read: Math.max(stored.read, held.read),
  };
}

function shortened(conversation: Conversation): Conversation {
  const excess = conversation.messages.length - KEPT_MESSAGES;
  if (excess <= 0) return conversation;
  const messages = conversation.messages.slice(excess);
  return { ...conversation, messages, from: messages[0]!.n, more: true };
}

function open(name: string, factory: IDBFactory | undefined): Promise<IDBDatabase | null> {
  return new Promise((resolve) => {
    if (!factory) return resolve(null);
    let request: IDBOpenDBRequest;
    try {
      request = factory.open(name, VERSION);
    } catch {
      return resolve(null);
    }
    request.onupgradeneeded = () => {
      for (const store of STORES) request.result.createObjectStore(store);
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => resolve(null);
    request.onblocked = () => resolve(null);
  });
}

function result<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function done(transaction: IDBTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onerror = () => reject(transaction.error);
    transaction.onabort = () => reject(transaction.error);
  });
}
