import { describe, expect, it } from 'vitest';
import { type Conversation, reached, unread, withEvent, withMark, withPage, withRead, withSummary } from '../../src/store/conversation';
import { ME, ROOM, THEM, changed, empty, message, posted, summary, takenBack } from './samples';

const texts = (held: Conversation) => held.messages.map((one) => one.envelope?.text ?? 'gone');

describe('events', () => {
  it('are merged by number, each once, in any repetition', () => {
    const events = [posted(1), posted(2), posted(3)];
    const once = events.reduce(withEvent, empty());
    const again = [...events, ...events].reduce(withEvent, once);
    expect(texts(again)).toEqual(['message 1', 'message 2', 'message 3']);
    expect(again).toMatchObject({ n: 3, from: 1, more: false });
  });

  it('that edit or take back change their message and move n', () => {
    const edited = message(1, 'better', { edited_at: '2026-11-24T10:05:00.000Z' });
    const held = [posted(1), posted(2), changed(3, 'edited', edited), changed(4, 'retracted', takenBack(2))].reduce(withEvent, empty());
    expect(texts(held)).toEqual(['better', 'gone']);
    expect(held.n).toBe(4);
  });

  it('that are older than what is held do not bring it back', () => {
    const edited = message(1, 'better', { edited_at: '2026-11-24T10:05:00.000Z' });
    const held = [posted(1), changed(2, 'edited', edited), changed(3, 'retracted', takenBack(1)), posted(1)].reduce(withEvent, empty());
    expect(texts(held)).toEqual(['gone']);
  });

  it('stand against a page that was read before them, whatever the clocks of the servers say', () => {
    const late = message(1, 'second', { edited_at: '2026-11-24T10:05:00.000Z' });
    const early = message(1, 'third', { edited_at: '2026-11-24T10:04:00.000Z' });
    const held = [posted(1), changed(2, 'edited', late), changed(3, 'edited', early)].reduce(withEvent, empty());
    expect(texts(held)).toEqual(['third']);
    expect(texts(withPage(held, 2, [late], false))).toEqual(['third']);
  });

  it('of messages older than the stretch held only move n', () => {
    const held = withSummary(undefined, ROOM, summary(5, { last: message(5) }), ME);
    const after = withEvent(held, changed(6, 'edited', message(2, 'better', { edited_at: '2026-11-24T10:05:00.000Z' })));
    expect(texts(after)).toEqual(['message 5']);
    expect(after).toMatchObject({ n: 6, from: 5, more: true });
  });

  it('with a hole before them begin a new stretch, to be filled from history', () => {
    const held = [posted(1), posted(2), posted(5)].reduce(withEvent, empty());
    expect(held).toMatchObject({ n: 5, from: 5, more: true });
    const filled = withPage(held, 5, [4, 3, 2, 1].map((n) => message(n)), false);
    expect(texts(filled)).toHaveLength(5);
    expect(filled).toMatchObject({ from: 1, more: false });
  });

  it('that are the first heard of a conversation leave room for what was before', () => {
    expect(withEvent(empty(), posted(7))).toMatchObject({ n: 7, from: 7, more: true });
  });

  it('without a message of ours to show (withheld, unknown) still move n', () => {
    const held = withEvent(withEvent(empty(), posted(1)), { room: ROOM, id: 'e', conversation: 'conversation', n: 2, at: '', kind: 'withheld' });
    expect(held.n).toBe(2);
    expect(withEvent(held, posted(3))).toMatchObject({ n: 3, from: 1 });
  });
});

describe('history', () => {
  it('fills in before what is held', () => {
    const held = withSummary(undefined, ROOM, summary(9, { last: message(9) }), ME);
    const page = withPage(held, 9, [message(8), message(6)], true);
    expect(page).toMatchObject({ from: 6, more: true });
    expect(withPage(page, 6, [message(5)], false)).toMatchObject({ from: 1, more: false });
  });

  it('yields to what was said of its messages while it was on its way, and to nothing beyond it', () => {
    const held = withSummary(undefined, ROOM, summary(12, { last: message(10) }), ME);
    const later = [message(5, 'better'), takenBack(8), message(8, 'too late'), message(2, 'further back')];
    const page = withPage(held, 10, [message(8), message(6), takenBack(5)], true, later);
    expect(texts(page), 'what the page has as taken back stays so').toEqual(['gone', 'message 6', 'gone', 'message 10']);
    expect(page).toMatchObject({ from: 5, more: true });
  });

  it('that would leave a hole is not taken', () => {
    const held = withSummary(undefined, ROOM, summary(9, { last: message(9) }), ME);
    expect(withPage(held, 5, [message(4)], true)).toBe(held);
  });
});

describe('summaries', () => {
  it('of a conversation that is followed move marks and leave its messages to its events', () => {
    const held = withEvent(empty(), posted(1));
    const after = withSummary(held, ROOM, summary(4, { last: message(4), mine: { person: ME, delivered: 1, read: 1 }, unread: 3 }), ME);
    expect(texts(after)).toEqual(['message 1']);
    expect(after).toMatchObject({ n: 1, read: 1 });
  });

  it('never move marks back', () => {
    let held = withRead([posted(1), posted(2)].reduce(withEvent, empty()), 2);
    held = withSummary(held, ROOM, summary(2, { mine: { person: ME, delivered: 2, read: 1 } }), ME);
    expect(held.read).toBe(2);
    expect(withMark(held, { person: ME, delivered: 1, read: 0 })).toBe(held);
  });
});

describe('what is unread', () => {
  it('is what others wrote after what was read, and not what was taken back', () => {
    const held = [posted(1), posted(2, { author: ME }), posted(3), posted(4), changed(5, 'retracted', takenBack(4))].reduce(withEvent, empty());
    expect(unread(held)).toBe(2);
    expect(unread(withRead(held, 1))).toBe(1);
    expect(unread(withRead(held, 99))).toBe(0);
    expect(withRead(held, 99).read).toBe(5);
  });

  it('is taken from the server where the messages are not held, and grows with what comes', () => {
    const held = withSummary(undefined, ROOM, summary(30, { last: message(30), unread: 12 }), ME);
    expect(unread(held)).toBe(12);
    expect(unread(withEvent(held, posted(31)))).toBe(13);
    expect(unread(withRead(withEvent(held, posted(31)), 30))).toBe(1);
  });

  it('sinks when another device of the same person has read', () => {
    const held = [posted(1), posted(2)].reduce(withEvent, empty());
    expect(unread(withMark(held, { person: ME, delivered: 2, read: 2 }))).toBe(0);
  });
});

describe('how far a message has come', () => {
  const own = message(3, 'mine', { author: ME });
  it('follows the marks of the staff, for a guardian', () => {
    let held = withEvent(empty(), posted(3, { author: ME }));
    expect(reached(held, own)).toBe('sent');
    held = withMark(held, { person: 'teacher', delivered: 3, read: 2 });
    expect(reached(held, own)).toBe('delivered');
    expect(reached(withMark(held, { person: 'another teacher', delivered: 3, read: 3 }), own)).toBe('read');
  });

  it('follows the guardian alone, for staff: that a colleague has read it says nothing', () => {
    const about = { kind: 'private', guardian: THEM, student: 's' } as const;
    const held = { ...withEvent(empty(), posted(3, { author: ME })), address: about };
    const seen = withMark(held, { person: 'colleague', delivered: 3, read: 3 });
    expect(reached(seen, own)).toBe('sent');
    expect(reached(withMark(seen, { person: THEM, delivered: 3, read: 3 }), own)).toBe('read');
  });
});
