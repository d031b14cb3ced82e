/**
 * What is kept on the device: rooms, conversations, positions, and what is still to be sent. IndexedDB.
 *
 * Owns: that a position is never stored without the messages before it. Refuses to know: what they mean.
 *
 * Two pages of the same person may be open. Both write here, so a conversation is merged with what is stored, in the
 * same transaction, and never overwritten: what a stored position stands for is then there whichever page wrote last.
 *
 * Messages are records of their own beside the heads of their conversations: to store one more costs one more, however long
 * the conversation is. A stored head stands for every message from its `from` to its `n`.
 *
 * Where there is no IndexedDB (some private windows) everything works from memory and is fetched anew at each start.
 */
import type { ConversationId, EventId, Message, RoomId, You } from '../protocol';
import type { Pending } from './outbox';
import type { Conversation } from './conversation';
import type { Room } from './room';

/** Older messages than these are fetched again when somebody scrolls that far. */
const KEPT_MESSAGES = 200;
/** So many more may be there before the oldest are deleted, all at once. */
const SLACK = 50;
const VERSION = 2;
/** A device that does not answer for so long is not waited for: nothing would be shown until then. */
const OPEN_MS = 5_000;

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

const STORES = ['people', 'rooms', 'conversations', 'messages', 'positions', 'outbox'] as const;

export class Storage {
  #db: Promise<IDBDatabase | null>;
  /** What this page knows to be stored: of that only what has changed is written. */
  readonly #known = new Map<ConversationId, Conversation>();
  /** What is to be written to the outbox next: something to keep, or null to drop it. */
  #unwritten = new Map<string, Pending | null>();
  /** The batch that is forming, and the one after which it is written. */
  #batch: Promise<void> | null = null;
  #before: Promise<unknown> = Promise.resolve();

  constructor(readonly name = 'homeroom', readonly factory: IDBFactory | undefined = globalThis.indexedDB) {
    this.#db = open(name, factory);
  }

  /** Everything, as it was stored last. */
  async load(): Promise<Kept> {
    const kept: Kept = { you: undefined, rooms: [], conversations: [], positions: new Map(), pending: [] };
    const db = await this.#db;
    if (!db) return kept;
    const at = db.transaction([...STORES]);
    const all = <T>(store: (typeof STORES)[number]) => result<T[]>(at.objectStore(store).getAll());
    const [people, rooms, heads, messages, places, positions, keys, pending] = await Promise.all([
      all<You>('people'),
      all<Room>('rooms'),
      all<Conversation>('conversations'),
      all<Message>('messages'),
      result(at.objectStore('messages').getAllKeys()),
      all<EventId | ''>('positions'),
      result(at.objectStore('positions').getAllKeys()),
      all<Pending>('outbox'),
    ]);
    const said = new Map<ConversationId, Message[]>(heads.map(({ id }) => [id, []]));
    places.forEach((place, i) => said.get((place as MessageKey)[0])?.push(messages[i]!));
    const conversations = heads.map((head) => ({ ...head, messages: said.get(head.id) ?? [] }));
    for (const conversation of conversations) this.#known.set(conversation.id, conversation);
    return {
      you: people[0],
      rooms,
      conversations,
      positions: new Map(keys.map((key, i) => [String(key), positions[i] || null])),
      pending: pending.sort((a, b) => a.order - b.order),
    };
  }

  /** What is to be sent, also what other pages have stored since this one was loaded. */
  async pending(): Promise<Pending[]> {
    const db = await this.#db;
    return db ? result<Pending[]>(db.transaction('outbox').objectStore('outbox').getAll()) : [];
  }

  /** Stores the changes, all or nothing. Resolves once they are stored. */
  async save(changes: Changes): Promise<void> {
    const db = await this.#db;
    if (!db) return;
    const at = db.transaction(['people', 'rooms', 'conversations', 'messages', 'positions'], 'readwrite');
    if (changes.you) at.objectStore('people').put(changes.you, 'you');
    // What is to be forgotten first: a room may have been left and joined again since the last time.
    for (const room of changes.forget.rooms) {
      at.objectStore('rooms').delete(room);
      at.objectStore('positions').delete(room);
    }
    for (const id of changes.forget.conversations) {
      this.#known.delete(id);
      at.objectStore('conversations').delete(id);
      at.objectStore('messages').delete(messagesOf(id));
    }
    for (const room of changes.rooms) at.objectStore('rooms').put(room, room.id);
    for (const [room, position] of changes.positions) at.objectStore('positions').put(position ?? '', room);
    for (const conversation of changes.conversations) join(at, conversation, this.#known.get(conversation.id));
    await done(at);
    for (const conversation of changes.conversations) this.#known.set(conversation.id, conversation);
  }

  /** Keeps something to be sent until it was acknowledged. */
  async keepPending(pending: Pending): Promise<void> {
    await this.#outbox(pending.clientId, pending);
  }

  /** Forgets something that was sent. */
  async dropPending(clientId: string): Promise<void> {
    await this.#outbox(clientId, null);
  }

  /** Forgets everything: somebody signed out. */
  async clear(): Promise<void> {
    this.#known.clear();
    this.#unwritten.clear();
    const db = await this.#db;
    // What an earlier visit left is gone when the device answers again.
    if (!db) return void this.factory?.deleteDatabase(this.name);
    const at = db.transaction([...STORES], 'readwrite');
    for (const store of STORES) at.objectStore(store).clear();
    await done(at);
  }

  /** While one batch is being written the next one forms; what was acknowledged before it was written need not be. */
  #outbox(clientId: string, pending: Pending | null): Promise<void> {
    this.#unwritten.set(clientId, pending);
    if (!this.#batch) {
      const batch = this.#before.then(() => this.#writeOutbox());
      this.#batch = batch;
      // One batch that failed does not keep the next one from being tried.
      this.#before = batch.catch(() => undefined);
    }
    return this.#batch;
  }

