/** The head of a conversation: the child first, who reads it, and for staff what is known about the guardian. */
import { useEffect, useRef } from 'preact/hooks';
import { HOME, linkTo } from '../page';
import { languageName, t, when } from '../i18n';
import { Avatar } from '../roster/Avatar';
import { names } from '../roster/names';
import type { Conversation } from '../store/conversation';
import type { Room } from '../store/room';
import { Facts } from '../ui/Facts';
import { Icon } from '../ui/Icon';

/** What the page was opened with: nobody came there from elsewhere in it, so the focus stays where the browser put it. */
let openedWith: string | null = location.hash;

export function ConversationHead({ room, conversation }: { room: Room; conversation: Conversation }) {
  const title = useRef<HTMLHeadingElement>(null);
  // So that a screen reader begins here, and no keyboard jumps up on a phone.
  useEffect(() => {
    if (location.hash !== openedWith) title.current?.focus({ preventScroll: true });
    openedWith = null;
  }, [conversation.id]);
  const { address } = conversation;
  const back = room.role === 'staff' ? linkTo(room.id) : HOME;
  if (address.kind === 'announcements') {
    return (
      <header class="pane-head">
        <a class="icon-button back" href={back} aria-label={t.back}><Icon name="back" /></a>
        <span class="row-icon"><Icon name="announce" /></span>
        <span class="pane-title">
          <h2 ref={title} tabIndex={-1}>{t.announcements}</h2>
          <span class="soft">{t.toAll(room.title)}</span>
        </span>
      </header>
    );
  }
  const family = room.families.find(({ student }) => student.person === address.student);
  const guardian = family?.guardians.find(({ person }) => person === address.guardian);
  const student = family?.student ?? room.students.find(({ person }) => person === address.student);
  const staffSide = room.role === 'staff';
  const last = conversation.messages.at(-1);
  return (
    <header class="pane-head tall">
      <a class="icon-button back" href={back} aria-label={t.back}><Icon name="back" /></a>
      {student && <Avatar person={student} large />}
      <span class="pane-title">
        <h2 ref={title} tabIndex={-1}>
          {staffSide ? student?.name : room.staff.length > 0 ? names(room.staff) : t.theTeachers}
          <span class="head-with">{staffSide ? guardian && ` · ${guardian.name}` : student && ` · ${student.name.split(/\s+/)[0]}`}</span>
        </h2>
        {staffSide && guardian && (
          <span class="soft">
            <Facts of={[
              t.reads(languageName(guardian.language)),
              guardian.reachable ? t.reachedByApp : <span class="needs-you">{t.notInApp}</span>,
              last ? t.lastContact(when(last.at)) : t.noContact,
            ]} />
          </span>
        )}
        {!staffSide && <span class="soft">{room.title}</span>}
      </span>
    </header>
  );
}
