/**
 * One message: its text in its own language and direction, and under it when, whether it was changed, and how far it came.
 *
 * Owns: how a message looks and what its author may do with it. Refuses to know: how it is sent.
 */
import { useRef, useState } from 'preact/hooks';
import { store } from '../page';
import { clock, t } from '../i18n';
import { directionOf } from '../i18n/direction';
import type { Envelope, EventId, Message, ProtectedSpan } from '../protocol';
import type { Pending } from '../store/outbox';
import { Facts } from '../ui/Facts';
import { Icon, type IconName } from '../ui/Icon';

export type State = 'sending' | 'waiting' | 'sent' | 'delivered' | 'read' | 'failed';

const ICONS: Record<State, IconName> = {
  sending: 'waiting', waiting: 'waiting', sent: 'sent', delivered: 'delivered', read: 'read', failed: 'failed',
};

export function StateWord({ state }: { state: State }) {
  return (
    <span class={`state state-${state}`}>
      <Icon name={ICONS[state]} /> {t[state]}
    </span>
  );
}

/** The text, with the links in it to click. The server has marked them; offsets count characters, not UTF-16 units. */
function Text({ envelope }: { envelope: Envelope }) {
  const links = envelope.protected.filter((span) => span.kind === 'link');
  if (links.length === 0) return <>{envelope.text}</>;
  const characters = [...envelope.text];
  const cut = (start: number, end?: number) => characters.slice(start, end).join('');
  let at = 0;
  const parts = links.flatMap((span: ProtectedSpan) => {
    const before = cut(at, span.start);
    const link = cut(span.start, span.end);
    at = span.end;
    const href = /^https?:\/\//i.test(link) ? link : null;
    return [before, href ? <a key={span.start} href={href} target="_blank" rel="noopener noreferrer" dir="ltr">{link}</a> : link];
  });
  return <>{parts}{cut(at)}</>;
}

interface Props {
  message: Message;
  own: boolean;
  /** The author's name, where it stands above the bubble. */
  name: string | null;
  state: State | null;
  change: Pending | undefined;
  edit: (message: Message) => void;
  takeBack: (message: EventId) => void;
}

export function Bubble({ message, own, name, state, change, edit, takeBack }: Props) {
  const [open, setOpen] = useState<'' | 'actions' | 'ask'>('');
  /** Whether an answer is still to come: a second tap on it may come before the first one is drawn. */
  const asking = useRef(false);
  const ask = () => {
    asking.current = true;
    setOpen('ask');
  };
  const sure = () => {
    if (!asking.current) return;
    asking.current = false;
    setOpen('');
    takeBack(message.id);
  };
  const pendingEdit = change?.deed.kind === 'edit' && change.state !== 'failed' ? change.deed.draft : null;
  const takingBack = change?.deed.kind === 'retract' && change.state !== 'failed';
  const envelope = message.envelope && pendingEdit ? { ...message.envelope, text: pendingEdit.text, protected: [] } : message.envelope;
  const may = own && envelope && !takingBack;
  return (
    <div class={`bubble-place ${own ? 'own' : 'their'}`}>
      {name && <p class="author">{name}</p>}
      <div class="bubble-line">
        {may && (
          <button type="button" class="icon-button bubble-more" aria-label={t.actions} aria-expanded={open !== ''}
            onClick={() => setOpen(open ? '' : 'actions')}>
            <Icon name="more" />
          </button>
        )}
        <div class={`bubble${message.urgent && envelope ? ' is-urgent' : ''}${envelope ? '' : ' gone'}`}>
          {message.urgent && envelope && <p class="urgent-word"><Icon name="failed" /> {t.urgent}</p>}
          {envelope
            ? <p class="text" key="said" lang={envelope.language} dir={envelope.direction}><Text envelope={envelope} /></p>
            : <p class="text" key="gone">{own ? t.takenBackByYou : t.takenBack}</p>}
        </div>
      </div>
      <p class="small-print">
        <Facts of={[
          <time dateTime={message.at}>{clock(message.at)}</time>,
          envelope && (message.edited_at || pendingEdit) && t.edited,
          takingBack ? t.takingBack
            : pendingEdit && change?.state === 'waiting' ? <StateWord state={store.line.value === 'live' ? 'sending' : 'waiting'} />
            : state && envelope && <StateWord state={state} />,
        ]} />
      </p>
      {change?.state === 'failed' && <Failed pending={change} />}
      {may && open === 'actions' && (
        <div class="actions">
          <button type="button" class="button quiet" onClick={() => { setOpen(''); edit(message); }}>{t.edit}</button>
          <button type="button" class="button quiet" onClick={ask}>{t.takeBack}</button>
        </div>
      )}
      {may && open === 'ask' && (
        <div class="actions ask" role="group" aria-label={t.takeBack}>
          <p>{t.takeBackAsk}</p>
          <button type="button" class="button danger" onClick={sure}>{t.takeBack}</button>
          <button type="button" class="button quiet" onClick={() => setOpen('')}>{t.keep}</button>
        </div>
      )}
    </div>
  );
}

function Failed({ pending }: { pending: Pending }) {
  return (
    <div class="actions failed" role="alert">
      <p><StateWord state="failed" /> – {pending.reason}</p>
      <button type="button" class="button quiet" onClick={() => void store.outbox.again(pending.clientId)}>{t.tryAgain}</button>
      <button type="button" class="button quiet" onClick={() => void store.outbox.discard(pending.clientId)}>{t.discard}</button>
    </div>
  );
}

/** A message that is still on its way. */
export function PendingBubble({ pending }: { pending: Pending }) {
  if (pending.deed.kind !== 'post') return null;
  const { draft, urgent } = pending.deed;
  const state: State =
    pending.state === 'failed' ? 'failed' : pending.state === 'sent' ? 'sent' : store.line.value === 'live' ? 'sending' : 'waiting';
  return (
    <div class="bubble-place own">
      <div class="bubble-line">
        <div class={`bubble${urgent ? ' is-urgent' : ''}`}>
          {urgent && <p class="urgent-word"><Icon name="failed" /> {t.urgent}</p>}
          <p class="text" lang={draft.language} dir={directionOf(draft.language)}>{draft.text}</p>
        </div>
      </div>
      <p class="small-print">
        <Facts of={[<time dateTime={pending.at}>{clock(pending.at)}</time>, state !== 'failed' && <StateWord state={state} />]} />
      </p>
      {state === 'failed' && <Failed pending={pending} />}
    </div>
  );
}
