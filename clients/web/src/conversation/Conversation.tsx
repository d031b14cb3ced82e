/**
 * A conversation on the screen: who is in it, what was said, and where to write.
 *
 * Owns: the list with its separators, scrolling and paging. Refuses to know: sending, storing, and reach.
 */
import { useCallback, useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { HOME, linkTo, store } from '../page';
import { t } from '../i18n';
import type { EventId, Message } from '../protocol';
import { AnnounceComposer } from '../reach/AnnounceComposer';
import { ReachLine } from '../reach/ReachLine';
import { type Conversation, reached } from '../store/conversation';
import { type Room, nameIn } from '../store/room';
import { conversationId } from '../store/uuid';
import { Icon } from '../ui/Icon';
import { memo } from '../ui/memo';
import { Empty, Skeleton, Trouble } from '../ui/states';
import { Bubble, PendingBubble } from './Bubble';
import { Composer } from './Composer';
import { type Entry, entries, firstNew } from './entries';
import { ConversationHead } from './Head';
import { readUpTo, useReading } from './reading';

/** So near to its end a list counts as being there. */
const NEAR_PX = 80;
/** A screen full: with less than this held, the page before is fetched at once. */
const SCREEN_FULL = 15;
/** So many messages at most are drawn at the end of a long conversation; more as somebody goes up. */
const DRAWN = 50;
/** Of what is new so many at most are fetched and drawn on opening, to begin with the first: whoever left more goes up by hand. */
const NEW = 300;
/** The oldest that are drawn are let go so many at a time, and not one for each new one. */
const STEP = 20;
/** Of so many announcements the reach is fetched unasked; of older ones on request. */
const REPORTS = 3;

export function ConversationPane({ room, conversation }: { room: Room; conversation: Conversation }) {
  const [editing, setEditing] = useState<Message | null>(null);
  useEffect(() => setEditing(null), [conversation.id]);
  const goesOn = useRef(false);
  const done = () => {
    goesOn.current = true;
    setEditing(null);
  };
  // Whoever wrote goes on where one writes, once the field that had the keyboard is gone: a frame may come before that is drawn.
  useLayoutEffect(() => {
    if (editing || !goesOn.current) return;
    goesOn.current = false;
    document.querySelector<HTMLElement>('.composer textarea')?.focus();
  }, [editing]);
  const edited = editing && conversation.messages.find((message) => message.id === editing.id);
  // The same one for as long as the conversation is open: rows that are given another are drawn anew.
  const { id } = conversation;
  const takeBack = useCallback((message: EventId) => {
    const held = store.conversations.peek().get(id);
    if (held) void store.act(held, { kind: 'retract', message });
  }, [id]);
  return (
    <>
      <ConversationHead room={room} conversation={conversation} />
      <Messages key={conversation.id} room={room} conversation={conversation} edit={setEditing} takeBack={takeBack} />
      <Beneath room={room} conversation={conversation} />
      {edited?.envelope
        ? <EditComposer conversation={conversation} message={edited} done={done} />
        : <Writing room={room} conversation={conversation} />}
    </>
  );
}

interface ListProps {
  room: Room;
  conversation: Conversation;
  edit: (message: Message) => void;
  takeBack: (message: EventId) => void;
}

function Messages({ room, conversation, edit, takeBack }: ListProps) {
  const { id, more, from } = conversation;
  /** As it was when it was opened; after a reset, as it came anew. */
  const opened = useRef(conversation);
  if (opened.current.n === 0 || conversation.n < opened.current.n) opened.current = conversation;
  const { read: newAfter, n: openedAt } = opened.current;
  const [below, setBelow] = useState(0);
  const list = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  const before = useRef({ height: 0, first: '', last: '' });
  /** The number of the first message that is drawn, while somebody reads further up. */
  const top = useRef(0);
  const [, draw] = useState(0);
  const { messages } = conversation;
  // What was new when it was opened is drawn from its first message on, until that was read; what has come since is followed.
  const begins = firstNew(conversation, newAfter)?.n ?? Infinity;
  const unread = begins <= openedAt && begins > conversation.read;
  if (atEnd.current) {
    const at = (index: number) => messages[Math.max(0, index)]?.n ?? 0;
    top.current = Math.min(at(firstAtEnd(messages.length)), unread ? Math.max(begins, at(messages.length - NEW)) : Infinity);
  }
  const shown = entries(conversation, store.outbox.pending.value, newAfter, undefined, top.current);
  const hidden = messages[0] !== undefined && messages[0].n < top.current;
  const history = store.history.value.get(id);
  const lastKey = shown.at(-1)?.key ?? '';

  useEffect(() => {
    const wanted = from > newAfter + 1 ? NEW : SCREEN_FULL;
    if (more && messages.length < wanted && history === undefined) void store.older(id);
  }, [id, more, from, history]);

  // Scrolling follows what is new while its reader is at the end, and stays put when older messages come in above.
  useLayoutEffect(() => {
    const box = list.current;
    if (!box) return;
    const was = before.current;
    const first = shown[0]?.key ?? '';
    if (first !== was.first && lastKey === was.last && !atEnd.current) box.scrollTop += box.scrollHeight - was.height;
    else if (lastKey !== was.last) {
      const mine = shown.at(-1)?.kind === 'pending';
      if (atEnd.current || mine || was.last === '') box.scrollTop = box.scrollHeight;
      else setBelow((count) => count + 1);
    } else if (atEnd.current) box.scrollTop = box.scrollHeight;
    before.current = { height: box.scrollHeight, first, last: lastKey };
  });

  // What grows by itself, a reach report or a keyboard on the screen, does not push the end out of sight.
  useEffect(() => {
    const box = list.current;
    if (!box) return;
    const observer = new ResizeObserver(() => {
      if (atEnd.current) box.scrollTop = box.scrollHeight;
      // A higher box may show the end without anybody having scrolled.
      else look();
    });
    observer.observe(box);
    for (const inside of box.children) observer.observe(inside);
    return () => observer.disconnect();
  }, [id]);

  // To the first new message, if there is one: on opening, or when it has come in, unless somebody reads further up already.
  useLayoutEffect(() => {
    const line = list.current?.querySelector('.new-line');
    if (!line || !unread || !atEnd.current) return;
    line.scrollIntoView({ block: 'start' });
    onScroll();
  }, [id, begins]);

  useReading(list, id, (seen) => store.read(id, readUpTo(conversation, seen)));

  /** Notes whether the end is in sight. */
  const look = () => {
    const box = list.current;
    if (!box) return;
    atEnd.current = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_PX;
    if (atEnd.current) setBelow(0);
  };
  const onScroll = () => {
    const box = list.current;
    if (!box) return;
    look();
    // A screen ahead, so that there is more before its reader comes to it.
    if (box.scrollTop < box.clientHeight && !atEnd.current && history === undefined) goUp();
  };
  /** Draws more of what is held, and fetches what is not, before its reader comes to it. */
  const goUp = () => {
    atEnd.current = false;
    const drawMore = () => {
      const held = store.conversations.peek().get(id)?.messages ?? messages;
      const at = held.findIndex(({ n }) => n >= top.current);
      top.current = held[Math.max(0, at - DRAWN)]?.n ?? 0;
      draw((times) => times + 1);
    };
    if (hidden) drawMore();
    else if (more) void store.older(id).then(drawMore);
  };
  const toEnd = () => {
    const box = list.current;
    if (box) box.scrollTop = box.scrollHeight;
  };

  return (
    <div class="messages-place">
      <div class="messages" ref={list} onScroll={onScroll} tabIndex={0} role="region" aria-label={t.messages}>
        <Older conversation={conversation} hidden={hidden} goUp={goUp} />
        {shown.length === 0 && !more && <Nothing room={room} conversation={conversation} />}
        {shown.length === 0 && more && history === 'loading' && <Skeleton />}
        <ol>
          {shown.map((entry) => (
            <Row key={entry.key} entry={entry} room={room} conversation={conversation} edit={edit} takeBack={takeBack} />
          ))}
        </ol>
      </div>
      {below > 0 && (
        <button type="button" class="button below" onClick={toEnd}><Icon name="down" /> {t.newBelow(below)}</button>
      )}
      <Announcer room={room} conversation={conversation} />
    </div>
  );
}

function Row({ entry, room, conversation, edit, takeBack }: ListProps & { entry: Entry }) {
  if (entry.kind === 'day') return <li class="day"><span>{entry.name}</span></li>;
  if (entry.kind === 'new') return <li class="new-line"><span>{t.newFromHere}</span></li>;
  if (entry.kind === 'pending') return <li><Sending pending={entry.pending} /></li>;
  const { message, first, change } = entry;
  const own = message.author === conversation.mine.person;
  const forAll = conversation.address.kind === 'announcements';
  return (
    <li data-id={message.id}>
      <Said message={message} own={own} change={change}
        name={!own && first ? nameIn(room, message.author) ?? room.title : null}
        state={own ? (forAll ? 'sent' : reached(conversation, message)) : null}
        edit={edit} takeBack={takeBack} />
      {forAll && room.role === 'staff' && message.envelope && <ReachLine room={room} message={message} own={own} unasked={conversation.messages.slice(-REPORTS).includes(message)} />}
    </li>
  );
}

const Said = memo(Bubble);
const Sending = memo(PendingBubble);

/** Where to begin drawing at the end of so many messages. */
function firstAtEnd(messages: number): number {
  return Math.max(0, Math.ceil((messages - DRAWN) / STEP) * STEP);
}

function Older({ conversation, hidden, goUp }: { conversation: Conversation; hidden: boolean; goUp: () => void }) {
  const history = store.history.value.get(conversation.id);
  if (!conversation.more && !hidden) return null;
  if (history === 'failed') {
    return <Trouble title={t.olderFailed} retry={goUp} />;
  }
  if (conversation.messages.length < SCREEN_FULL) return null;
  return (
    <p class="older">
      <button type="button" class="button quiet" disabled={history === 'loading'} onClick={goUp}>
        {history === 'loading' ? t.olderLoading : t.older}
      </button>
    </p>
  );
}

function Nothing({ room, conversation }: { room: Room; conversation: Conversation }) {
  const { address } = conversation;
  if (address.kind === 'announcements') return <Empty>{room.role === 'staff' ? t.noAnnouncementsYet : t.noMessagesYet}</Empty>;
  const who = room.role === 'staff' ? nameIn(room, address.guardian) ?? t.somebody : t.theTeachers.toLocaleLowerCase();
  return <Empty>{t.noMessages(who)}</Empty>;
}

/** Tells screen readers of what comes in while the conversation is open. */
function Announcer({ room, conversation }: { room: Room; conversation: Conversation }) {
  const newest = conversation.messages.at(-1);
  const opened = useRef(newest?.n ?? 0);
  const fresh = newest && newest.n > opened.current && newest.author !== conversation.mine.person && newest.envelope;
  return (
    <div class="visually-hidden" aria-live="polite">
      {fresh ? t.newMessageFrom(nameIn(room, newest.author) ?? room.title, fresh.text) : ''}
    </div>
  );
}

/** Who is writing; else who can read what is written here. */
function Beneath({ room, conversation }: { room: Room; conversation: Conversation }) {
  const typing = store.typing.value.get(conversation.id);
  const { address } = conversation;
  if (typing) return <p class="beneath typing">{t.isWriting(nameIn(room, typing.person) ?? t.somebody)}</p>;
  if (address.kind === 'announcements') return null;
  const guardian = nameIn(room, address.guardian) ?? t.somebody;
  return (
    <p class="beneath">
      <Icon name="lock" /> <span>{room.role === 'staff' ? t.between(guardian, room.title) : t.betweenYou(room.title)}</span>
    </p>
  );
}

function EditComposer({ conversation, message, done }: { conversation: Conversation; message: Message; done: () => void }) {
  const language = message.envelope?.language ?? 'en';
  return (
    <Composer key={message.id} draftKey={`edit ${message.id}`} initial={message.envelope?.text} label={t.edit} action={t.save}
      above={<p class="composer-note">{t.editing}</p>} cancel={done}
      submit={(text) => {
        if (text !== message.envelope?.text) {
          void store.act(conversation, { kind: 'edit', message: message.id, draft: { language, text, protected: [] } });
        }
        done();
      }} />
  );
}

function Writing({ room, conversation }: { room: Room; conversation: Conversation }) {
  const { address } = conversation;
  if (address.kind === 'announcements') {
    return room.role === 'staff' ? <AnnounceComposer key={conversation.id} room={room} conversation={conversation} /> : <ToTeachers room={room} />;
  }
  const language = store.you.value?.language ?? 'en';
  const who = room.role === 'staff' ? nameIn(room, address.guardian) ?? t.somebody : t.theTeachers.toLocaleLowerCase();
  return (
    <Composer key={conversation.id} draftKey={conversation.id} label={t.writeTo(who)} action={t.send}
      writing={() => void store.connection.send({ type: 'typing', room: room.id, to: address }).catch(() => undefined)}
      submit={(text) => void store.act(conversation, { kind: 'post', to: address, draft: { language, text, protected: [] }, urgent: false })} />
  );
}

/** Announcements are not answered in front of all: the way to the teachers, about each child. */
function ToTeachers({ room }: { room: Room }) {
  if (room.kind !== 'class') return null;
  return (
    <div class="to-teachers">
      {room.students.map((student) => {
        const to = conversationId(room.id, { kind: 'private', guardian: store.you.value?.person ?? '', student: student.person });
        return (
          <a class="button wide" href={linkTo(room.id, to)} key={student.person}>
            <Icon name="message" /> {t.writeTo(t.theTeachers.toLocaleLowerCase())} · {student.name.split(/\s+/)[0]}
          </a>
        );
      })}
    </div>
  );
}

/** Where there is nothing (any more) at this address. */
export function NotYours({ words }: { words: string }) {
  return (
    <Empty title={words}>
      <a href={HOME}>{t.home}</a>
    </Empty>
  );
}
