import { beforeEach, expect, it, vi } from 'vitest';
import { drawn, stubPage } from './dom';
import { message, until } from './samples';

stubPage();
const { Bubble } = await import('../../src/conversation/Bubble');
const { Composer } = await import('../../src/conversation/Composer');
const { LinkPage } = await import('../../src/identity/SignIn');

beforeEach(() => void vi.stubGlobal('fetch', vi.fn()));

it('what is written is sent once, however fast somebody taps', () => {
  const submit = vi.fn();
  const { root, draw } = drawn(<Composer draftKey="one" label="Write" action="Send" submit={submit} />);
  const field = root.one('textarea');
  const write = (text: string) => {
    field.value = text;
    field.does('input');
  };
  write('Trip on Friday.');
  draw();
  const enter = { key: 'Enter', shiftKey: false, isComposing: false };
  field.does('keydown', enter);
  field.does('keydown', enter);
  root.one('form').does('submit');
  expect(submit.mock.calls).toEqual([['Trip on Friday.']]);
  draw();
  expect(field.value).toBe('');
  // What is written before the next drawing is another text, and not more of the last one.
  write('At 8:30.');
  field.does('keydown', enter);
  expect(submit.mock.calls.at(-1)).toEqual(['At 8:30.']);
});

it('a message is taken back once, and again only when somebody was asked again', () => {
  const takeBack = vi.fn();
  const { root, draw } = drawn(<Bubble message={message(1)} own name={null} state="sent" change={undefined} edit={vi.fn()} takeBack={takeBack} />);
  for (const times of [1, 2]) {
    root.one('button').does('click');
    draw();
    root.one('button', 'Take back').does('click');
    draw();
    const sure = root.one('button', 'Take back');
    sure.does('click');
    sure.does('click');
    draw();
    expect(takeBack).toHaveBeenCalledTimes(times);
  }
});

it('a link is used once, and again when there was no answer', async () => {
  const entered = vi.fn();
  const back = vi.fn();
  const calls = vi.mocked(fetch).mockRejectedValueOnce(new TypeError('no network'));
  const { root, draw } = drawn(<LinkPage secret="s" entered={entered} back={back} useCode={vi.fn()} />);
  root.one('button').does('click');
  root.one('button').does('click');
  draw();
  expect(calls).toHaveBeenCalledTimes(1);
  await until('the failure', () => (draw(), root.one('button').text === 'Open Homeroom'));
  const you = { person: 'p', name: 'Ana', language: 'es' };
  calls.mockResolvedValue(new Response(JSON.stringify({ you, expires_at: '2026-12-24T10:41:06.123Z' })));
  root.one('button').does('click');
  root.one('button').does('click');
  await until('signed in', () => entered.mock.calls.length > 0);
  expect(calls).toHaveBeenCalledTimes(2);
  expect(back).not.toHaveBeenCalled();
});
