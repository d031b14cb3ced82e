/** Every screen on a phone and a desktop, light and dark: a picture, nothing sticking out, and accessible to all. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DESKTOP, PHONE, Visitor, bubble, child, launch, row, say } from './browser';
import { Node } from './node';
import { cast } from './school';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

let node: Node;
let browser: Browser;
const people = cast();
const guardian = people.one.guardians[0]!;

/** What axe finds wrong, in one line each. */
async function findings({ page }: Visitor): Promise<string[]> {
  await page.evaluate(AXE);
  return page.evaluate(async () => {
    const { axe } = globalThis as unknown as { axe: typeof import('axe-core') };
    const { violations } = await axe.run(document, { rules: { 'color-contrast-enhanced': { enabled: true } } });
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(' | ')}`);
  });
}

beforeAll(async () => {
  [node, browser] = await Promise.all([Node.start(), launch()]);
  // Something to see: an announcement, an urgent one, and a conversation.
  const teacher = await Visitor.arrive(browser, { viewport: DESKTOP });
  await teacher.enter(await node.link(people.teacher.id));
  await row(teacher.page, people.room.title).first().click();
  await teacher.page.locator('.families-column').getByRole('link', { name: /^Announcements/ }).click();
  for (const [text, urgent] of [
    ['Field trip on Friday: meet at 8:30 at the main gate. Please give your child a packed lunch and a rain jacket.', false],
    ['No school tomorrow: the heating has failed. More at https://school.example/news', true],
  ] as const) {
    await teacher.page.getByLabel('Write an announcement').fill(text);
    if (urgent) await teacher.page.getByLabel('Urgent').check();
    await teacher.page.getByRole('button', { name: 'Announce' }).click();
    await bubble(teacher.page, text.slice(0, 20)).getByText('sent', { exact: true }).waitFor();
  }
  const ana = await Visitor.arrive(browser);
  await ana.enter(await node.link(guardian.id));
  await child(ana.page, people.one.student.name).locator('a.row').first().click();
  await say(ana.page, 'Thank you. Is lunch at school on that day?');
  await bubble(ana.page, 'Thank you').getByText('delivered', { exact: true }).waitFor();
  await teacher.leave();
  await ana.leave();
});
afterAll(async () => {
  await browser?.close();
  await node?.stop();
});

describe.each([['phone', PHONE], ['desktop', DESKTOP]] as const)('on a %s', (size, viewport) => {
  describe.each(['light', 'dark'] as const)('in %s', (colorScheme) => {
    const name = (screen: string) => `${screen}-${size}-${colorScheme}`;

    it('signing in', async () => {
      const visitor = await Visitor.arrive(browser, { viewport, colorScheme });
      await visitor.page.goto(await node.link(guardian.id));
      await visitor.page.getByRole('button', { name: 'Open Homeroom' }).waitFor();
      await visitor.picture(name('1-link'));
      expect(await findings(visitor)).toEqual([]);
      await visitor.page.goto(`${node.origin}/i/not-a-link`);
      await visitor.page.getByRole('button', { name: 'Open Homeroom' }).click();
      await visitor.page.getByRole('button', { name: 'Sign in with a code' }).waitFor();
      await visitor.picture(name('1-link-over'));
      await visitor.page.getByRole('button', { name: 'Sign in with a code' }).click();
      await visitor.page.getByLabel('Name on your invitation').fill('nobody');
      await visitor.page.getByLabel('Code').fill('ABCD-EFGH');
      await visitor.page.getByRole('button', { name: 'Sign in' }).click();
      await visitor.page.locator('.form-error').waitFor();
      await visitor.picture(name('1-code'));
      expect(await findings(visitor)).toEqual([]);
      visitor.sound();
      await visitor.leave();
    });

    it('a family', async () => {
      const visitor = await Visitor.arrive(browser, { viewport, colorScheme });
      const { page } = visitor;
      await visitor.enter(await node.link(guardian.id));
      await row(page, 'No school tomorrow').waitFor();
      await visitor.picture(name('2-family-home'));
      expect(await findings(visitor)).toEqual([]);
      await row(page, 'No school tomorrow').click();
      await bubble(page, 'No school tomorrow').waitFor();
      await visitor.picture(name('2-family-announcements'));
      expect(await findings(visitor)).toEqual([]);
      await page.getByRole('link', { name: /Write to the teachers/ }).click();
      await bubble(page, 'Is lunch at school').getByRole('button', { name: 'Change this message' }).click();
      await visitor.picture(name('2-family-conversation'));
      expect(await findings(visitor)).toEqual([]);
      await page.goto(`${node.origin}/#/settings`);
      await page.getByLabel('Your language').waitFor();
      await visitor.picture(name('2-family-settings'));
      expect(await findings(visitor)).toEqual([]);
      visitor.sound();
      await visitor.leave();
    });

    it('a teacher', async () => {
      const visitor = await Visitor.arrive(browser, { viewport, colorScheme });
      const { page } = visitor;
      await visitor.enter(await node.link(people.teacher.id));
      if (size === 'desktop') await page.locator('.family').first().waitFor();
      await visitor.picture(name('3-teacher-home'));
      expect(await findings(visitor)).toEqual([]);
      await row(page, people.room.title).first().click();
      await page.locator('.family').first().waitFor();
      await visitor.picture(name('3-teacher-families'));
      expect(await findings(visitor)).toEqual([]);
      await row(page, 'Is lunch at school').first().click();
      await bubble(page, 'Is lunch at school').waitFor();
      await visitor.picture(name('3-teacher-conversation'));
      expect(await findings(visitor)).toEqual([]);
      await page.goBack();
      await page.locator('.families-column').getByRole('link', { name: /^Announcements/ }).click();
      await page.locator('.reach-line').last().click();
      await page.locator('.reach-names').waitFor();
      await page.locator('.messages').evaluate((box) => box.scrollTo(0, box.scrollHeight));
      await visitor.picture(name('3-teacher-reach'));
      expect(await findings(visitor)).toEqual([]);
      visitor.sound();
      await visitor.leave();
    });

    it('a page that is opened for the first time: loading, and without an answer', async () => {
      const visitor = await Visitor.arrive(browser, { viewport, colorScheme });
      const { page } = visitor;
      let answer = () => undefined as void;
      const held = new Promise<void>((resolve) => (answer = resolve));
      await page.route('**/api/v1/home', async (route) => {
        await held;
        // The page may have been let through meanwhile, by the end of the routing below.
        await route.abort().catch(() => undefined);
      });
      await page.goto(await node.link(guardian.id));
      await page.getByRole('button', { name: 'Open Homeroom' }).click();
      await page.locator('.skeleton').waitFor();
      await visitor.picture(name('5-loading'));
      expect(await findings(visitor)).toEqual([]);
      answer();
      await page.getByText('Homeroom can’t be reached').waitFor();
      await visitor.picture(name('5-no-answer'));
      expect(await findings(visitor)).toEqual([]);
      await page.unroute('**/api/v1/home');
      await page.locator('.home .row').first().waitFor();
      visitor.sound();
      await visitor.leave();
    });

    it('a conversation in which nothing was said, and one that is not there', async () => {
      const visitor = await Visitor.arrive(browser, { viewport, colorScheme });
      const { page } = visitor;
      await visitor.enter(await node.link(people.other.guardians[0]!.id));
      await child(page, people.other.student.name).locator('a.row').first().click();
      await page.getByText(/Nothing said yet/).last().waitFor();
      await visitor.picture(name('6-empty'));
      expect(await findings(visitor)).toEqual([]);
      await page.goto(`${page.url().split('/').slice(0, -1).join('/')}/00000000-0000-4000-8000-000000000000`);
      await page.getByText('This conversation is not yours').waitFor();
      await visitor.picture(name('6-not-yours'));
      visitor.sound();
      await visitor.leave();
    });

    it('without a connection', async () => {
      const visitor = await Visitor.arrive(browser, { viewport, colorScheme });
      const { page } = visitor;
      await visitor.enter(await node.link(guardian.id));
      await child(page, people.one.student.name).locator('a.row').first().click();
      await bubble(page, 'Is lunch at school').waitFor();
      await page.context().setOffline(true);
      await page.getByText(/No connection/).waitFor();
      await say(page, 'Written on the bus.');
      await bubble(page, 'Written on the bus.').getByText('not sent yet').waitFor();
      await visitor.picture(name('4-offline'));
      expect(await findings(visitor)).toEqual([]);
      // Not sent: the next picture of this conversation is to look like this one.
      await visitor.leave();
    });
  });
});

