/** The server is killed and comes back; what was written meanwhile arrives once, and in order. */
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { DESKTOP, Visitor, bubble, child, launch, row, say } from './browser';
import { Node } from './node';
import { cast } from './school';

let node: Node;
let browser: Browser;
let teacher: Visitor;
let ana: Visitor;
const people = cast();

beforeAll(async () => {
  [node, browser] = await Promise.all([Node.start(), launch()]);
  [teacher, ana] = await Promise.all([Visitor.arrive(browser, { viewport: DESKTOP }), Visitor.arrive(browser)]);
  await teacher.enter(await node.link(people.teacher.id));
  await ana.enter(await node.link(people.one.guardians[0]!.id));
  await child(ana.page, people.one.student.name).locator('a.row').first().click();
  await say(ana.page, 'Before the cut.');
  await bubble(ana.page, 'Before the cut.').getByText('delivered', { exact: true }).waitFor();
  await row(teacher.page, people.room.title).first().click();
  await row(teacher.page, 'Before the cut.').click();
  await bubble(teacher.page, 'Before the cut.').waitFor();
});
afterAll(async () => {
  await browser?.close();
  await node?.stop();
});

it('a page says that there is no connection, keeps what is written, and sends it once when the server is back', async () => {
  await node.kill();
  await ana.page.getByText(/No connection/).waitFor();
  await say(ana.page, 'Written while away: one.');
  await say(ana.page, 'Written while away: two.');
  await bubble(ana.page, 'away: two').getByText('not sent yet').waitFor();
  await ana.page.getByText('2 messages are kept').waitFor();

  await node.serveAgain();
  await bubble(ana.page, 'away: two').getByText(/delivered|read/).waitFor();
  await expect.poll(() => ana.page.getByText(/No connection/).count()).toBe(0);
  for (const { page } of [ana, teacher]) {
    await bubble(page, 'away: two').waitFor();
    const said = await page.locator('.messages .text').allInnerTexts();
    expect(said).toEqual(['Before the cut.', 'Written while away: one.', 'Written while away: two.']);
  }
});

it('what is written while away survives a reload without a server', async () => {
  await node.kill();
  await ana.page.getByText(/No connection/).waitFor();
  await say(ana.page, 'Kept over a reload.');
  await bubble(ana.page, 'Kept over a reload.').getByText('not sent yet').waitFor();
  await ana.page.locator('textarea').fill('Half a sent');
  await ana.page.reload();
  await bubble(ana.page, 'Before the cut.').waitFor();
  await bubble(ana.page, 'Kept over a reload.').getByText('not sent yet').waitFor();
  expect(await ana.page.locator('textarea').inputValue()).toBe('Half a sent');

  await node.serveAgain();
  await bubble(teacher.page, 'Kept over a reload.').waitFor();
  await bubble(ana.page, 'Kept over a reload.').getByText(/delivered|read/).waitFor();
  expect(await bubble(teacher.page, 'Kept over a reload.').count()).toBe(1);
});

it('what happened while a page was away follows when it is back', async () => {
  await ana.page.context().setOffline(true);
  await ana.page.getByText(/No connection/).waitFor();
  for (const n of [1, 2, 3]) await say(teacher.page, `You missed ${n}.`);
  await bubble(teacher.page, 'You missed 3.').getByText('sent', { exact: true }).waitFor();
  await ana.page.context().setOffline(false);
  await bubble(ana.page, 'You missed 3.').waitFor();
  const missed = (await ana.page.locator('.messages .text').allInnerTexts()).filter((text) => text.startsWith('You missed'));
  expect(missed).toEqual(['You missed 1.', 'You missed 2.', 'You missed 3.']);
});

it('no page broke the Content-Security-Policy or threw', () => {
  for (const visitor of [teacher, ana]) visitor.sound();
});
