import { describe, expect, it, vi } from 'vitest';
import { type Answer, CommandRefused, LineLost, type Unsent } from '../../src/connection/connection';
import { Marks } from '../../src/store/marks';
import { until } from './samples';

function scene(answer: (command: Unsent) => Promise<Answer> = async () => ({ type: 'ack', ref: 1 })) {
  const sent: { type: string; n: number }[] = [];
  const told: string[] = [];
  const marks = new Marks(
    (command) => {
      if (command.type === 'read' || command.type === 'delivered') sent.push({ type: command.type, n: command.n });
      return answer(command);
    },
    (kind, conversation, n) => void told.push(`${kind} ${conversation} ${n}`),
  );
  return { marks, sent, told };
}

describe('marks', () => {
  it('are told newest only, read before delivered', async () => {
    const { marks, sent, told } = scene();
    marks.note('delivered', 'r', 'c', 3);
    marks.note('read', 'r', 'c', 1);
    marks.note('read', 'r', 'c', 2);
    marks.note('read', 'r', 'c', 1);
    expect(sent).toEqual([]);
    marks.online();
    await until('both told', () => told.length === 2);
    expect(sent).toEqual([{ type: 'read', n: 2 }, { type: 'delivered', n: 3 }]);
  });

  it('wait for a line, and are told again when it was lost before the answer', async () => {
    let lose = true;
    const { marks, sent, told } = scene(async () => {
      if (lose) throw new LineLost();
      return { type: 'ack', ref: 1 };
    });
    marks.online();
    marks.note('read', 'r', 'c', 5);
    await until('tried', () => sent.length === 1);
    marks.offline();
    lose = false;
    marks.online();
    await until('told', () => told.length === 1);
    expect(told).toEqual(['read c 5']);
  });

  it('slow down when told to, and give up what is refused for good', async () => {
    let answers = 0;
    const { marks, sent } = scene(async (command) => {
      answers += 1;
      const refuse = (code: 'rate_limited' | 'forbidden', retryable: boolean) =>
        new CommandRefused({ type: 'error', ref: 1, code, message: '', retryable, retry_after_ms: 1 });
      if (answers === 1) throw refuse('rate_limited', true);
      if ('conversation' in command && command.conversation === 'gone') throw refuse('forbidden', false);
      return { type: 'ack', ref: 1 };
    });
    marks.note('read', 'r', 'gone', 1);
    marks.note('read', 'r', 'c', 2);
    marks.online();
    await until('all tried', () => sent.length === 3);
    expect(sent.map(({ n }) => n)).toEqual([1, 1, 2]);
  });

  it('go on when the clock is set back, and the first does not wait', async () => {
    const { marks, told } = scene();
    marks.online();
    vi.spyOn(performance, 'now').mockReturnValueOnce(1);
    marks.note('read', 'r', 'c', 1);
    await Promise.resolve();
    expect(told, 'as soon as the page is there').toEqual(['read c 1']);
    vi.spyOn(Date, 'now').mockReturnValue(Date.now() - 3_600_000);
    marks.note('read', 'r', 'c', 2);
    await until('told again', () => told.length === 2);
    vi.restoreAllMocks();
  });

  it('of whoever signed out are not told as those of the next', async () => {
    let lose: (error: Error) => void = () => {};
    const { marks, sent } = scene(() => new Promise((_, reject) => (lose = reject)));
    marks.online();
    marks.note('read', 'r', 'c', 5);
    marks.note('delivered', 'r', 'c', 5);
    await until('one under way', () => sent.length === 1);
    marks.offline();
    marks.clear();
    lose(new LineLost());
    await new Promise((resolve) => setTimeout(resolve));
    marks.online();
    marks.note('read', 'r', 'c', 2);
    await until('told', () => sent.length === 2);
    expect(sent[1]).toEqual({ type: 'read', n: 2 });
  });

  it('that are acknowledged to whoever signed out are not noted as those of the next', async () => {
    let acknowledge = () => {};
    const { marks, sent, told } = scene(() => new Promise((resolve) => (acknowledge = () => resolve({ type: 'ack', ref: 1 }))));
    marks.online();
    marks.note('read', 'r', 'c', 5);
    await until('under way', () => sent.length === 1);
    acknowledge();
    marks.clear();
    marks.note('read', 'r', 'c', 2);
    await until('the next is told', () => sent.length === 2);
    expect(told).toEqual([]);
    acknowledge();
    await until('noted', () => told.length === 1);
    expect(told).toEqual(['read c 2']);
  });
});
