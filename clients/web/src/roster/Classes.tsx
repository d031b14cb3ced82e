/** A teacher's classes, with what is unread in each. */
import { linkTo, place, store } from '../page';
import { t } from '../i18n';
import { Unread } from '../conversation/Preview';
import { Icon } from '../ui/Icon';
import { unreadIn } from './order';

export function Classes() {
  const rooms = store.rooms.value.filter((room) => room.role === 'staff');
  const here = place.value;
  return (
    <section class="card">
      <h2 class="card-head plain-head">{t.yourClasses}</h2>
      <ul class="rows">
        {rooms.map((room) => {
          const news = unreadIn(room.id, store.conversations.value);
          return (
            <li key={room.id}>
              <a class={`row${news ? ' is-new' : ''}`} href={linkTo(room.id)}
                aria-current={here.page === 'room' && here.room === room.id ? 'page' : undefined}>
                <span class="row-body">
                  <span class="row-title">{room.title}</span>
                  <span class="row-bottom">
                    <span class="preview soft">
                      {room.kind === 'school' ? t.announcements : room.detailed ? t.studentsCount(room.families.length) : room.school}
                    </span>
                    <Unread count={news} />
                  </span>
                </span>
                <span class="row-go"><Icon name="chevron" /></span>
              </a>
            </li>
          );
        })}
      </ul>
    </section>
  );
}
