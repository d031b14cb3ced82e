/**
 * How long a message takes from one browser's screen to another's, at 30 messages a second through a real node.
 *
 * Owns: the measurement. Refuses to know: how to make it faster.
 *
 * A guardian writes on six pages, all in one conversation, as much as one person may at once; a teacher's page
 * shows it. Each text holds the moment it was sent; the receiving page notes the first frame after it was in its list.
 * All pages share this machine's clock, and its processors: on a small machine the browsers are what is measured.
 */
import type { Browser, Page } from 'playwright-core';
import { launch } from './chromium';
import { Node } from './node';
import { cast } from './school';

const WRITERS = 6;
const RATE = 30;
const SECONDS = 3;

export async function measure(): Promise<void> {
  const people = cast();
  const [node, browser] = await Promise.all([Node.start(), launch()]);
  try {
    const writers = await Promise.all(Array.from({ length: WRITERS }, () => enter(node, browser, people.one.guardians[0]!.id)));
    for (const page of writers) {
      await page.getByRole('region', { name: people.one.student.name }).locator('a.row').first().click();
      await page.locator('textarea').waitFor();
    }
    await write(writers[0]!, 0, 1, 1);
    const reader = await enter(node, browser, people.teacher.id, { width: 1280, height: 800 });
    await reader.locator('a.row', { hasText: people.room.title }).first().click();
    await reader.getByRole('region', { name: 'Needs an answer' }).locator('a.row', { hasText: /\d{10}/ }).click();
    await reader.locator('.messages .text').first().waitFor();
    await watch(reader);

    const each = (RATE * SECONDS) / WRITERS;
    const began = Date.now();
    await Promise.all(writers.map((page, i) => write(page, i, Math.round(each), RATE / WRITERS)));
    const sent = Math.round(each) * WRITERS;
    await reader.waitForFunction((all) => (globalThis as unknown as Seen).latencies.length >= all, sent, { timeout: 120_000 });
    const seconds = (Date.now() - began) / 1_000;
    const latencies = (await reader.evaluate(() => (globalThis as unknown as Seen).latencies)).sort((a, b) => a - b);
    const at = (share: number) => latencies[Math.min(latencies.length - 1, Math.floor(share * latencies.length))]!.toFixed(0);
    console.log(`browser to browser: ${sent} messages in ${seconds.toFixed(1)} s, from keyboard to screen`);
    console.log(`  p50 ${at(0.5)} ms   p90 ${at(0.9)} ms   p99 ${at(0.99)} ms   worst ${at(1)} ms`);
  } finally {
    await browser.close();
    await node.stop();
  }
}

interface Seen {
  latencies: number[];
}

async function enter(node: Node, browser: Browser, person: string, viewport = { width: 360, height: 740 }): Promise<Page> {
  const page = await (await browser.newContext({ viewport, locale: 'en-GB' })).newPage();
  await page.goto(await node.link(person));
  await page.getByRole('button', { name: 'Open Homeroom' }).click();
  await page.locator('.home a.row').first().waitFor();
  return page;
}

/** Writes as somebody at the page would: into the field, and off. */
function write(page: Page, writer: number, count: number, rate: number): Promise<void> {
  return page.evaluate(async ({ writer, count, rate }) => {
    const field = document.querySelector('textarea')!;
    const set = Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, 'value')!.set!;
    const began = performance.now();
    for (let i = 0; i < count; i++) {
      const wait = began + (i * 1_000) / rate - performance.now();
      if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
      set.call(field, `${writer} ${performance.timeOrigin + performance.now()}`);
      field.dispatchEvent(new InputEvent('input', { bubbles: true }));
      await new Promise((resolve) => setTimeout(resolve));
      field.form!.requestSubmit();
    }
  }, { writer, count, rate });
}

/** Notes how old each message is at the first frame that shows it. */
function watch(page: Page): Promise<void> {
  return page.evaluate(() => {
    const latencies: number[] = [];
    Object.assign(globalThis, { latencies });
    const seen = new Set<string>();
    new MutationObserver((changes) => {
      const fresh = changes.flatMap(({ addedNodes }) => [...addedNodes])
        .flatMap((added) => (added instanceof Element ? [...added.querySelectorAll('.text')] : []))
        .map(({ textContent }) => textContent ?? '')
        .filter((text) => /^\d \d+\.?\d*$/.test(text) && !seen.has(text));
      for (const text of fresh) seen.add(text);
      if (fresh.length > 0) requestAnimationFrame(() => {
        const now = performance.timeOrigin + performance.now();
        for (const text of fresh) latencies.push(now - Number(text.split(' ')[1]));
      });
    }).observe(document.querySelector('.messages')!, { childList: true, subtree: true });
  });
}
