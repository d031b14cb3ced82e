/**
 * What stands in a conversation, from top to bottom: days, messages, what is still being sent.
 *
 * Owns: the order and the separators. Refuses to know: how they look.
 */
import type { Message } from '../protocol';
import { dayName } from '../i18n';
import type { Conversation } from '../store/conversation';
import type { Pending } from '../store/outbox';

export type Entry =
  | { kind: 'day'; key: string; name: string }
  | { kind: 'new'; key: string }
  | { kind: 'message'; key: string; message: Message; first: boolean; change: Pending | undefined }
  | { kind: 'pending'; key: string; pending: Pending };

/** The first message by others after what had been read; not known while there may be one that is not held. */
export function firstNew(held: Conversation, newAfter: number): Message | undefined {
  if (held.more && held.from > newAfter + 1) return undefined;
  return held.messages.find((message) => message.n > newAfter && message.author !== held.mine.person);
}

/**
 * The entries of a conversation. `newAfter` is what had been read when it was opened: the first message by others after
 * it gets a line above it. Only those from the message number `from` on are made: nobody sees the others.
 */
export function entries(held: Conversation, pending: readonly Pending[], newAfter: number, now = new Date(), from = 0): Entry[] {
  const all: Entry[] = [];
  const own = pending.filter((item) => item.conversation === held.id);
  const arrived = new Set(own.length > 0 ? held.messages.map((message) => message.client_id) : []);
  const begins = firstNew(held, newAfter);
  let day = '';
  let author = '';
  const onDay = (at: string) => {
    const name = dayName(at, now);
    if (name === day) return;
    day = name;
    author = '';
    all.push({ kind: 'day', key: `day ${at}`, name });
  };
  for (const message of held.messages) {
    if (message.n < from) continue;
    onDay(message.at);
    if (message === begins) {
      author = '';
      all.push({ kind: 'new', key: 'new' });
    }
    const change = own.findLast((item) => item.deed.kind !== 'post' && item.deed.message === message.id);
    // Keyed by what its author's device called it, so that the bubble stays the same when it arrives.
    all.push({ kind: 'message', key: message.client_id, message, first: message.author !== author, change });
    author = message.author;
  }
  for (const item of own) {
    if (item.deed.kind !== 'post' || arrived.has(item.clientId)) continue;
    onDay(item.at);
    all.push({ kind: 'pending', key: item.clientId, pending: item });
  }
  return all;
}
