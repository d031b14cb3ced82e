/** A teacher and two families at their pages, talking through a real server. */
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { DESKTOP, Visitor, bubble, child, launch, row, say } from './browser';
import { Node } from './node';
import { cast } from './school';

let node: Node;
let browser: Browser;
let teacher: Visitor;
let ana: Visitor;
let other: Visitor;
const people = cast();
const anaName = people.one.guardians[0]!.name;

beforeAll(async () => {
  [node, browser] = await Promise.all([Node.start(), launch()]);
  [teacher, ana, other] = await Promise.all([
    Visitor.arrive(browser, { viewport: DESKTOP }), Visitor.arrive(browser), Visitor.arrive(browser),
  ]);
  await teacher.enter(await node.link(people.teacher.id));
  await ana.enter(await node.link(people.one.guardians[0]!.id));
  await other.enter(await node.link(people.other.guardians[0]!.id));
});
afterAll(async () => {
  await browser?.close();
  await node?.stop();
});

it('an announcement reaches the families, and the teacher sees whom', async () => {
  const { page } = teacher;
  await row(page, people.room.title).first().click();
  await page.locator('.families-column').getByRole('link', { name: /^Announcements/ }).click();
  const composer = page.getByLabel('Write an announcement');
  await composer.fill('Field trip on Friday: meet at 8:30.');
  await expect.poll(() => page.locator('.composer-note').innerText()).toMatch(/\d+ families · \d+ languages/);
  await page.getByRole('button', { name: 'Announce' }).click();
  await bubble(page, 'Field trip').getByText('sent', { exact: true }).waitFor();

  for (const family of [ana, other]) {
    await row(family.page, 'Field trip on Friday').getByText('1 new').waitFor();
  }
  const reach = page.locator('.reach-line').last();
  await expect.poll(() => reach.innerText()).toMatch(/Reached 2 of \d+ · read by 0/);

  await row(ana.page, 'Field trip').click();
  await bubble(ana.page, 'Field trip').waitFor();
  await expect.poll(() => reach.innerText()).toMatch(/Reached 2 of \d+ · read by 1/);
  await reach.click();
  await expect.poll(() => page.locator('.reach-names section', { hasText: 'Read (1)' }).innerText()).toContain(anaName);
});

it('a guardian answers in private, and the marks move to read', async () => {
  const { page } = ana;
  await page.getByRole('link', { name: /Write to the teachers/ }).click();
  await say(page, 'She will bring a packed lunch.');
  await bubble(page, 'packed lunch').getByText('delivered', { exact: true }).waitFor();

  const classes = teacher.page.locator('.home');
  await row(teacher.page, people.room.title).getByText('1 new').waitFor();
  const waiting = teacher.page.getByRole('region', { name: 'Needs an answer' });
  await waiting.getByText(people.one.student.name).waitFor();
  await waiting.locator('a.row', { hasText: 'packed lunch' }).click();
  await bubble(page, 'packed lunch').getByText('read', { exact: true }).waitFor();
  await expect.poll(() => classes.getByText('1 new').count()).toBe(0);
});

it('somebody writing is shown, and the answer comes', async () => {
  await teacher.page.locator('textarea').pressSequentially('Thank');
  await ana.page.getByText(`${people.teacher.name} is writing…`).waitFor();
  await say(teacher.page, 'Thank you, see you on Friday.');
  await bubble(ana.page, 'see you on Friday').waitFor();
  await bubble(teacher.page, 'see you on Friday').getByText('read', { exact: true }).waitFor();
});

it('unread counts stand where nobody looks, and go when somebody does', async () => {
  await ana.page.getByRole('link', { name: 'Back' }).click();
  await ana.page.locator('.home .row').first().waitFor();
  await say(teacher.page, 'One more thing.');
  await say(teacher.page, 'Rain jackets, please.');
  await row(ana.page, 'Rain jackets').getByText('2 new').waitFor();
  await expect.poll(() => bubble(teacher.page, 'Rain jackets').innerText()).toContain('delivered');
  await row(ana.page, 'Rain jackets').click();
  await bubble(teacher.page, 'Rain jackets').getByText('read', { exact: true }).waitFor();
  await ana.page.getByText('New', { exact: true }).waitFor();
});

it('a message can be edited and taken back by its author', async () => {
  const { page } = ana;
  await say(page, 'A blue jacket.');
  const own = bubble(page, 'A blue jacket.');
  await own.getByRole('button', { name: 'Change this message' }).click();
  await own.getByRole('button', { name: 'Edit' }).click();
  await page.getByLabel('Edit', { exact: true }).fill('A green jacket.');
  await page.getByLabel('Edit', { exact: true }).press('Enter');
  await bubble(teacher.page, 'A green jacket.').getByText('edited').waitFor();
  // The field of the edit is gone; the keyboard goes on where one writes.
  await page.locator('.composer textarea:focus').and(page.getByLabel('Edit', { exact: true })).waitFor({ state: 'detached' });
  await page.locator('.composer textarea:focus').waitFor();
  await expect.poll(() => bubble(teacher.page, 'A blue jacket.').count()).toBe(0);

  const edited = bubble(page, 'A green jacket.');
  await edited.getByRole('button', { name: 'Change this message' }).click();
  await edited.getByRole('button', { name: 'Take back' }).click();
  await edited.getByRole('group').getByRole('button', { name: 'Take back' }).click();
  await bubble(teacher.page, 'This message was taken back.').waitFor();
  await bubble(page, 'You took this message back.').waitFor();
  expect(await teacher.page.getByText('A green jacket.').count()).toBe(0);
});

