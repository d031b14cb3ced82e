/**
 * What this device knows: who is signed in, their rooms, the conversations in them, and what is still to be sent.
 *
 * Owns: the signals that the screens read, and taking in what the server says. Refuses to know: how it looks.
 *
 * Everything is shown from here at once, and what the network brings is merged in. A room's position is stored together
 * with the messages before it; `delivered` is told only after that.
 */
import { batch, computed, signal } from '@preact/signals';
import type {
  Address, ConversationId, ConversationSummary, EventId, Family, Home, Language, Limits, Mark, Message, Person, PersonId,
  RoomDetail, RoomId, RoomKind, Role, ServerFrame, You,
} from '../protocol';
import { Connection, Stop, type Surroundings } from '../connection/connection';
import { NoAnswer, Refused, call } from '../connection/http';
import * as wire from '../connection/wire';
import { type Conversation, unheard, withEvent, withMark, withPage, withRead, withSummary } from './conversation';
import { Marks } from './marks';
import { type Deed, Outbox } from './outbox';
import { type Changes, Storage } from './storage';
import { newId } from './uuid';

/** A room as the screens show it. */
export interface Room {
  id: RoomId;
  kind: RoomKind;
  title: string;
  school: string;
  role: Role;
  /** For a guardian: their students in it. */
  students: Person[];
  staff: Person[];
  /** For staff: the students with their guardians. */
  families: Family[];
  /** Whether `staff` and `families` were ever fetched. */
  detailed: boolean;
}

/** What the screens may be waiting for. */
export type Phase = 'opening' | 'signed_out' | 'ready';

/** What a page tells the others when somebody signs out of it: first to stop writing, then to begin anew. */
type Parting = 'leaving' | 'left';

const HISTORY_PAGE = 50;
/** A writer is shown for so long after the last sign of them. */
const TYPING_MS = 6_000;

export class Store {
  readonly phase = signal<Phase>('opening');
  /** Why the first fetch failed, while there is nothing on the device to show. */
  readonly trouble = signal<string | null>(null);
  readonly you = signal<You | null>(null);
  readonly rooms = signal<readonly Room[]>([]);
  readonly conversations = signal<ReadonlyMap<ConversationId, Conversation>>(new Map());
  readonly typing = signal<ReadonlyMap<ConversationId, { person: PersonId; until: number }>>(new Map());
  readonly limits = signal<Limits | null>(null);
  /** Conversations whose older messages are being fetched, or could not be. */
  readonly history = signal<ReadonlyMap<ConversationId, 'loading' | 'failed'>>(new Map());
  /** The last mark of another person that came in announcements: the reach lines listen. */
  readonly announced = signal<{ conversation: ConversationId; mark: Mark } | null>(null);
  readonly connection: Connection;
  readonly outbox: Outbox;
  readonly marks: Marks;
  readonly line = computed(() => this.connection.line.value);

  readonly #storage: Storage;
  /** The other pages of this browser: what is kept on the device is kept for all of them. */
  readonly #pages = globalThis.BroadcastChannel && globalThis.location ? new BroadcastChannel('homeroom') : null;
  /** The id of the last event taken in, by room. */
  readonly #positions = new Map<RoomId, EventId | null>();
  /** Rooms of which a snapshot was merged; only their positions mean anything. */
  readonly #held = new Set<RoomId>();
  /** Counts what makes an earlier snapshot useless. */
  #epoch = 0;
  #refreshing: Promise<void> | null = null;
  #again = false;
  #dirty = nothing();
  #forgotten: Changes['forget'] = { rooms: [], conversations: [] };
  #saving: Promise<void> | null = null;
  /** What is on the device of each conversation: only that may be called delivered. */
  readonly #stored = new Map<ConversationId, Conversation>();
  /** Counts sign-ins: what was asked for in an earlier one is not for the eyes of the next. */
  #visit = 0;

