/**
 * A conversation as this device knows it, and how what comes in is merged into it.
 *
 * Owns: the rules of merging by (conversation, n), and what counts as unread. Refuses to know: sockets, storage, the
 * screen. All functions are pure: they give a new value, or the same one when nothing changed.
 *
 * What is held is one stretch without holes: every message with `from <= n`. `n` numbers edits and retractions too, so
 * the last number may be higher than that of the last message.
 */
import type {
  Address, ConversationId, ConversationSummary, Event, Mark, Message, PersonId, RoomId,
} from '../protocol';

export interface Conversation {
  readonly id: ConversationId;
  readonly room: RoomId;
  readonly address: Address;
  /** The last number known. */
  readonly n: number;
  /** All messages with this number or a higher one are held. */
  readonly from: number;
  /** Whether there are older ones on the server. */
  readonly more: boolean;
  /** By rising n. */
  readonly messages: readonly Message[];
  /** The person's own marks, as the server knows them. */
  readonly mine: Mark;
  /** Read on this device up to here; ahead of `mine.read` until the server has heard of it. */
  readonly read: number;
  /** The marks of others. */
  readonly others: Readonly<Record<PersonId, Mark>>;
  /** What the server counted as unread when `at` was the last number; for where the stretch held does not reach. */
  readonly counted: { readonly at: number; readonly unread: number };
}

/** A conversation in which nothing was said yet. */
export function unheard(id: ConversationId, room: RoomId, address: Address, me: PersonId): Conversation {
  return {
    id, room, address, n: 0, from: 1, more: false, messages: [],
    mine: { person: me, delivered: 0, read: 0 }, read: 0, others: {}, counted: { at: 0, unread: 0 },
  };
}

/**
 * Puts messages in their places, each once. Of a message that is held already the event's stands, always: events come in order, each
 * with the message as it stood when it was sent, so the last one is right. A page only adds: it may have been read before an
 * edit whose event is in already.
 */
function withMessages(held: readonly Message[], given: readonly Message[], wins: 'given' | 'held'): readonly Message[] {
  if (given.length === 0) return held;
  const [first] = given;
  if (given.length === 1 && first && first.n > (held.at(-1)?.n ?? 0)) return [...held, first];
  const byN = new Map(held.map((message) => [message.n, message]));
  for (const message of given) {
    const known = byN.get(message.n);
    // What was taken back stays so, whoever says otherwise.
    if (!known || (wins === 'given' && (message.retracted_at || !known.retracted_at))) byN.set(message.n, message);
  }
  return [...byN.values()].sort((a, b) => a.n - b.n);
}

function furthest(a: Mark | undefined, b: Mark): Mark {
  if (!a) return b;
  if (b.delivered <= a.delivered && b.read <= a.read) return a;
  return { person: b.person, delivered: Math.max(a.delivered, b.delivered), read: Math.max(a.read, b.read) };
}

/** Takes an event in. One whose number is known already only brings its message up to date. */
export function withEvent(held: Conversation, event: Event): Conversation {
  const n = event.n ?? 0;
  const message = 'message' in event ? event.message : undefined;
  if (n > held.n + 1 && held.n > 0) {
    // Numbers have no holes; if one is missing all the same, what is held is no longer one stretch: begin a new one here
    // and let the pages of history fill in what is before.
    held = { ...held, messages: [], from: n, more: true, counted: { at: held.n, unread: held.counted.unread } };
  } else if (n > 1 && held.n === 0 && held.messages.length === 0) {
    // The first we hear of it is not its first: there is more before (from before our time, or not fetched yet).
    held = { ...held, from: n, more: true };
  }
  const fits = message && message.n >= held.from;
  return {
    ...held,
    n: Math.max(held.n, n),
    messages: fits ? withMessages(held.messages, [message], 'given') : held.messages,
  };
}

/**
 * Takes a page of history in, newest first, that was asked for with `before`. `later` is what events said of messages before
 * the stretch while the page was on its way: it may have been read before them, so they stand.
 */
export function withPage(
  held: Conversation, before: number, messages: readonly Message[], more: boolean, later: readonly Message[] = [],
): Conversation {
  // Somebody asked for a page that does not touch what is held: it would leave a hole.
  if (before < held.from) return held;
  const oldest = messages.at(-1)?.n;
  const older = more && oldest !== undefined;
  const from = older ? Math.min(held.from, oldest) : 1;
  const page = withMessages(withMessages([], messages, 'given'), later.filter(({ n }) => n >= from), 'given');
  return { ...held, messages: withMessages(held.messages, page, 'held'), from, more: older };
}

/** Takes a summary in. For a conversation that is followed already it only moves marks: its events bring the rest. */
export function withSummary(held: Conversation | undefined, room: RoomId, summary: ConversationSummary, me: PersonId): Conversation {
  const fresh = held ?? unheard(summary.conversation, room, summary.address, me);
  const others = { ...fresh.others };
  for (const mark of summary.others) others[mark.person] = furthest(others[mark.person], mark);
  const mine = furthest(fresh.mine, summary.mine);
  const marks = { mine, others, read: Math.max(fresh.read, mine.read) };
  if (held && held.n > 0) {
    return { ...held, ...marks, counted: summary.n <= held.n ? { at: summary.n, unread: summary.unread } : held.counted };
  }
  const messages = summary.last ? [summary.last] : [];
  return {
    ...fresh,
    ...marks,
    n: Math.max(fresh.n, summary.n),
    from: summary.last?.n ?? summary.n + 1,
    more: summary.last ? summary.last.n > 1 : summary.n > 0,
    messages,
    counted: { at: summary.n, unread: summary.unread },
  };
}

/** Moves somebody's marks; never back. */
export function withMark(held: Conversation, mark: Mark): Conversation {
  if (mark.person === held.mine.person) {
    const mine = furthest(held.mine, mark);
    return mine === held.mine ? held : { ...held, mine, read: Math.max(held.read, mine.read) };
  }
  const moved = furthest(held.others[mark.person], mark);
  return moved === held.others[mark.person] ? held : { ...held, others: { ...held.others, [mark.person]: moved } };
}

/** Notes what was read on this device; never back, never past the end. */
export function withRead(held: Conversation, n: number): Conversation {
  const read = Math.min(n, held.n);
  return read > held.read ? { ...held, read } : held;
}

/** Messages by others that the person has not read. */
export function unread(held: Conversation): number {
  const after = (n: number) => {
    let count = 0;
    // From the end: what is unread is short, what is held may be long.
    for (let i = held.messages.length - 1; i >= 0; i--) {
      const message = held.messages[i]!;
      if (message.n <= n) break;
      if (message.author !== held.mine.person && !message.retracted_at) count += 1;
    }
    return count;
  };
  const counted = after(held.read);
  // Where what is held does not reach back to what was read, the server's count stands for the rest.
  if (held.from <= held.read + 1 || !held.more || held.read >= held.counted.at) return counted;
  return Math.max(counted, held.counted.unread + after(held.counted.at));
}

/** How far a message of one's own has come, from the marks of those it is for: the guardian, or anyone of the staff. */
export function reached(held: Conversation, message: Message): 'sent' | 'delivered' | 'read' {
  const guardian = held.address.kind === 'private' && held.address.guardian !== held.mine.person ? held.address.guardian : null;
  const marks = Object.values(held.others).filter((mark) => guardian === null || mark.person === guardian);
  if (marks.some((mark) => mark.read >= message.n)) return 'read';
  if (marks.some((mark) => mark.delivered >= message.n)) return 'delivered';
  return 'sent';
}
