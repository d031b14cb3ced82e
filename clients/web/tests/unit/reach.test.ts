import { signal } from '@preact/signals';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { Mark, You } from '../../src/protocol';
import { withEvent } from '../../src/store/conversation';
import { CONVERSATION, ROOM, empty, posted, until } from './samples';

const store = vi.hoisted(() => ({}) as Record<string, { value: unknown }>);
vi.mock('../../src/page', () => {
  store['you'] = signal<You | null>(null);
  store['announced'] = signal<{ conversation: string; mark: Mark } | null>(null);
  store['conversations'] = signal(new Map());
  return { store };
});
const { fetchReach, reports } = await import('../../src/reach/reach');

const you = (person: string): You => ({ person, name: person, language: 'en' });
const MESSAGE = posted(1).id;
let answer: (response: Response) => void;
beforeEach(() => {
  vi.stubGlobal('fetch', () => new Promise<Response>((resolve) => (answer = resolve)));
  store['you']!.value = you('ana');
  store['conversations']!.value = new Map([[CONVERSATION, withEvent(empty(), posted(1))]]);
});
afterEach(() => void vi.unstubAllGlobals());

const report = () => new Response(JSON.stringify({ message: MESSAGE, guardians: [
  { about: { guardian: 'rui', student: 's' }, guardian_name: 'Rui', student_name: 'Maria', delivered: false, read: false },
] }));

it('reports are for whoever asked, and gone when they sign out', async () => {
  const asked = fetchReach(ROOM, MESSAGE, 1);
  answer(report());
  await asked;
  expect(reports.value.get(MESSAGE)?.state).toBe('known');
  store['you']!.value = { ...you('ana'), language: 'es' };
  expect(reports.value.size, 'the same person').toBe(1);
  store['you']!.value = null;
  expect(reports.value.size).toBe(0);
});

it('a report that comes after its person signed out is for nobody', async () => {
  const asked = fetchReach(ROOM, MESSAGE, 1);
  store['you']!.value = null;
  store['you']!.value = you('ben');
  answer(report());
  await asked;
  expect(reports.value.size).toBe(0);
});

it('a mark that comes moves the report on', async () => {
  const asked = fetchReach(ROOM, MESSAGE, 1);
  answer(report());
  await asked;
  store['announced']!.value = { conversation: CONVERSATION, mark: { person: 'rui', delivered: 1, read: 0 } };
  await until('moved', () => {
    const known = reports.value.get(MESSAGE);
    return known?.state === 'known' && known.reach.guardians[0]!.delivered;
  });
});
