/** Debian's Chromium, headless. */
import { existsSync } from 'node:fs';
import { type Browser, chromium } from 'playwright-core';

/** Starts it, with an empty profile that is removed at the end. */
export async function launch(): Promise<Browser> {
  const executablePath = process.env['CHROMIUM'] ?? '/usr/bin/chromium';
  if (!existsSync(executablePath)) throw new Error(`no Chromium at ${executablePath}: apt-get install chromium, or name one in CHROMIUM`);
  return chromium.launch({
    executablePath,
    args: [
      '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync',
    ],
  });
}
