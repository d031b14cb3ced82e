/**
 * A family's first screen: the children first, and per child what is new and whom to write to.
 *
 * Owns: the cards. Refuses to know: what is inside the conversations.
 */
import type { Person } from '../protocol';
import { HOME, SETTINGS, linkTo, place, store } from '../page';
import { Preview, Unread, When } from '../conversation/Preview';
import { greeting, inOrder, t } from '../i18n';
import { unread } from '../store/conversation';
import type { Room } from '../store/room';
import { conversationId } from '../store/uuid';
import { Icon } from '../ui/Icon';
import { Empty } from '../ui/states';
import { Avatar } from './Avatar';
import { names } from './names';

interface Child {
  student: Person;
  rooms: Room[];
}

/** The children of a guardian's class rooms, by name, each with their classes. */
export function childrenOf(rooms: readonly Room[]): Child[] {
  const children = new Map<string, Child>();
  for (const room of rooms) {
    if (room.role !== 'guardian' || room.kind !== 'class') continue;
    for (const student of room.students) {
      const child = children.get(student.person) ?? { student, rooms: [] };
      child.rooms.push(room);
      children.set(student.person, child);
    }
  }
  return [...children.values()].sort((a, b) => inOrder(a.student.name, b.student.name));
}

export function TopBar() {
  const given = store.you.value?.name.split(/\s+/)[0] ?? '';
  return (
    <header class="top">
      <h2><a href={HOME} class="plain">{greeting(given)}</a></h2>
      <a class="icon-button" href={SETTINGS} aria-label={t.settings}>
        <Icon name="settings" />
      </a>
    </header>
  );
}

/** The children's cards; `beside` a teacher's classes, where they need a heading to be told from them. */
export function FamilyHome({ beside }: { beside: boolean }) {
  const children = childrenOf(store.rooms.value);
  const schools = store.rooms.value.filter((room) => room.kind === 'school' && room.role === 'guardian');
  if (children.length === 0) return <Empty title={t.noChildren}>{t.noChildrenHint}</Empty>;
  return (
    <>
      <h2 class={beside ? 'list-head' : 'visually-hidden'}>{t.yourChildren}</h2>
      {children.map((child) => <ChildCard child={child} key={child.student.person} />)}
      {schools.map((room) => (
        <section class="card" key={room.id}>
          <h3 class="card-head plain-head">{room.title}</h3>
          <ul class="rows"><AnnouncementsRow room={room} /></ul>
        </section>
      ))}
    </>
  );
}

function ChildCard({ child }: { child: Child }) {
  const all = store.conversations.value;
  const mine = child.rooms.flatMap((room) => [
    all.get(conversationId(room.id, { kind: 'announcements' })),
    all.get(conversationId(room.id, { kind: 'private', guardian: store.you.value?.person ?? '', student: child.student.person })),
  ]);
  const news = mine.reduce((sum, conversation) => sum + (conversation ? unread(conversation) : 0), 0);
  return (
    <section class="card" aria-label={child.student.name}>
      <h3 class="card-head">
        <Avatar person={child.student} large />
        <span class="card-title">
          <strong>{child.student.name}</strong>
          <span class="soft">{child.rooms.map((room) => room.title).join(' · ')}</span>
        </span>
        {news > 0 ? <Unread count={news} /> : <span class="quiet-word">{t.allQuiet}</span>}
      </h3>
      <ul class="rows">
        {child.rooms.map((room) => [
          <StaffRow room={room} student={child.student} key={`${room.id} staff`} />,
          <AnnouncementsRow room={room} key={`${room.id} all`} />,
        ])}
      </ul>
    </section>
  );
}

function StaffRow({ room, student }: { room: Room; student: Person }) {
  const id = conversationId(room.id, { kind: 'private', guardian: store.you.value?.person ?? '', student: student.person });
  const conversation = store.conversations.value.get(id);
  const staff = room.staff.length > 0 ? names(room.staff) : t.theTeachers;
  return (
    <ConversationRow href={linkTo(room.id, id)} icon="message" title={staff}
      conversation={conversation} otherwise={t.nothingSaid} />
  );
}

/** The announcements of a room, in any list. */
export function AnnouncementsRow({ room }: { room: Room }) {
  const id = conversationId(room.id, { kind: 'announcements' });
  const conversation = store.conversations.value.get(id);
  return (
    <ConversationRow href={linkTo(room.id, id)} icon="announce" title={t.announcements}
      conversation={conversation} otherwise={t.noAnnouncements} />
  );
}

interface RowProps {
  href: string;
  icon: 'message' | 'announce';
  title: string;
  conversation: ReturnType<typeof store.conversations.value.get>;
  otherwise: string;
}

function ConversationRow({ href, icon, title, conversation, otherwise }: RowProps) {
  const news = conversation ? unread(conversation) : 0;
  const here = place.value;
  const current = here.page === 'room' && href === linkTo(here.room, here.conversation ?? undefined);
  const urgent = news > 0 && conversation?.messages.some((message) =>
    message.urgent && message.n > conversation.read && message.author !== conversation.mine.person && !message.retracted_at);
  return (
    <li>
      <a class={`row${news ? ' is-new' : ''}${urgent ? ' is-urgent' : ''}`} href={href} aria-current={current ? 'page' : undefined}>
        <span class="row-icon"><Icon name={icon} /></span>
        <span class="row-body">
          <span class="row-top">
            <span class="row-title">{title}</span>
            <When conversation={conversation} />
            <Unread count={news} />
          </span>
          {urgent && <span class="urgent-word"><Icon name="failed" /> {t.urgent}</span>}
          <Preview conversation={conversation} otherwise={otherwise} />
        </span>
      </a>
    </li>
  );
}
