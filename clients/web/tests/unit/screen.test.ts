import { describe, expect, it } from 'vitest';
import { readFileSync } from 'node:fs';
import { entries } from '../../src/conversation/entries';
import { dayName, languageName, ownName, when } from '../../src/i18n';
import { directionOf } from '../../src/i18n/direction';
import type { Family } from '../../src/protocol';
import { initials, stable } from '../../src/roster/Avatar';
import { sorted } from '../../src/roster/order';
import type { Conversation } from '../../src/store/conversation';
import { withEvent, withPage, withRead } from '../../src/store/conversation';
import type { Pending } from '../../src/store/outbox';
import { CONVERSATION, ME, ROOM, THEM, empty, message, posted } from './samples';

const noon = new Date(2026, 10, 24, 12);
const daysBefore = (days: number, hour = 9) => new Date(2026, 10, 24 - days, hour).toISOString();
const pending = (text: string, more: Partial<Pending> = {}): Pending => ({
  clientId: text, order: 1, at: daysBefore(0, 11), room: ROOM, conversation: CONVERSATION, state: 'waiting',
  deed: { kind: 'post', to: { kind: 'announcements' }, draft: { language: 'en', text, protected: [] }, urgent: false }, ...more,
});

describe('days', () => {
  it('are called as people call them', () => {
    expect([0, 1, 2, 6, 7].map((days) => dayName(daysBefore(days), noon))).toEqual([
      'Today', 'Yesterday', 'Sunday', 'Wednesday', expect.stringMatching(/17/),
    ]);
    expect(dayName(new Date(2025, 0, 2), noon)).toMatch(/2025/);
  });

  it('are counted by the calendar and not by 24 hours', () => {
    expect(dayName(new Date(2026, 10, 23, 23, 59), new Date(2026, 10, 24, 0, 1))).toBe('Yesterday');
    expect(when(new Date(2026, 10, 23, 23, 59), new Date(2026, 10, 24, 0, 1))).toBe('Yesterday');
  });

  it('separate messages, each once', () => {
    const held = [posted(1, { at: daysBefore(1) }), posted(2, { at: daysBefore(1, 10) }), posted(3, { at: daysBefore(0) })].reduce(withEvent, empty());
    const all = entries(held, [pending('later')], 3, noon);
    expect(all.map((entry) => (entry.kind === 'day' ? entry.name : entry.kind))).toEqual([
      'Yesterday', 'message', 'message', 'Today', 'message', 'pending',
    ]);
  });
});

describe('the entries of a conversation', () => {
  it('have a line above the first that is new and by somebody else', () => {
    const held = [posted(1), posted(2, { author: ME }), posted(3), posted(4)].reduce(withEvent, empty());
    const kinds = entries(held, [], 1, noon).map((entry) => (entry.kind === 'message' ? entry.message.n : entry.kind));
    expect(kinds).toEqual(['day', 1, 2, 'new', 3, 4]);
  });

  it('show what is being sent until it has arrived, in the place and under the key it will have', () => {
    const one = pending('mine', { clientId: 'client 2' });
    const before = entries(withEvent(empty(), posted(1)), [one], 9, noon);
    expect(before.at(-1)).toMatchObject({ kind: 'pending', key: 'client 2' });
    const after = entries([posted(1), posted(2, { author: ME })].reduce(withEvent, empty()), [one], 9, noon);
    expect(after.at(-1)).toMatchObject({ kind: 'message', key: 'client 2' });
    expect(after).toHaveLength(before.length);
  });

  it('show a change of a message with it', () => {
    const change = pending('x', { deed: { kind: 'retract', message: 'event 1' } });
    const all = entries(withEvent(empty(), posted(1)), [change], 9, noon);
    expect(all).toHaveLength(2);
    expect(all[1]).toMatchObject({ kind: 'message', change: { deed: { kind: 'retract' } } });
  });

  it('name an author once in a row', () => {
    const held = [posted(1), posted(2), posted(3, { author: 'another' })].reduce(withEvent, empty());
    const firsts = entries(held, [], 9, noon).flatMap((entry) => (entry.kind === 'message' ? [entry.first] : []));
    expect(firsts).toEqual([true, false, true]);
  });
});

