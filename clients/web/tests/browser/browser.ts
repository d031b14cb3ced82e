/**
 * Pages in Chromium that are watched: errors, broken Content-Security-Policy, and all that the network brings.
 *
 * Owns: what every browser test must not forget to check. Refuses to know: servers.
 */
import { mkdirSync } from 'node:fs';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { expect } from 'vitest';

export { launch } from './chromium';

export const PHONE = { width: 360, height: 740 };
export const DESKTOP = { width: 1280, height: 800 };
/** What has not come by then will not. */
const PATIENCE_MS = 15_000;
const RESULTS = new URL('../../test-results/', import.meta.url).pathname;

/** Somebody at a page of their own. */
export class Visitor {
  readonly troubles: string[] = [];
  /** Everything that the server ever told this page: bodies and frames. */
  readonly heard: string[] = [];

  private constructor(readonly page: Page) {}

  static async arrive(browser: Browser, options: BrowserContextOptions = {}): Promise<Visitor> {
    const context = await browser.newContext({ viewport: PHONE, locale: 'en-GB', timezoneId: 'Europe/London', ...options });
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE_MS);
    const visitor = new Visitor(page);
    await page.exposeBinding('noteViolation', (_, what: string) => void visitor.troubles.push(`CSP: ${what}`));
    await page.addInitScript(() => {
      document.addEventListener('securitypolicyviolation', (event) => {
        (globalThis as unknown as { noteViolation(what: string): void }).noteViolation(`${event.violatedDirective} ${event.blockedURI}`);
      });
    });
    page.on('pageerror', (error) => visitor.troubles.push(`error: ${error.message}`));
    page.on('console', (message) => {
      // What the browser itself says about refused or lost connections is expected where a test cuts them.
      if (message.type() === 'error' && /Content.Security.Policy/i.test(message.text())) visitor.troubles.push(message.text());
    });
    page.on('websocket', (socket) => socket.on('framereceived', ({ payload }) => visitor.heard.push(String(payload))));
    page.on('response', (response) => {
      if (!response.url().includes('/api/')) return;
      response.text().then((body) => visitor.heard.push(body), () => undefined);
    });
    return visitor;
  }

  /** Opens the link, and presses its button. */
  async enter(link: string): Promise<void> {
    await this.page.goto(link);
    await this.page.getByRole('button', { name: 'Open Homeroom' }).click();
    await this.page.locator('.home .row').first().waitFor();
  }

  /** Nothing went wrong in this page that a test did not ask for. */
  sound(): void {
    expect(this.troubles).toEqual([]);
  }

  /** Keeps a picture, and checks that nothing sticks out to the side. */
  async picture(name: string): Promise<void> {
    mkdirSync(RESULTS, { recursive: true });
    const [inner, scroll] = await this.page.evaluate(() => [innerWidth, document.documentElement.scrollWidth]);
    expect(scroll, `${name} scrolls sideways`).toBeLessThanOrEqual(inner!);
    await this.page.screenshot({ path: `${RESULTS}${name}.png` });
  }

  async leave(): Promise<void> {
    await this.page.context().close();
  }
}

/** The row of a list with this text, in what is visible. */
export function row(page: Page, text: string) {
  return page.locator('a.row:visible', { hasText: text });
}

/** The card of a child on a family's home: the conversation with the teachers first, then the announcements. */
export function child(page: Page, name: string) {
  return page.getByRole('region', { name });
}

/** Writes into the open conversation, and sends. */
export async function say(page: Page, text: string): Promise<void> {
  await page.locator('textarea').fill(text);
  await page.getByRole('button', { name: 'Send' }).click();
}

/** The place of the message with this text: the bubble with what is under it. */
export function bubble(page: Page, text: string) {
  return page.locator('.bubble-place', { hasText: text });
}