it('a conversation can be used with the keyboard alone', async () => {
  const visitor = await Visitor.arrive(browser, { viewport: DESKTOP });
  const { page } = visitor;
  await visitor.enter(await node.link(people.teacher.id));
  const focused = () => page.evaluate(() => document.activeElement?.textContent ?? '');
  for (let presses = 0; presses < 10 && !(await focused()).startsWith(people.room.title); presses++) await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await page.locator('.family').first().waitFor();
  for (let presses = 0; presses < 20 && !(await focused()).includes('Is lunch at school'); presses++) await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await bubble(page, 'Is lunch at school').waitFor();
  const field = () => page.evaluate(() => document.activeElement?.tagName);
  for (let presses = 0; presses < 20 && (await field()) !== 'TEXTAREA'; presses++) await page.keyboard.press('Tab');
  await page.keyboard.type('Yes, it is.');
  await page.keyboard.press('Enter');
  await bubble(page, 'Yes, it is.').getByText('sent', { exact: true }).waitFor();
  visitor.sound();
  await visitor.leave();
});

/** A teacher at their page, and a guardian who writes to them. */
async function writing(options: { locale?: string } = {}) {
  const [family, teacher] = await Promise.all([Visitor.arrive(browser, options), Visitor.arrive(browser, { viewport: DESKTOP })]);
  await family.enter(await node.link(people.other.guardians[0]!.id));
  await child(family.page, people.other.student.name).locator('a.row').first().click();
  return { family, teacher };
}

