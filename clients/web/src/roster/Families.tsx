/**
 * The families of a class, as its teacher sees them: the student in bold, the guardians under it.
 *
 * Owns: the list and its states. Refuses to know: what is inside the conversations.
 */
import { HOME, linkTo, place, store } from '../page';
import { Preview, Unread, When } from '../conversation/Preview';
import { languageName, t } from '../i18n';
import type { Room } from '../store/room';
import { Icon } from '../ui/Icon';
import { memo } from '../ui/memo';
import { Empty, Skeleton, Trouble } from '../ui/states';
import { Avatar } from './Avatar';
import { AnnouncementsRow } from './FamilyHome';
import { sorted, type Line, type Row } from './order';

export function Families({ room }: { room: Room }) {
  const { waiting, others } = sorted(room.families, store.conversations.value);
  return (
    <>
      <header class="pane-head">
        <a class="icon-button back" href={HOME} aria-label={t.back}><Icon name="back" /></a>
        <span class="pane-title">
          <h2>{room.title}</h2>
          <span class="soft">{room.title === room.school ? t.announcements : room.school}</span>
        </span>
      </header>
      <div class="pane-scroll">
        <ul class="rows card"><AnnouncementsRow room={room} /></ul>
        {room.kind === 'class' && <List room={room} waiting={waiting} others={others} />}
      </div>
    </>
  );
}

function List({ room, waiting, others }: { room: Room; waiting: Row[]; others: Row[] }) {
  if (!room.detailed) {
    return store.line.value === 'away'
      ? <Trouble title={t.roomFailed} retry={() => store.connection.hurry()}>{t.cannotReachHint}</Trouble>
      : <Skeleton rows={6} />;
  }
  if (room.families.length === 0) return <Empty title={t.noFamilies}>{t.noFamiliesHint}</Empty>;
  return (
    <>
      {waiting.length > 0 && (
        <section aria-label={t.needsAnswer}>
          <h3 class="list-head needs-you">{t.needsAnswer}</h3>
          <ul class="families">{waiting.map((row) => <FamilyRow room={room} row={row} key={row.family.student.person} />)}</ul>
        </section>
      )}
      <section aria-label={t.everyoneElse}>
        <h3 class="list-head">{t.everyoneElse}</h3>
        <ul class="families">{others.map((row) => <FamilyRow room={room} row={row} key={row.family.student.person} />)}</ul>
      </section>
    </>
  );
}

const FamilyRow = memo(function FamilyRow({ room, row }: { room: Room; row: Row }) {
  const { student } = row.family;
  return (
    <li class="family card">
      <div class="family-head">
        <Avatar person={student} />
        <strong>{student.name}</strong>
      </div>
      {row.lines.length === 0 && <p class="soft family-none">{t.noGuardian}</p>}
      <ul class="rows">
        {row.lines.map((line) => <GuardianRow room={room} line={line} key={line.guardian.conversation} />)}
      </ul>
    </li>
  );
});

function GuardianRow({ room, line }: { room: Room; line: Line }) {
  const { guardian, conversation } = line;
  const here = place.value;
  const current = here.page === 'room' && here.conversation === guardian.conversation;
  return (
    <li>
      <a class={`row${line.unread ? ' is-new' : ''}`} href={linkTo(room.id, guardian.conversation)} aria-current={current ? 'page' : undefined}>
        <span class="row-body">
          <span class="row-top">
            <span class="row-title">{guardian.name} <span class="soft lang">{languageName(guardian.language)}</span></span>
            <When conversation={conversation} />
            <Unread count={line.unread} />
          </span>
          {!guardian.reachable && !line.last
            ? <span class="preview">{t.notReachable}</span>
            : <Preview conversation={conversation} otherwise={t.nothingSaid} />}
        </span>
      </a>
    </li>
  );
}