  constructor(storage = new Storage(), surroundings?: Surroundings) {
    this.#storage = storage;
    this.connection = new Connection(
      {
        prepare: () => this.#prepare(),
        frame: (frame) => batch(() => this.#take(frame)),
        signedOut: () => void this.signedOut(),
      },
      surroundings,
    );
    this.outbox = new Outbox({
      send: (command) => this.connection.send(command),
      keep: (pending) => storage.keepPending(pending),
      drop: (clientId) => storage.dropPending(clientId),
      newId,
      now: () => new Date(),
    });
    this.marks = new Marks((command) => this.connection.send(command), (kind, id, n) => this.#told(kind, id, n));
    if (this.#pages) {
      // Whoever is signed in next, it is not for this page to show or to write what it held for the one before.
      this.#pages.onmessage = ({ data }: MessageEvent<Parting>) => {
        this.#letGo();
        // Should the other page be closed before it is done, this one begins anew all the same.
        setTimeout(() => location.reload(), data === 'left' ? 0 : 2_000);
      };
    }
    this.connection.line.subscribe((line) => {
      if (line === 'live') return;
      this.outbox.offline();
      this.marks.offline();
    });
  }

  /** Shows what is on the device, then connects. */
  async open(): Promise<void> {
    const kept = await this.#storage.load().catch((error: unknown) => (console.error('nothing loaded', error), null));
    batch(() => {
      if (!kept?.you) return;
      this.you.value = kept.you;
      this.rooms.value = kept.rooms.sort(byTitle);
      const mine = kept.conversations.filter((conversation) => conversation.mine.person === kept.you?.person);
      this.conversations.value = new Map(mine.map((conversation) => [conversation.id, conversation]));
      for (const conversation of mine) this.#stored.set(conversation.id, conversation);
      for (const [room, position] of kept.positions) {
        this.#positions.set(room, position);
        this.#held.add(room);
      }
      this.outbox.restore(kept.pending);
      this.phase.value = 'ready';
    });
    this.connection.start();
  }

  /**
   * Forgets all that is on the device, and shows the way in; in every page of this browser. A page that held nobody tells
   * the others nothing, or they would send each other back and forth; except where it is about to hold somebody else.
   */
  async signedOut(entering = false): Promise<void> {
    const held = this.you.value !== null;
    const tell = (parting: Parting) => (entering || held) && this.#pages?.postMessage(parting);
    tell('leaving');
    this.#letGo();
    await this.#saving;
    await this.#storage.clear().catch((error: unknown) => console.error('not cleared', error));
    tell('left');
    this.#stored.clear();
    batch(() => {
      this.you.value = null;
      this.rooms.value = [];
      this.conversations.value = new Map();
      this.outbox.pending.value = [];
      this.#positions.clear();
      this.#held.clear();
      this.phase.value = 'signed_out';
    });
  }

  /** Ends the connection, and forgets what was about to be stored. */
  #letGo(): void {
    this.connection.stop();
    this.#visit += 1;
    this.#dirty = nothing();
    this.#forgotten = { rooms: [], conversations: [] };
  }

