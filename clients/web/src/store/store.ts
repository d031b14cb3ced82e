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
  Address, ConversationId, ConversationSummary, EventId, Home, Language, Limits, Mark, PersonId, RoomDetail, RoomId, ServerFrame, You,
} from '../protocol';
import { backoff } from '../connection/backoff';
import { Connection, Stop, type Surroundings } from '../connection/connection';
import { NoAnswer, Refused, call } from '../connection/http';
import * as wire from '../connection/wire';
import { type Conversation, unheard, withEvent, withMark, withRead, withSummary } from './conversation';
import { History } from './history';
import { Keeper } from './keeper';
import { Marks } from './marks';
import { type Deed, Outbox } from './outbox';
import { byTitle, type Room, withHeard } from './room';
import { Storage } from './storage';
import { Typing } from './typing';
import { newId } from './uuid';

/** What the screens may be waiting for. */
export type Phase = 'opening' | 'signed_out' | 'ready';

/** Names of people and classes are not told as they change: they are fetched again when somebody looks at the page after this. */
const STALE_MS = 10 * 60_000;

/** What may wait is fetched after this and a random time more: a school's list that is taken in moves many, and is news to many. */
const SOON_MS = 500;

/** What a page tells the others when somebody signs out of it: first to stop writing, then to begin anew. */
type Parting = 'leaving' | 'left';

export class Store {
  readonly phase = signal<Phase>('opening');
  /** Why the first fetch failed, while there is nothing on the device to show. */
  readonly trouble = signal<string | null>(null);
  readonly you = signal<You | null>(null);
  readonly rooms = signal<readonly Room[]>([]);
  readonly conversations = signal<ReadonlyMap<ConversationId, Conversation>>(new Map());
  readonly #writers = new Typing();
  readonly typing = this.#writers.now;
  readonly limits = signal<Limits | null>(null);
  /** The last mark of another person that came in announcements: the reach lines listen. */
  readonly announced = signal<{ conversation: ConversationId; mark: Mark } | null>(null);
  /** Conversations whose older messages are being fetched, or could not be. */
  readonly history: History['state'];
  readonly connection: Connection;
  readonly outbox: Outbox;
  readonly marks: Marks;
  readonly line = computed(() => this.connection.line.value);

  readonly #storage: Storage;
  readonly #keeper: Keeper;
  readonly #older: History;
  /** The other pages of this browser: what is kept on the device is kept for all of them. */
  readonly #pages = globalThis.BroadcastChannel && globalThis.location ? new BroadcastChannel('homeroom') : null;
  /** The id of the last event taken in, by room. */
  readonly #positions = new Map<RoomId, EventId | null>();
  /** Rooms of which a snapshot was merged; only their positions mean anything. */
  readonly #held = new Set<RoomId>();
  /** Counts what makes an earlier snapshot useless. */
  #epoch = 0;
  #refreshing: Promise<void> | null = null;
  #refreshedAt = 0;
  #again = false;
  #later: ReturnType<typeof setTimeout> | undefined;
  /** How often in a row it could not be fetched. */
  #failures = 0;
  /** Counts sign-ins: what was asked for in an earlier one is not for the eyes of the next. */
  #visit = 0;
  readonly #forgetMore: () => void;

