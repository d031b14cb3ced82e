/** Runs tests/browser/latency.ts, which prints its figures. Vite reads the TypeScript, as it does for the tests. */
import { createServer } from 'vite';

const vite = await createServer({ server: { middlewareMode: true, hmr: false }, appType: 'custom', logLevel: 'error' });
try {
  const { measure } = await vite.ssrLoadModule('/tests/browser/latency.ts');
  await measure();
} finally {
  await vite.close();
}
