import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { Event, HistoryPage, Message } from '../../src/protocol';
import { type Conversation, withEvent, withSummary } from '../../src/store/conversation';
import { History } from '../../src/store/history';
import { CONVERSATION, ME, ROOM, changed, empty, message, posted, summary, takenBack } from './samples';

/** The requests that wait for the server, which the test plays. */
let waiting: ((response: Response | Error) => void)[];
beforeEach(() => {
  waiting = [];
  vi.stubGlobal('fetch', () => new Promise((resolve, reject) => {
    waiting.push((response) => (response instanceof Error ? reject(response) : resolve(response)));
  }));
});
afterEach(() => void vi.unstubAllGlobals());

const page = (messages: Message[], more = false) => new Response(JSON.stringify({ messages, more } satisfies HistoryPage));

/** A shelf with one conversation, of which only the last message is held. */
function scene() {
  let held: Conversation | undefined = withSummary(undefined, ROOM, summary(10, { last: message(10) }), ME);
  const failed = vi.fn();
  const history = new History({ conversation: () => held, put: (conversation) => void (held = conversation), failed });
  /** An event comes, as the store takes it in. */
  const comes = (event: Event) => {
    held = withEvent(held ?? empty(), event);
    history.heard(event);
  };
  const numbers = () => held?.messages.map(({ n }) => n);
  const state = () => history.state.value.get(CONVERSATION);
  const texts = () => held?.messages.map(({ envelope }) => envelope?.text ?? 'gone');
  const forget = () => {
    held = undefined;
    history.forget(CONVERSATION);
  };
  return { history, failed, comes, forget, numbers, texts, state };
}

it('whoever asks for a page that is on its way waits for it, and it is fetched once', async () => {
  const { history, numbers } = scene();
  const first = history.older(CONVERSATION);
  const order: string[] = [];
  const second = history.older(CONVERSATION).then(() => order.push(`asked second, holding ${numbers()}`));
  // Anything that had resolved already would be done by now.
  await new Promise((resolve) => setTimeout(resolve));
  order.push('answered');
  expect(waiting).toHaveLength(1);
  waiting[0]!(page([message(9)]));
  await Promise.all([first, second]);
  expect(order).toEqual(['answered', 'asked second, holding 9,10']);
});

it('a page that is refused only now is under way until it is there', async () => {
  vi.spyOn(Math, 'random').mockReturnValue(0);
  const { history, numbers, state } = scene();
  const asked = history.older(CONVERSATION);
  const fault = { code: 'unavailable', message: '', retryable: true, retry_after_ms: 1 };
  waiting[0]!(new Response(JSON.stringify(fault), { status: 503 }));
  await vi.waitFor(() => expect(waiting).toHaveLength(2));
  expect(state()).toBe('loading');
  waiting[1]!(page([message(9)]));
  await asked;
  expect(numbers()).toEqual([9, 10]);
  vi.restoreAllMocks();
});

it('what was under way at a sign-out is not taken in, and holds up nobody who comes after', async () => {
  const { history, failed, numbers, state } = scene();
  const first = history.older(CONVERSATION);
  history.clear();
  expect(state()).toBeUndefined();
  const second = history.older(CONVERSATION);
  expect(waiting, 'asked anew').toHaveLength(2);
  waiting[0]!(page([message(9, 'for somebody else')]));
  await first;
  expect(numbers()).toEqual([10]);
  expect(state(), 'the second is still under way').toBe('loading');
  waiting[1]!(new Error('no network'));
  await second;
  expect(state()).toBe('failed');
  expect(failed).toHaveBeenCalledOnce();
});

it('a refusal that comes after a sign-out is nobody’s', async () => {
  const { history, failed, state } = scene();
  const asked = history.older(CONVERSATION);
  history.clear();
  waiting[0]!(new Response(JSON.stringify({ code: 'unauthenticated', message: '', retryable: false }), { status: 401 }));
  await asked;
  expect(failed).not.toHaveBeenCalled();
  expect(state()).toBeUndefined();
});

it('what is edited or taken back while its page is on its way is shown as it stands', async () => {
  const { history, comes, texts } = scene();
  const asked = history.older(CONVERSATION);
  comes(changed(11, 'edited', message(8, 'better')));
  comes(changed(12, 'retracted', takenBack(9)));
  comes(posted(13));
  waiting[0]!(page([message(9), message(8)]));
  await asked;
  expect(texts()).toEqual(['better', 'gone', 'message 10', 'message 13']);
});

it('a page of what was forgotten meanwhile is not taken in', async () => {
  const { history, comes, forget, numbers, state } = scene();
  const asked = history.older(CONVERSATION);
  forget();
  expect(state()).toBeUndefined();
  comes(posted(10));
  waiting[0]!(page([message(9, 'of the history before')]));
  await asked;
  expect(numbers()).toEqual([10]);
});
