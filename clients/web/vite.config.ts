/** How the page is built: hashed names, nothing inline, nothing from elsewhere. `npm run dev` passes calls on to a local node. */
import { defineConfig } from 'vite';

const node = process.env['HOMEROOM_NODE'] ?? 'http://127.0.0.1:8080';

export default defineConfig({
  build: {
    target: ['chrome98', 'firefox104', 'safari15.4'],
    // The polyfill would be one more script for browsers that are too old for the rest.
    modulePreload: { polyfill: false },
    // An inlined asset is a data: URL, which the Content-Security-Policy forbids.
    assetsInlineLimit: 0,
    reportCompressedSize: true,
  },
  server: {
    host: '127.0.0.1',
    proxy: { '/api': node, '/ws': { target: node.replace(/^http/, 'ws'), ws: true } },
  },
});