  async #writeOutbox(): Promise<void> {
    const db = await this.#db;
    const batch = this.#unwritten;
    this.#unwritten = new Map();
    this.#batch = null;
    if (!db || batch.size === 0) return;
    // What was written must outlive the machine; what was sent may be sent again.
    const durability = [...batch.values()].some(Boolean) ? 'strict' : 'relaxed';
    const at = db.transaction('outbox', 'readwrite', { durability });
    const outbox = at.objectStore('outbox');
    for (const [clientId, pending] of batch) {
      if (pending) outbox.put(pending, clientId);
      else outbox.delete(clientId);
    }
    await done(at);
  }
}

type MessageKey = [ConversationId, number];

/** The keys of a conversation's messages, up to before a number. An array comes after every number. */
function messagesOf(id: ConversationId, before?: number): IDBKeyRange {
  return IDBKeyRange.bound([id], [id, before ?? []], false, true);
}

/**
 * Makes one stretch of what is stored, perhaps by another page, and what this one holds. Of what this page knows to be
 * stored (`known`) only what has changed is written.
 */
function join(at: IDBTransaction, held: Conversation, known: Conversation | undefined): void {
  const heads = at.objectStore('conversations');
  const messages = at.objectStore('messages');
  const put = (message: Message) => messages.put(message, [held.id, message.n] satisfies MessageKey);
  const request: IDBRequest<Conversation | undefined> = heads.get(held.id);
  request.onsuccess = () => {
    const stored = request.result;
    const newer = !stored || held.n >= stored.n;
    if (!stored || stored.n + 1 < held.from || held.n + 1 < stored.from) {
      if (!newer) return;
      const short = shortened(held);
      messages.delete(messagesOf(held.id));
      short.messages.forEach(put);
      heads.put({ ...short, messages: [] }, held.id);
      return;
    }
    const unchanged = new Set(known?.messages);
    // Older ones than are kept are not stored again.
    const longer = held.from < stored.from && held.n - held.from < KEPT_MESSAGES + SLACK;
    for (const message of held.messages) {
      const missing = message.n > stored.n || (longer && message.n < stored.from);
      const changed = newer && message.n >= stored.from && !unchanged.has(message);
      if (missing || changed) put(message);
    }
    const { from, more } = longer ? held : stored;
    const head = { ...(newer ? held : stored), from, more, messages: [], read: Math.max(stored.read, held.read) };
    heads.put(head, held.id);
    if (head.n - from >= KEPT_MESSAGES + SLACK) shorten(at, head);
  };
}

/** Deletes the oldest messages of a long conversation. */
function shorten(at: IDBTransaction, head: Conversation): void {
  const messages = at.objectStore('messages');
  const request = messages.getAllKeys(messagesOf(head.id));
  request.onsuccess = () => {
    const from = (request.result.at(-KEPT_MESSAGES) as MessageKey | undefined)?.[1] ?? head.from;
    if (from <= head.from) return;
    messages.delete(messagesOf(head.id, from));
    at.objectStore('conversations').put({ ...head, from, more: true }, head.id);
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
    let given = false;
    const give = (db: IDBDatabase | null) => {
      clearTimeout(limit);
      // Too late: this page works from memory.
      if (given) db?.close();
      given = true;
      resolve(db);
    };
    const limit = setTimeout(() => give(null), OPEN_MS);
    if (!factory) return give(null);
    let request: IDBOpenDBRequest;
    try {
      request = factory.open(name, VERSION);
    } catch {
      return give(null);
    }
    request.onupgradeneeded = () => {
      for (const store of STORES) if (!request.result.objectStoreNames.contains(store)) request.result.createObjectStore(store);
      if (request.transaction) separateMessages(request.transaction);
    };
    request.onsuccess = () => {
      // A page of a newer version may not have to wait for this one.
      request.result.onversionchange = () => request.result.close();
      give(request.result);
    };
    request.onerror = () => give(null);
    request.onblocked = () => give(null);
  });
}

/** Version 1 kept messages inside their conversations. */
function separateMessages(at: IDBTransaction): void {
  const heads = at.objectStore('conversations');
  const request: IDBRequest<Conversation[]> = heads.getAll();
  request.onsuccess = () => {
    for (const head of request.result) {
      for (const message of head.messages) at.objectStore('messages').put(message, [head.id, message.n] satisfies MessageKey);
      heads.put({ ...head, messages: [] }, head.id);
    }
  };
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
