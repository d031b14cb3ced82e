/**
 * The families of a class, sorted by what needs an answer.
 *
 * Owns: when a guardian waits for an answer, and the order. Refuses to know: how a row looks.
 */
import { inOrder } from '../i18n';
import type { ConversationId, Family, Guardian, Message } from '../protocol';
import { type Conversation, unread } from '../store/conversation';

/** One guardian about one student. */
export interface Line {
  guardian: Guardian;
  conversation: Conversation | undefined;
  last: Message | undefined;
  unread: number;
  /** The guardian spoke last. */
  waits: boolean;
}

/** One student with their guardians. */
export interface Row {
  family: Family;
  lines: Line[];
  waits: boolean;
  latest: string;
}

/** Rows as they were made last: one in which nothing was said since is the same one, and need not be drawn again. */
const made = new WeakMap<Family, Row>();

function rowOf(family: Family, conversations: ReadonlyMap<ConversationId, Conversation>): Row {
  const known = made.get(family);
  if (known && known.lines.every(({ guardian, conversation }) => conversations.get(guardian.conversation) === conversation)) return known;
  const lines = family.guardians.map((guardian) => line(guardian, conversations.get(guardian.conversation)));
  const waiting = lines.filter((one) => one.waits);
  const latest = waiting.map((one) => one.last?.at ?? '').sort().at(-1) ?? '';
  const row = { family, lines, waits: waiting.length > 0, latest };
  made.set(family, row);
  return row;
}

/** Rows whose guardians wait for an answer, newest first; then the others, by the student's name. */
export function sorted(families: readonly Family[], conversations: ReadonlyMap<ConversationId, Conversation>): { waiting: Row[]; others: Row[] } {
  const rows = families.map((family) => rowOf(family, conversations));
  const waiting = rows.filter((row) => row.waits).sort((a, b) => (a.latest < b.latest ? 1 : -1));
  const others = rows.filter((row) => !row.waits)
    .sort((a, b) => inOrder(a.family.student.name, b.family.student.name));
  return { waiting, others };
}

function line(guardian: Guardian, conversation: Conversation | undefined): Line {
  const last = conversation?.messages.at(-1);
  const spoken = conversation?.messages.findLast((message) => !message.retracted_at);
  const count = conversation ? unread(conversation) : 0;
  return { guardian, conversation, last, unread: count, waits: count > 0 || spoken?.author === guardian.person };
}

/** Everything unread in a room. */
export function unreadIn(room: string, conversations: ReadonlyMap<ConversationId, Conversation>): number {
  let sum = 0;
  for (const conversation of conversations.values()) if (conversation.room === room) sum += unread(conversation);
  return sum;
}
