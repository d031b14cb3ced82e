/** Starts the page, and tells the connection what the device knows about the network. */
import { render } from 'preact';
import { App } from './App';
import { store } from './page';
import { locale } from './i18n';
import { directionOf } from './i18n/direction';
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
  if (document.visibilityState === 'visible') store.connection.hurry();
});

const root = document.getElementById('app');
if (root) render(<App />, root);
