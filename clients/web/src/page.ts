/** The one store of this page, and where it is in it. Owns: the address in the bar. Refuses to know: what is there. */
import { computed, signal } from '@preact/signals';
import { dropDrafts } from './conversation/drafts';
import type { ConversationId, RoomId } from './protocol';
import { Store } from './store/store';

// However a sign-in ends, by hand, from elsewhere or in another page: what was half written goes with what was sent.
export const store = new Store(undefined, undefined, dropDrafts);

export type Place =
  | { page: 'home' }
  | { page: 'settings' }
  | { page: 'room'; room: RoomId; conversation: ConversationId | null };

const hash = signal(location.hash);
addEventListener('hashchange', () => (hash.value = location.hash));

/** Where the page is. Behind the `#`, so that a reload asks the server for the same one page. */
export const place = computed<Place>(() => {
  const [page, room, conversation] = hash.value.replace(/^#\/?/, '').split('/');
  if (page === 'settings') return { page };
  if (page === 'class' && room) return { page: 'room', room, conversation: conversation || null };
  return { page: 'home' };
});

export const HOME = '#/';
export const SETTINGS = '#/settings';
export const linkTo = (room: RoomId, conversation?: ConversationId) => `#/class/${room}${conversation ? `/${conversation}` : ''}`;
