/** Starts the page, and tells the connection what the device knows about the network. */
import { options, render } from 'preact';
import { App } from './App';
import { store } from './page';
import { locale } from './i18n';
import { directionOf } from './i18n/direction';
import { paced } from './ui/pace';
import './styles/tokens.css';
import './styles/base.css';
import './styles/layout.css';
import './styles/lists.css';
import './styles/conversation.css';

document.documentElement.lang = locale;
document.documentElement.dir = directionOf(locale);

addEventListener('online', () => store.connection.hurry());
addEventListener('offline', () => store.connection.lost());
document.addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'visible') store.lookedAt();
});

// Missing without TLS, and in some private windows: then the page needs the network to open.
if (import.meta.env.PROD) {
  navigator.serviceWorker?.register('/sw.js').catch((error: unknown) => console.warn('the page is not kept', error));
}

options.debounceRendering = paced();

const root = document.getElementById('app');
if (root) render(<App />, root);