describe('languages', () => {
  it('have a direction, by their script before their name', () => {
    expect(['en', 'ar', 'ur-Latn', 'az-Arab', 'he-IL', 'ckb', 'zh-Hant'].map(directionOf)).toEqual(['ltr', 'rtl', 'ltr', 'rtl', 'rtl', 'rtl', 'ltr']);
  });

  it('are called by the page’s words and by their own', () => {
    expect(languageName('es')).toBe('Spanish');
    expect(ownName('es')).toBe('Español');
    expect(languageName('x-nonsense-tag')).toBeTypeOf('string');
  });

  it('have the directions that the server’s source gives them', () => {
    const source = readFileSync(new URL('../../../../protocol/src/language.rs', import.meta.url), 'utf8');
    const ours = readFileSync(new URL('../../src/i18n/direction.ts', import.meta.url), 'utf8').replaceAll("'", '"');
    for (const list of source.matchAll(/const RIGHT_TO_LEFT\w*: \[&str; \d+\] =\s*\[([^\]]+)\]/g)) {
      expect(ours).toContain(list[1]!.trim());
    }
  });
});

describe('families', () => {
  const family = (student: string, ...guardians: string[]): Family => ({
    student: { person: student, name: student },
    guardians: guardians.map((name) => ({ person: name, name, language: 'en', reachable: true, conversation: `${student} ${name}` })),
  });
  const said = (id: string, ...events: Parameters<typeof withEvent>[1][]): [string, Conversation] => {
    const about = { kind: 'private', guardian: id.split(' ')[1]!, student: id.split(' ')[0]! } as const;
    return [id, { ...events.reduce(withEvent, empty()), id, address: about }];
  };

  it('stand first when a guardian waits for an answer, newest first, then by name', () => {
    const families = [family('Zoe', 'z'), family('Bo', 'b1', 'b2'), family('Ada', 'a'), family('Cy', 'c')];
    const conversations = new Map([
      said('Zoe z', posted(1, { author: 'z', at: '2026-11-24T09:00:00.000Z' })),
      said('Bo b2', posted(1, { author: 'b2', at: '2026-11-24T10:00:00.000Z' })),
      said('Ada a', posted(1, { author: 'a' }), posted(2, { author: ME })),
    ]);
    conversations.set('Ada a', withRead(conversations.get('Ada a')!, 2));
    const { waiting, others } = sorted(families, conversations);
    expect(waiting.map((row) => row.family.student.name)).toEqual(['Bo', 'Zoe']);
    expect(others.map((row) => row.family.student.name)).toEqual(['Ada', 'Cy']);
    expect(waiting[0]!.lines.map((line) => line.waits)).toEqual([false, true]);
  });

  it('still wait when what they wrote was read but not answered', () => {
    const [id, held] = said('Zoe z', posted(1, { author: 'z' }));
    const { waiting } = sorted([family('Zoe', 'z')], new Map([[id, withRead(held, 1)]]));
    expect(waiting).toHaveLength(1);
  });
});

describe('circles', () => {
  it('have two letters at most, of any script', () => {
    expect(['Ana López', 'Cher', 'Juan de la Cruz', '李 伟', ''].map(initials)).toEqual(['AL', 'C', 'JC', '李伟', '']);
  });

  it('are stable for an id', () => {
    expect(stable('0193a1b2-1111-7000-8000-00000000000a')).toBe(stable('0193a1b2-1111-7000-8000-00000000000a'));
    const hues = new Set(Array.from({ length: 100 }, (_, i) => stable(`person ${i}`) % 8));
    expect(hues.size).toBe(8);
  });
});

it('pages of history come before what is held', () => {
  const held = withPage(withEvent(empty(), posted(2)), 2, [message(1, 'first', { author: THEM })], false);
  expect(entries(held, [], 9, noon).flatMap((entry) => (entry.kind === 'message' ? [entry.message.n] : []))).toEqual([1, 2]);
});