it('what is said in private never reaches another family, neither on the screen nor over the wire', async () => {
  const everything = () => [...other.heard].join('\n');
  // The announcement came, so that the silence about the rest means something.
  expect(everything()).toContain('Field trip on Friday');
  const conversation = new URL(ana.page.url()).hash.split('/').at(-1)!;
  for (const secret of ['packed lunch', 'see you on Friday', 'Rain jackets', 'jacket', conversation, people.one.student.name, anaName]) {
    expect(everything(), secret).not.toContain(secret);
    expect(await other.page.locator('body').innerText(), secret).not.toContain(secret);
  }
});

it('signing out on the page ends it, and leaves nothing on the device', async () => {
  const { page } = other;
  await page.getByRole('link', { name: 'Settings' }).click();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByText('You are signed out.').waitFor();
  const kept = await page.evaluate(async () => {
    const db = await new Promise<IDBDatabase>((resolve) => {
      const request = indexedDB.open('homeroom');
      request.onsuccess = () => resolve(request.result);
    });
    const counts = await Promise.all([...db.objectStoreNames].map((name) => new Promise<number>((resolve) => {
      const request = db.transaction(name).objectStore(name).count();
      request.onsuccess = () => resolve(request.result);
    })));
    return counts.reduce((sum, count) => sum + count, 0);
  });
  expect(kept).toBe(0);
  await page.reload();
  await page.getByRole('button', { name: 'Sign in' }).waitFor();
});

it('two pages of one browser are of one person: whoever signs in last, or nobody', async () => {
  const first = await Visitor.arrive(browser);
  await first.enter(await node.link(people.one.guardians[0]!.id));
  await first.page.getByText(people.one.student.name).waitFor();
  const second = await first.page.context().newPage();
  await second.goto(await node.link(people.other.guardians[0]!.id));
  await second.getByRole('button', { name: 'Open Homeroom' }).click();
  await second.getByText(people.other.student.name).waitFor();
  await first.page.getByText(people.other.student.name).waitFor();
  expect(await first.page.locator('body').innerText()).not.toContain(people.one.student.name);
  await second.getByRole('link', { name: 'Settings' }).click();
  await second.getByRole('button', { name: 'Sign out' }).click();
  await first.page.getByRole('button', { name: 'Sign in' }).waitFor();
  first.sound();
  await first.leave();
});

it('a link that was used opens the page of a device that is signed in, and says why on another', async () => {
  const link = await node.link(people.one.guardians[0]!.id);
  const visitor = await Visitor.arrive(browser);
  await visitor.enter(link);
  await visitor.enter(link);
  await visitor.page.getByText(people.one.student.name).waitFor();
  expect(new URL(visitor.page.url()).pathname).toBe('/');
  visitor.sound();
  await visitor.leave();
  const stranger = await Visitor.arrive(browser);
  await stranger.page.goto(link);
  await stranger.page.getByRole('button', { name: 'Open Homeroom' }).click();
  await stranger.page.getByText('This link does not work any more').waitFor();
  await stranger.leave();
});

it('a name and a code open the page too', async () => {
  const { name, code } = await node.code(people.one.guardians[0]!.id);
  const visitor = await Visitor.arrive(browser);
  const { page } = visitor;
  await page.goto(node.origin);
  await page.getByLabel('Name on your invitation').fill(name);
  await page.getByLabel('Code').fill(`${code.slice(0, 4)}-${code.slice(4)}`.toLowerCase());
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByText(people.one.student.name).waitFor();
  visitor.sound();
  await visitor.leave();
});

it('a long conversation is drawn in part, and all of it is there for who goes up', async () => {
  const all = Array.from({ length: 180 }, (_, i) => `Note ${i + 1}.`);
  const before = await Visitor.arrive(browser);
  const guardian = people.room.families.find((family) => ![people.one, people.other].includes(family) && family.guardians.length > 0)!;
  await before.enter(await node.link(guardian.guardians[0]!.id));
  await child(before.page, guardian.student.name).locator('a.row').first().click();
  await before.page.locator('textarea').waitFor();
  await before.page.evaluate(async (texts) => {
    const field = document.querySelector('textarea')!;
    const set = Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, 'value')!.set!;
    for (const text of texts) {
      set.call(field, text);
      field.dispatchEvent(new InputEvent('input', { bubbles: true }));
      await new Promise((resolve) => setTimeout(resolve));
      field.form!.requestSubmit();
    }
  }, all);
  await expect.poll(() => bubble(before.page, 'Note 180.').innerText(), { timeout: 45_000 }).toMatch(/sent|delivered/);
  expect(await before.page.locator('.messages .text').count()).toBeLessThanOrEqual(100);
  await before.leave();

  const after = await Visitor.arrive(browser);
  const { page } = after;
  await after.enter(await node.link(guardian.guardians[0]!.id));
  await child(page, guardian.student.name).locator('a.row').first().click();
  await bubble(page, 'Note 180.').waitFor();
  const top = () => page.locator('.messages').evaluate((box) => box.scrollTo(0, 0));
  await expect.poll(async () => (await top(), page.getByText('Note 1.', { exact: true }).count())).toBe(1);
  expect(await page.locator('.messages .text').allInnerTexts()).toEqual(all);
  after.sound();
  await after.leave();
});

it('no page broke the Content-Security-Policy or threw', () => {
  for (const visitor of [teacher, ana, other]) visitor.sound();
});
