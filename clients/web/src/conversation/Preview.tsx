/** The newest message of a conversation in one line, for lists. */
import { t, when } from '../i18n';
import { store } from '../page';
import type { Conversation } from '../store/conversation';

/** What stands in the list for the conversation: what is being sent, else what was said last. */
export function lastSaid(conversation: Conversation | undefined): { text: string; language?: string; direction?: 'ltr' | 'rtl'; mine: boolean; at: string } | null {
  if (!conversation) return null;
  const pending = store.outbox.pending.value.findLast((item) => item.conversation === conversation.id && item.deed.kind === 'post');
  if (pending?.deed.kind === 'post') {
    return { text: pending.deed.draft.text, language: pending.deed.draft.language, mine: true, at: pending.at };
  }
  const last = conversation.messages.at(-1);
  if (!last) return null;
  const mine = last.author === conversation.mine.person;
  if (!last.envelope) return { text: mine ? t.takenBackByYou : t.takenBack, mine, at: last.at };
  return { text: last.envelope.text, language: last.envelope.language, direction: last.envelope.direction, mine, at: last.at };
}

export function Preview({ conversation, otherwise }: { conversation: Conversation | undefined; otherwise: string }) {
  const said = lastSaid(conversation);
  if (!said) return <span class="preview soft">{otherwise}</span>;
  // The text in a box of its own, in its own direction: what is too long is cut at its end, whichever side that is.
  return (
    <span class="preview said">
      {said.mine && <span class="soft">{t.you}: </span>}
      <bdi {...(said.language ? { lang: said.language } : {})}>{said.text}</bdi>
    </span>
  );
}

export function When({ conversation }: { conversation: Conversation | undefined }) {
  const said = lastSaid(conversation);
  return said ? <time class="when" dateTime={said.at}>{when(said.at)}</time> : null;
}

/** How many are new, in words for readers and as a number for eyes. */
export function Unread({ count }: { count: number }) {
  return count > 0 ? <span class="unread">{t.newCount(count)}</span> : null;
}