  /** `forgetMore` is called when a sign-in is over: it forgets what the screens keep on the device by themselves. */
  constructor(storage = new Storage(), surroundings?: Surroundings, forgetMore: () => void = () => undefined) {
    this.#storage = storage;
    this.#forgetMore = forgetMore;
    this.#keeper = new Keeper(storage, {
      you: () => this.you.value,
      rooms: () => this.rooms.value,
      conversation: (id) => this.conversations.value.get(id),
      position: (room) => (this.#held.has(room) ? this.#positions.get(room) ?? null : undefined),
      stored: (conversation) => this.#noteDelivered(conversation),
    });
    this.#older = new History({
      conversation: (id) => this.conversations.value.get(id),
      put: (conversation) => {
        this.#put(conversation);
        this.#keeper.save();
      },
      failed: (error) => void this.#refusedForGood(error),
    });
    this.history = this.#older.state;
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
      kept: () => storage.pending(),
      heard: (id) => this.conversations.value.get(id)?.n ?? 0,
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
      for (const conversation of mine) this.#keeper.found(conversation);
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
    await this.#keeper.clear();
    // Again: somebody may have written on until now.
    this.#forgetMore();
    tell('left');
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

  /** Signs out. Throws unless the server has ended the sign-in, or does not know it any more: until then it is still good. */
  async signOut(): Promise<void> {
    try {
      await call('POST', 'sign-out', () => undefined);
    } catch (error) {
      if (!isSignedOut(error)) throw error;
    }
    await this.signedOut();
  }

  /** Ends the connection, and forgets what was about to be stored, told or fetched, and what only the screens know of. */
  #letGo(): void {
    this.connection.stop();
    this.#visit += 1;
    clearTimeout(this.#later);
    this.#later = undefined;
    this.#refreshing = null;
    this.#again = false;
    this.#failures = 0;
    batch(() => {
      this.#older.clear();
      this.marks.clear();
      this.#writers.clear();
      this.announced.value = null;
      this.trouble.value = null;
    });
    this.#keeper.letGo();
    this.#forgetMore();
  }

  /** Changes the person's language; what is shown follows. */
  async speak(language: Language): Promise<void> {
    const visit = this.#visit;
    const you = await call('PATCH', 'me', wire.me, { language });
    if (visit !== this.#visit) return;
    this.you.value = you;
    this.#keeper.you();
    this.#keeper.save();
  }

  /** Somebody looks at the page again: come back at once, or find out whether the line that seems to be there still is. */
  lookedAt(): void {
    this.connection.hurry();
    if (this.line.value === 'live' && performance.now() - this.#refreshedAt > STALE_MS) void this.refresh();
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
    this.#keeper.save();
  }

  /** Fetches the page before what is held. */
  async older(id: ConversationId): Promise<void> {
    await this.#older.older(id);
  }

  /** Before each try to connect. A device that knows nothing yet fetches the first screen. */
  async #prepare(): Promise<Record<RoomId, EventId | null>> {
    if (this.#held.size === 0) {
      const visit = this.#visit;
      const over = () => visit !== this.#visit;
      try {
        const home = await call('GET', 'home', wire.home);
        if (over()) throw new NoAnswer('it was for somebody else');
        this.#merge(home, this.#epoch);
        this.trouble.value = null;
      } catch (error) {
        // Whoever signed in meanwhile asks for themselves at the next try.
        if (over()) throw error;
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
        this.#older.retry();
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
        this.#keeper.position(frame.room);
        if (frame.kind === 'member_joined' || frame.kind === 'member_left') this.#refreshLater(1);
        if (frame.conversation && frame.n !== undefined) {
          const address: Address = frame.about ? { kind: 'private', ...frame.about } : { kind: 'announcements' };
          this.#put(withEvent(this.conversation(frame.conversation, frame.room, address), frame));
          this.#older.heard(frame);
          this.outbox.seen(frame.conversation, frame.n);
          if ('message' in frame) {
            this.#writers.stopped(frame.conversation, frame.message.author);
            this.#heard(frame.room, frame.message.author);
          }
        }
        this.#keeper.save();
        return;
      }
      case 'caught_up':
        return this.#keeper.save();
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
        this.#forget(frame.room);
        this.#epoch += 1;
        void this.refresh();
        return;
      case 'mark': {
        this.#heard(frame.room, frame.person);
        const held = this.conversations.value.get(frame.conversation);
        const mark = { person: frame.person, delivered: frame.delivered, read: frame.read };
        if (held?.address.kind === 'announcements') this.announced.value = { conversation: held.id, mark };
        const moved = held && withMark(held, mark);
        if (moved && moved !== held) {
          this.#put(moved);
          this.#keeper.save();
        }
        return;
      }
      case 'typing':
        if (frame.person !== this.you.value?.person) this.#writers.seen(frame.conversation, frame.person);
        return;
      case 'error':
        // Without a ref that we know: nothing waits for it.
        console.error('refused', frame.code, frame.message);
        if (frame.code === 'unauthenticated') void this.signedOut();
        return;
      default:
        return;
    }
  }

  /** Something came from somebody of a room. */
  #heard(id: RoomId, person: PersonId): void {
    const room = this.rooms.value.find((one) => one.id === id);
    const heard = room && withHeard(room, person);
    if (!heard || heard === room) return;
    this.rooms.value = this.rooms.value.map((one) => (one === room ? heard : one));
    this.#keeper.room(id);
  }

  /** Fetches the first screen and the rooms' details anew, and merges them. One at a time; asked again meanwhile, once more. */
  refresh(): Promise<void> {
    if (this.#refreshing) {
      this.#again = true;
      return this.#refreshing;
    }
    clearTimeout(this.#later);
    this.#later = undefined;
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
        this.#refreshedAt = performance.now();
        await this.#fetchMissed(over);
        this.#failures = 0;
      } while (!over() && this.#again);
    };
    const refreshing = run()
      .catch((error: unknown) => {
        if (over() || this.#refusedForGood(error)) return;
        console.error('not refreshed', error);
        this.#refreshLater(this.#failures++);
      })
      .finally(() => {
        if (!over()) this.#refreshing = null;
      });
    this.#refreshing = refreshing;
    return refreshing;
  }

  /** Refreshes in a while, the longer the higher `attempt` is; once, however often it is asked for until then. */
  #refreshLater(attempt: number): void {
    this.#later ??= setTimeout(() => {
      this.#later = undefined;
      // If not, the next welcome will.
      if (this.line.value !== 'live') return;
      this.#older.retry();
      void this.refresh();
    }, SOON_MS + backoff(attempt));
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
      this.#keeper.you();
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
          this.#keeper.position(summary.room);
        }
        for (const one of summary.conversations) this.#mergeSummary(conversations, summary.room, one);
      }
      this.conversations.value = conversations;
      this.rooms.value = home.rooms
        .filter((summary) => this.#held.has(summary.room))
        .map(({ room, kind, title, school, role, students }) => {
          this.#keeper.room(room);
          const { staff = [], families = [], detailed = false } = known.get(room) ?? {};
          return { id: room, kind, title, school, role, students, staff, families, detailed };
        })
        .sort(byTitle);
      this.phase.value = 'ready';
    });
    this.#keeper.save();
  }

  #mergeSummary(into: Map<ConversationId, Conversation>, room: RoomId, summary: ConversationSummary): void {
    into.set(summary.conversation, withSummary(into.get(summary.conversation), room, summary, this.you.value?.person ?? ''));
    this.#keeper.conversation(summary.conversation);
  }

  #detail(detail: RoomDetail): void {
    this.rooms.value = this.rooms.value.map((room) =>
      room.id === detail.summary.room ? { ...room, staff: detail.staff, families: detail.families, detailed: true } : room,
    );
    this.#keeper.room(detail.summary.room);
    this.#keeper.save();
  }

  /** What came while this device was away and only a summary is held of: fetched before it is called delivered. */
  async #fetchMissed(over: () => boolean): Promise<void> {
    for (const { id } of [...this.conversations.value.values()]) {
      let from: number | undefined;
      for (;;) {
        const held = this.conversations.value.get(id);
        if (!held?.more || held.from <= held.mine.delivered + 1 || this.history.value.get(id) === 'failed') break;
        // A page that brought nothing would do so for ever.
        if (held.from === from) break;
        from = held.from;
        const trouble = await this.#older.older(id, 100);
        if (over()) return;
        // The others would be refused as well: all of them later.
        if (trouble instanceof NoAnswer || (trouble instanceof Refused && trouble.fault.retryable)) throw trouble;
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
    const stored = this.#keeper.stored(held.id);
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

  #put(conversation: Conversation): void {
    this.conversations.value = new Map(this.conversations.value).set(conversation.id, conversation);
    this.#keeper.conversation(conversation.id);
  }

  #forgetContent(room: RoomId): void {
    const gone = [...this.conversations.value.values()].filter((conversation) => conversation.room === room);
    const conversations = new Map(this.conversations.value);
    for (const { id } of gone) {
      conversations.delete(id);
      this.#older.forget(id);
      this.#keeper.forgetConversation(id);
    }
    this.conversations.value = conversations;
    this.#positions.delete(room);
    this.#held.delete(room);
  }

  #forget(room: RoomId): void {
    this.#forgetContent(room);
    this.rooms.value = this.rooms.value.filter((one) => one.id !== room);
    this.#keeper.forgetRoom(room);
    this.#keeper.save();
  }

  /** Whether the server says to sign in again; then the way in is shown. */
  #refusedForGood(error: unknown): boolean {
    if (isSignedOut(error)) {
      void this.signedOut();
      return true;
    }
    if (!(error instanceof Refused) && !(error instanceof NoAnswer)) console.error(error);
    return false;
  }
}

/** The one refusal that says that this sign-in is over. */
function isSignedOut(error: unknown): boolean {
  return error instanceof Refused && error.status === 401;
}

/** A room that its person has just left is not there for them; its `left` is on the way. */
function leftMeanwhile(error: unknown): null {
  if (error instanceof Refused && error.status === 404) return null;
  throw error;
}