  /** Changes the person's language; what is shown follows. */
  async speak(language: Language): Promise<void> {
    const visit = this.#visit;
    const you = await call('PATCH', 'me', wire.me, { language });
    if (visit !== this.#visit) return;
    this.you.value = you;
    this.#dirty.you = true;
    this.#save();
  }

  /** Somebody looks at the page again: come back at once, or find out whether the line that seems to be there still is. */
  lookedAt(): void {
    this.connection.hurry();
    // A telephone that slept may hold a line that is long dead. Repeating a mark changes nothing, and must be answered.
    const known = [...this.conversations.value.values()].find(({ mine }) => mine.delivered > 0);
    if (!known || this.line.value !== 'live') return;
    const { room, id: conversation, mine } = known;
    this.connection.send({ type: 'delivered', room, conversation, n: mine.delivered }).catch(() => undefined);
  }

  /** The conversation, or an empty one where nothing was said yet. */
  conversation(id: ConversationId, room: RoomId, address: Address): Conversation {
    return this.conversations.value.get(id) ?? unheard(id, room, address, this.you.value?.person ?? '');
  }

  /** Says, changes or takes back something. */
  act(conversation: Conversation, deed: Deed): Promise<void> {
    // So that a conversation in which nothing was said yet is in the lists.
    if (!this.conversations.value.has(conversation.id)) this.#put(conversation);
    return this.outbox.add(conversation.room, conversation.id, deed);
  }

  /** The person has read up to `n` on this device. */
  read(id: ConversationId, n: number): void {
    const held = this.conversations.value.get(id);
    const moved = held && withRead(held, n);
    if (!moved || moved === held) return;
    this.#put(moved);
    this.marks.note('read', moved.room, moved.id, moved.read);
    this.#save();
  }

  /** Fetches the page before what is held. */
  async older(id: ConversationId, limit = HISTORY_PAGE): Promise<void> {
    const held = this.conversations.value.get(id);
    if (!held?.more || this.history.value.get(id) === 'loading') return;
    const note = (state: 'loading' | 'failed' | null) => {
      const history = new Map(this.history.value);
      if (state) history.set(id, state);
      else history.delete(id);
      this.history.value = history;
    };
    note('loading');
    const before = held.from;
    const visit = this.#visit;
    const path = `rooms/${held.room}/conversations/${id}/messages?before=${before}&limit=${limit}`;
    try {
      const page = await call('GET', path, wire.historyPage);
      if (visit !== this.#visit) return;
      batch(() => {
        const now = this.conversations.value.get(id);
        if (now) this.#put(withPage(now, before, page.messages, page.more));
        note(null);
      });
      this.#save();
    } catch (error) {
      note('failed');
      this.#refusedForGood(error);
    }
  }

  /** Before each try to connect. A device that knows nothing yet fetches the first screen. */
  async #prepare(): Promise<Record<RoomId, EventId | null>> {
    if (this.#held.size === 0) {
      try {
        const visit = this.#visit;
        const home = await call('GET', 'home', wire.home);
        if (visit !== this.#visit) throw new Stop();
        this.#merge(home, this.#epoch);
        this.trouble.value = null;
      } catch (error) {
        if (this.#refusedForGood(error)) throw new Stop();
        this.trouble.value = error instanceof Refused ? error.message : '';
        throw error;
      }
    }
    return Object.fromEntries([...this.#held].map((room) => [room, this.#positions.get(room) ?? null]));
  }

  #take(frame: ServerFrame): void {
    switch (frame.type) {
      case 'welcome': {
        this.limits.value = frame.limits;
        if (this.#somebodyElse(frame.you)) return;
        // What could not be fetched may be asked for again.
        this.history.value = new Map([...this.history.value].filter(([, state]) => state === 'loading'));
        const mine = new Set(frame.rooms.map(({ room }) => room));
        for (const room of [...this.#held]) if (!mine.has(room)) this.#forget(room);
        for (const { room, position } of frame.rooms) if (!this.#held.has(room)) this.#positions.set(room, position);
        this.#epoch += 1;
        void this.refresh();
        queueMicrotask(() => {
          this.outbox.online();
          this.marks.online();
          this.#remind();
        });
        return;
      }
      case 'event': {
        this.#positions.set(frame.room, frame.id);
        this.#dirty.positions.add(frame.room);
        if (frame.kind === 'member_joined' || frame.kind === 'member_left') void this.refresh();
        if (frame.conversation && frame.n !== undefined) {
          const address: Address = frame.about ? { kind: 'private', ...frame.about } : { kind: 'announcements' };
          this.#put(withEvent(this.conversation(frame.conversation, frame.room, address), frame));
          this.outbox.seen(frame.conversation, frame.n);
          if ('message' in frame) this.#stopped(frame.conversation, frame.message.author);
        }
        this.#save();
        return;
      }
      case 'caught_up':
        return this.#save();
      case 'reset':
        this.#forgetContent(frame.room);
        this.#positions.set(frame.room, frame.position);
        this.#epoch += 1;
        void this.refresh();
        return;
      case 'joined':
        this.#positions.set(frame.room.room, frame.room.position);
        this.#epoch += 1;
        void this.refresh();
        return;
      case 'left':
        return this.#forget(frame.room);
      case 'mark': {
        const held = this.conversations.value.get(frame.conversation);
        const mark = { person: frame.person, delivered: frame.delivered, read: frame.read };
        if (held?.address.kind === 'announcements') this.announced.value = { conversation: held.id, mark };
        const moved = held && withMark(held, mark);
        if (moved && moved !== held) {
          this.#put(moved);
          this.#save();
        }
        return;
      }
      case 'typing': {
        if (frame.person === this.you.value?.person) return;
        const until = Date.now() + TYPING_MS;
        this.typing.value = new Map(this.typing.value).set(frame.conversation, { person: frame.person, until });
        setTimeout(() => {
          if (this.typing.value.get(frame.conversation)?.until === until) this.#stopped(frame.conversation, frame.person);
        }, TYPING_MS);
        return;
      }
      case 'error':
        // Without a ref that we know: nothing waits for it.
        console.error('refused', frame.code, frame.message);
        if (frame.code === 'unauthenticated') void this.signedOut();
        return;
      default:
        return;
    }
  }

  /** Fetches the first screen and the rooms' details anew, and merges them. One at a time; asked again meanwhile, once more. */
  refresh(): Promise<void> {
    if (this.#refreshing) {
      this.#again = true;
      return this.#refreshing;
    }
    const visit = this.#visit;
    const over = () => visit !== this.#visit;
    const run = async () => {
      do {
        this.#again = false;
        const epoch = this.#epoch;
        const home = await call('GET', 'home', wire.home);
        if (over()) return;
        this.#merge(home, epoch);
        await Promise.all(this.rooms.value.map(async ({ id }) => {
          const detail = await call('GET', `rooms/${id}`, wire.roomDetail).catch(leftMeanwhile);
          if (detail && !over()) this.#detail(detail);
        }));
        if (over()) return;
        await this.#fetchMissed();
      } while (this.#again && !over());
    };
    this.#refreshing = run()
      .catch((error: unknown) => {
        if (this.#refusedForGood(error)) return;
        console.error('not refreshed', error);
        setTimeout(() => this.line.value === 'live' && void this.refresh(), 3_000);
      })
      .finally(() => (this.#refreshing = null));
    return this.#refreshing;
  }

  /** Somebody else signed in, in another page of this browser: nothing of the first one may be seen by them. */
  #somebodyElse(you: You): boolean {
    if (!this.you.value || this.you.value.person === you.person) return false;
    void this.signedOut().then(() => location.reload());
    return true;
  }

  #merge(home: Home, epoch: number): void {
    if (this.#somebodyElse(home.you)) return;
    batch(() => {
      this.you.value = home.you;
      this.#dirty.you = true;
      // A snapshot that was asked for before the session's start, or before a reset, has no place to go on from.
      const fresh = epoch === this.#epoch;
      const known = new Map(this.rooms.value.map((room) => [room.id, room]));
      for (const room of known.keys()) if (!home.rooms.some((one) => one.room === room)) this.#forget(room);
      const conversations = new Map(this.conversations.value);
      for (const summary of home.rooms) {
        if (!this.#held.has(summary.room)) {
          if (!fresh) continue;
          if (!this.#positions.has(summary.room)) this.#positions.set(summary.room, summary.position);
          this.#held.add(summary.room);
          this.#dirty.positions.add(summary.room);
        }
        for (const one of summary.conversations) this.#mergeSummary(conversations, summary.room, one);
      }
      this.conversations.value = conversations;
      this.rooms.value = home.rooms
        .filter((summary) => this.#held.has(summary.room))
        .map(({ room, kind, title, school, role, students }) => {
          this.#dirty.rooms.add(room);
          const { staff = [], families = [], detailed = false } = known.get(room) ?? {};
          return { id: room, kind, title, school, role, students, staff, families, detailed };
        })
        .sort(byTitle);
      this.phase.value = 'ready';
    });
    this.#save();
  }

  #mergeSummary(into: Map<ConversationId, Conversation>, room: RoomId, summary: ConversationSummary): void {
    into.set(summary.conversation, withSummary(into.get(summary.conversation), room, summary, this.you.value?.person ?? ''));
    this.#dirty.conversations.add(summary.conversation);
  }

  #detail(detail: RoomDetail): void {
    this.rooms.value = this.rooms.value.map((room) =>
      room.id === detail.summary.room ? { ...room, staff: detail.staff, families: detail.families, detailed: true } : room,
    );
    this.#dirty.rooms.add(detail.summary.room);
    this.#save();
  }

  /** What came while this device was away and only a summary is held of: fetched before it is called delivered. */
  async #fetchMissed(): Promise<void> {
    for (const { id } of [...this.conversations.value.values()]) {
      for (;;) {
        const held = this.conversations.value.get(id);
        if (!held?.more || held.from <= held.mine.delivered + 1 || this.history.value.get(id) === 'failed') break;
        await this.older(id, 100);
      }
    }
    this.#remind();
  }

  /** Tells the server of what is stored or read here and it has not heard of. */
  #remind(): void {
    for (const held of this.conversations.value.values()) {
      if (held.read > held.mine.read) this.marks.note('read', held.room, held.id, held.read);
      this.#noteDelivered(held);
    }
  }

  /** Notes as delivered what is on the device, if it is there without a hole since what was delivered before. */
  #noteDelivered(held: Conversation): void {
    const stored = this.#stored.get(held.id);
    if (!stored) return;
    const { delivered } = held.mine;
    const whole = !stored.more || stored.from <= delivered + 1;
    if (whole && stored.n > delivered) this.marks.note('delivered', held.room, held.id, stored.n);
  }

  #told(kind: 'delivered' | 'read', id: ConversationId, n: number): void {
    const held = this.conversations.value.get(id);
    if (!held) return;
    const { person, delivered, read } = held.mine;
    // What was read was delivered; the server says the same.
    this.#put(withMark(held, { person, delivered: Math.max(delivered, n), read: kind === 'read' ? Math.max(read, n) : read }));
  }

  #stopped(conversation: ConversationId, person: PersonId): void {
    if (this.typing.value.get(conversation)?.person !== person) return;
    const typing = new Map(this.typing.value);
    typing.delete(conversation);
    this.typing.value = typing;
  }

  #put(conversation: Conversation): void {
    this.conversations.value = new Map(this.conversations.value).set(conversation.id, conversation);
    this.#dirty.conversations.add(conversation.id);
  }

  #forgetContent(room: RoomId): void {
    const gone = [...this.conversations.value.values()].filter((conversation) => conversation.room === room);
    const conversations = new Map(this.conversations.value);
    for (const { id } of gone) {
      conversations.delete(id);
      this.#stored.delete(id);
      this.#dirty.conversations.delete(id);
      this.#forgotten.conversations.push(id);
    }
    this.conversations.value = conversations;
    this.#positions.delete(room);
    this.#held.delete(room);
  }

  #forget(room: RoomId): void {
    this.#forgetContent(room);
    this.rooms.value = this.rooms.value.filter((one) => one.id !== room);
    this.#dirty.rooms.delete(room);
    this.#dirty.positions.delete(room);
    this.#forgotten.rooms.push(room);
    this.#save();
  }

  /** Whether the server says to sign in again; then the way in is shown. */
  #refusedForGood(error: unknown): boolean {
    if (!(error instanceof Refused) || error.status !== 401) {
      if (!(error instanceof Refused) && !(error instanceof NoAnswer)) console.error(error);
      return false;
    }
    void this.signedOut();
    return true;
  }

  /** Stores what has changed; then, and only then, it may be called delivered. One transaction at a time. */
  #save(): void {
    if (this.#saving) return;
    this.#saving = (async () => {
      // What comes in the same turn is stored together.
      await Promise.resolve();
      while (this.#dirty.you || this.#dirty.rooms.size || this.#dirty.conversations.size || this.#dirty.positions.size
        || this.#forgotten.rooms.length || this.#forgotten.conversations.length) {
        const dirty = this.#dirty;
        const forget = this.#forgotten;
        this.#dirty = nothing();
        this.#forgotten = { rooms: [], conversations: [] };
        const conversations = [...dirty.conversations].flatMap((id) => this.conversations.value.get(id) ?? []);
        const positions = new Map([...dirty.positions].filter((room) => this.#held.has(room))
          .map((room) => [room, this.#positions.get(room) ?? null]));
        await this.#storage.save({
          ...(dirty.you && this.you.value ? { you: this.you.value } : {}),
          rooms: this.rooms.value.filter((room) => dirty.rooms.has(room.id)),
          conversations, positions, forget,
        });
        for (const conversation of conversations) {
          if (!this.conversations.value.has(conversation.id)) continue;
          this.#stored.set(conversation.id, conversation);
          this.#noteDelivered(conversation);
        }
      }
    })()
      // A full disk: the page goes on from memory, and calls nothing delivered.
      .catch((error: unknown) => console.error('not stored', error))
      .finally(() => (this.#saving = null));
  }
}

/** Nothing that would have to be stored. */
function nothing() {
  return { you: false, rooms: new Set<RoomId>(), conversations: new Set<ConversationId>(), positions: new Set<RoomId>() };
}

/** A room that its person has just left is not there for them; its `left` is on the way. */
function leftMeanwhile(error: unknown): null {
  if (error instanceof Refused && error.status === 404) return null;
  throw error;
}

function byTitle(a: Room, b: Room): number {
  return a.title.localeCompare(b.title, undefined, { numeric: true });
}

/** Who somebody is, for those who may know them in the room. */
export function nameIn(room: Room, person: PersonId): string | null {
  const families = room.families.flatMap((family) => [family.student, ...family.guardians]);
  return [...room.staff, ...families, ...room.students].find((one) => one.person === person)?.name ?? null;
}

/** The newest message of a conversation, if one is held. */
export function newest(conversation: Conversation | undefined): Message | undefined {
  return conversation?.messages.at(-1);
}
