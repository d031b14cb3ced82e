import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { NoAnswer, Refused, call } from '../../src/connection/http';

/** What the server answers, one after the other; the last one from then on. */
let answers: { status: number; retryable?: boolean; after?: number }[];
/** When it was asked, in milliseconds. */
let asked: number[];

beforeEach(() => {
  vi.useFakeTimers({ now: 0 });
  vi.spyOn(Math, 'random').mockReturnValue(0.5);
  asked = [];
  vi.stubGlobal('fetch', async () => {
    asked.push(Date.now());
    const { status, retryable = false, after } = answers.length > 1 ? answers.shift()! : answers[0]!;
    const fault = { code: 'unavailable', message: 'Not now.', retryable, ...(after === undefined ? {} : { retry_after_ms: after }) };
    return new Response(JSON.stringify(status === 200 ? 'done' : fault), { status });
  });
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

/** The call's result, or its error. */
async function outcome(): Promise<unknown> {
  const result = call('GET', 'home', String).catch((error: unknown) => error);
  await vi.runAllTimersAsync();
  return result;
}

it('a refusal that will pass is waited for as long as the server says, and a little more each time', async () => {
  answers = [{ status: 503, retryable: true, after: 2_000 }, { status: 429, retryable: true }, { status: 200 }];
  expect(await outcome()).toBe('done');
  expect(asked).toEqual([0, 2_250, 3_750]);
});

it('a refusal that does not pass is told after some tries', async () => {
  answers = [{ status: 503, retryable: true, after: 1_000 }];
  expect(await outcome()).toMatchObject({ status: 503 });
  expect(asked).toHaveLength(4);
});

it('nobody is left waiting without a word for as long as a limit on tries may last', async () => {
  answers = [{ status: 429, retryable: true, after: 40_000 }];
  expect(await outcome()).toBeInstanceOf(Refused);
  expect(asked).toHaveLength(1);
});

it('a refusal for good, and no answer at all, are told at once', async () => {
  answers = [{ status: 403 }];
  expect(await outcome()).toBeInstanceOf(Refused);
  vi.stubGlobal('fetch', () => (asked.push(Date.now()), Promise.reject(new TypeError())));
  expect(await outcome()).toBeInstanceOf(NoAnswer);
  expect(asked).toEqual([0, 0]);
});
