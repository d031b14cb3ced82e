/*
 * Keeps the page itself on the device, so that it opens without a network; what it shows is kept by the page.
 *
 * Owns: the page and its hashed files. Refuses to know: the API, the socket, and links to sign in.
 */
const CACHE = 'homeroom-page';

self.addEventListener('install', (event) => {
  self.skipWaiting();
  // At once, not at the next visit: the first one may be by a link to sign in, which is not the page's own address.
  event.waitUntil(newestPage(new Request('/')).catch(() => undefined));
});
self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));

self.addEventListener('fetch', (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== 'GET' || url.origin !== location.origin) return;
  if (request.mode === 'navigate' && url.pathname === '/') event.respondWith(newestPage(request));
  // Their names change with their content: what is held is never stale.
  else if (url.pathname.startsWith('/assets/')) event.respondWith(held(request));
  else if (url.pathname === '/icon.svg' || url.pathname === '/manifest.webmanifest') event.respondWith(held(request));
});

/** The page from the server; where there is no answer, the one held. */
async function newestPage(request) {
  const cache = await caches.open(CACHE);
  try {
    const answer = await fetch(request);
    if (answer.ok) await keepPage(cache, answer.clone());
    if (answer.ok || answer.status < 500) return answer;
    return (await cache.match('/')) ?? answer;
  } catch (error) {
    const page = await cache.match('/');
    if (page) return page;
    throw error;
  }
}

/** Keeps the page together with its files, all or nothing, and forgets those of earlier ones. */
async function keepPage(cache, answer) {
  const html = await answer.clone().text();
  const files = [...html.matchAll(/(?:src|href)="(\/[^"]+)"/g)].map(([, path]) => path);
  const known = await cache.match('/');
  if (known && (await known.text()) === html) return;
  await cache.addAll(files);
  await cache.put('/', answer);
  for (const request of await cache.keys()) {
    const { pathname } = new URL(request.url);
    if (pathname !== '/' && !files.includes(pathname)) await cache.delete(request);
  }
}

async function held(request) {
  const cache = await caches.open(CACHE);
  return (await cache.match(request)) ?? fetch(request);
}
