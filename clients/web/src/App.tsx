/**
 * The page: which screen stands where.
 *
 * Owns: the way in, the columns on a desktop and the one on a phone. Refuses to know: what is in them.
 */
import { useEffect, useState } from 'preact/hooks';
import { place, store } from './page';
import { ConversationPane, NotYours } from './conversation/Conversation';
import { Settings } from './identity/Settings';
import { CodePage, LinkPage } from './identity/SignIn';
import { t } from './i18n';
import type { Address, ConversationId } from './protocol';
import { Classes } from './roster/Classes';
import { Families } from './roster/Families';
import { childrenOf, FamilyHome, TopBar } from './roster/FamilyHome';
import { unread } from './store/conversation';
import type { Room } from './store/room';
import { conversationId } from './store/uuid';
import { Banner, Empty, Skeleton, Trouble } from './ui/states';

const LINK = /^\/i\/([^/]+)\/?$/;

/** Signing in shows what is new to this device; nothing of whoever was here before may be left. */
async function enter(): Promise<void> {
  await store.signedOut(true);
  history.replaceState(null, '', '/');
  dispatchEvent(new HashChangeEvent('hashchange'));
  store.phase.value = 'opening';
  await store.open();
}

export function App() {
  const [secret, setSecret] = useState(LINK.exec(location.pathname)?.[1]);
  const [said, setSaid] = useState<string>();
  useEffect(() => {
    if (!secret) void store.open();
  }, []);
  const entered = () => {
    setSecret(undefined);
    setSaid(undefined);
    void enter();
  };
  const back = () => {
    history.replaceState(null, '', '/');
    setSecret(undefined);
    void store.open();
  };
  const useCode = () => {
    history.replaceState(null, '', '/');
    setSecret(undefined);
    store.phase.value = 'signed_out';
  };
  if (secret) return <LinkPage secret={decodeURIComponent(secret)} entered={entered} back={back} useCode={useCode} />;
  if (store.phase.value === 'signed_out') return <CodePage entered={entered} said={said} />;
  if (store.phase.value === 'opening') return <Opening />;
  const leave = () => {
    location.hash = '';
    setSaid(t.signedOut);
  };
  return (
    <div class="frame">
      <Banner />
      {place.value.page === 'settings' ? <Settings leave={leave} /> : <Columns />}
    </div>
  );
}

/** Nothing is on the device yet. */
function Opening() {
  if (store.trouble.value !== null) {
    return (
      <main class="door">
        <h1 class="visually-hidden">{t.homeroom}</h1>
        <Trouble title={t.cannotReach} retry={() => store.connection.hurry()}>{store.trouble.value || t.cannotReachHint}</Trouble>
      </main>
    );
  }
  return (
    <main class="page">
      <h1 class="visually-hidden">{t.homeroom}</h1>
      <div class="page-body"><Skeleton /></div>
    </main>
  );
}

function Columns() {
  const here = place.value;
  const rooms = store.rooms.value;
  const teaches = rooms.some((room) => room.role === 'staff');
  const room = here.page === 'room' ? rooms.find(({ id }) => id === here.room) : undefined;
  // On a desktop the families stand beside the classes from the start; a phone shows them once a class was chosen.
  const chosen = here.page === 'home' ? rooms.find(({ role, kind }) => role === 'staff' && kind === 'class') : room;
  const conversation = here.page === 'room' ? here.conversation : null;
  const deepest = here.page !== 'room' ? 'home' : conversation || room?.role === 'guardian' ? 'conversation' : 'families';
  return (
    <main class={`columns ${teaches ? 'three' : 'two'} at-${deepest}`}>
      <h1 class="visually-hidden">{t.homeroom}</h1>
      <Title of={room?.title} />
      <nav class="column home" aria-label={t.home}>
        <TopBar />
        <div class="pane-scroll">
          {teaches && <Classes />}
          {(!teaches || childrenOf(rooms).length > 0) && <FamilyHome beside={teaches} />}
        </div>
      </nav>
      {teaches && (
        <section class="column families-column" aria-label={t.families}>
          {chosen?.role === 'staff' ? <Families room={chosen} /> : here.page === 'room' && !room ? <NotYours words={t.classNotFound} /> : null}
        </section>
      )}
      <section class="column conversation-column" aria-label={t.conversation}>
        {room && conversation ? <Opened room={room} id={conversation} />
          : here.page === 'room' && !room && !teaches ? <NotYours words={t.classNotFound} />
          : <div class="nothing-chosen"><Empty>{teaches ? t.selectFamily : t.selectConversation}</Empty></div>}
      </section>
    </main>
  );
}

/** The page's title: what is new, and where one is. By itself, so that not all is drawn anew when something is said. */
function Title({ of }: { of: string | undefined }) {
  const news = [...store.conversations.value.values()].reduce((sum, one) => sum + unread(one), 0);
  useEffect(() => {
    document.title = `${news > 0 ? `(${news}) ` : ''}${of ? `${of} – ` : ''}${t.homeroom}`;
  }, [of, news]);
  return null;
}

function Opened({ room, id }: { room: Room; id: ConversationId }) {
  const address = addressOf(room, id);
  // A family whose names have not been fetched yet may still come.
  if (!address) return room.detailed ? <NotYours words={t.conversationNotFound} /> : <Skeleton />;
  return <ConversationPane room={room} conversation={store.conversation(id, room.id, address)} />;
}

/** Whom the conversation is with: from what is held of it, else from the people of the room. */
function addressOf(room: Room, id: ConversationId): Address | null {
  const held = store.conversations.value.get(id);
  if (held) return held.room === room.id ? held.address : null;
  const announcements: Address = { kind: 'announcements' };
  if (conversationId(room.id, announcements) === id) return announcements;
  for (const { student, guardians } of room.families) {
    const guardian = guardians.find(({ conversation }) => conversation === id);
    if (guardian) return { kind: 'private', guardian: guardian.person, student: student.person };
  }
  const me = store.you.value?.person ?? '';
  for (const student of room.students) {
    const address: Address = { kind: 'private', guardian: me, student: student.person };
    if (conversationId(room.id, address) === id) return address;
  }
  return null;
}