it('the end of a conversation stays in sight while what is written grows and shrinks', async () => {
  const { family, teacher } = await writing();
  const { page } = family;
  await say(page, Array.from({ length: 30 }, (_, line) => `Line ${line} of a long story.`).join('\n'));
  await bubble(page, 'a long story').getByText(/sent|delivered/).waitFor();
  const list = page.locator('.messages');
  const beyond = () => list.evaluate((box) => box.scrollHeight - box.scrollTop - box.clientHeight);
  const field = page.locator('textarea');
  await field.fill('a\n'.repeat(30));
  await expect.poll(beyond).toBeLessThan(2);
  // All of it replaced at once: in between the list was high, and so it was moved.
  await field.fill('b'.repeat(8_001));
  expect(await page.locator('.composer .form-error').innerText()).toBe('1 character too many');
  for (const text of ['', 'c '.repeat(300), '']) {
    await field.fill(text);
    await expect.poll(beyond, { message: text.slice(0, 10) }).toBeLessThan(2);
  }
  // Whoever reads further up is left there.
  await list.evaluate((box) => box.scrollTo(0, 0));
  await expect.poll(beyond).toBeGreaterThan(100);
  await field.fill('d\n'.repeat(10));
  await page.waitForFunction(() => document.querySelector<HTMLElement>('textarea')!.offsetHeight > 150);
  expect(await list.evaluate((box) => box.scrollTop)).toBe(0);
  await field.fill('');
  family.sound();
  await Promise.all([family.leave(), teacher.leave()]);
});

it('a preview in Arabic begins with its beginning, and the teacher learns that its author has signed in', async () => {
  const { family, teacher } = await writing({ locale: 'en-US' });
  await teacher.enter(await node.link(people.teacher.id));
  await row(teacher.page, people.room.title).first().click();
  const line = teacher.page.locator('.family', { hasText: people.other.student.name }).locator('a.row', { hasText: people.other.guardians[0]!.name });
  await say(family.page, 'مرحبا، هل يمكن أن يأتي ابني متأخرا يوم الجمعة 27/11؟ سيكون عند الطبيب في الصباح. https://school.example');
  // What was written to them before may be new to them, too.
  await line.filter({ hasText: 'مرحبا' }).getByText(/^\d+ new$/).waitFor();
  await line.click();
  expect(await teacher.page.locator('.pane-head .needs-you').count()).toBe(0);
  await family.page.goBack();
  const preview = child(family.page, people.other.student.name).locator('.preview.said bdi').first();
  await preview.waitFor();
  // The first letter stands within the box, at its right edge.
  const [letter, box] = await preview.evaluate((element) => {
    const range = document.createRange();
    range.setStart(element.firstChild!, 0);
    range.setEnd(element.firstChild!, 1);
    const edges = ({ left, right }: DOMRect) => ({ left, right });
    return [edges(range.getBoundingClientRect()), edges(element.getBoundingClientRect())];
  });
  expect(letter.right).toBeLessThanOrEqual(box.right + 1);
  expect(letter.left).toBeGreaterThan((box.left + box.right) / 2);
  family.sound();
  teacher.sound();
  await Promise.all([family.leave(), teacher.leave()]);
});

it('with text twice as large nothing is cut within a word, and a page that was opened here has no ring around its title', async () => {
  const visitor = await Visitor.arrive(browser, { locale: 'en-US' });
  const { page } = visitor;
  await visitor.enter(await node.link(people.teacher.id));
  await row(page, people.room.title).first().click();
  await page.locator('.family').first().waitFor();
  await page.evaluate(() => (document.documentElement.style.fontSize = '200%'));
  await visitor.picture('7-large-families');
  const cut = await page.locator('.row-title:visible, .avatar:visible').evaluateAll((elements) => elements.flatMap((element) => {
    const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    const words: string[] = [];
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      for (const { 0: word, index } of node.textContent!.matchAll(/\S+/g)) {
        const range = document.createRange();
        range.setStart(node, index);
        range.setEnd(node, index + word.length);
        if (range.getClientRects().length > 1) words.push(word);
      }
    }
    return words;
  }));
  expect(cut).toEqual([]);
  await page.locator('.family a.row').first().click();
  await page.locator('.pane-title h2:focus').waitFor();
  await page.reload();
  await page.locator('.conversation-column .pane-title h2').waitFor();
  await page.locator('.messages').waitFor();
  expect(await page.locator('h2:focus').count()).toBe(0);
  visitor.sound();
  await visitor.leave();
});
