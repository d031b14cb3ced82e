import { describe, expect, it } from 'vitest';
import { entries, firstNew } from '../../src/conversation/entries';
import { readUpTo } from '../../src/conversation/reading';
import { type Conversation, withEvent, withPage, withRead, withSummary } from '../../src/store/conversation';
import { ME, ROOM, changed, empty, message, posted, summary, takenBack } from './samples';

/** What is held of a conversation of `n` messages of which `read` were read. */
const whole = (n: number, read = 0) => withRead(Array.from({ length: n }, (_, i) => posted(i + 1)).reduce(withEvent, empty()), read);
const ids = (...numbers: number[]) => new Set(numbers.map((n) => message(n).id));
/** Ten announcements on a device that is new, or has begun anew: the last one is held. */
const latest: Conversation = withSummary(undefined, ROOM, summary(10, { last: message(10), unread: 10 }), ME);
const page = Array.from({ length: 9 }, (_, i) => message(9 - i));

describe('how far a conversation was read', () => {
  it('is to its end when all that is new was on the screen, edits of it included', () => {
    expect(readUpTo(whole(3, 1), ids(2, 3))).toBe(3);
    const edited = withEvent(whole(3, 1), changed(4, 'edited', message(2, 'better')));
    expect(readUpTo(edited, ids(2, 3))).toBe(4);
  });

  it('is to before the first new one that was not on the screen, whatever was seen below it', () => {
    expect(readUpTo(whole(9, 2), ids(3, 4, 8, 9))).toBe(4);
    expect(readUpTo(whole(9, 2), ids(9))).toBe(2);
  });

  it('is held up neither by what one said oneself nor by what was taken back', () => {
    const held = [posted(1, { author: ME }), posted(2), changed(3, 'retracted', takenBack(2)), posted(4)].reduce(withEvent, empty());
    expect(readUpTo(held, ids(4))).toBe(4);
  });

  it('is told nothing of while there may be new ones above what is held', () => {
    expect(readUpTo(latest, ids(10))).toBe(0);
    const filled = withPage(latest, 10, page, false);
    expect(readUpTo(filled, ids(10))).toBe(0);
    expect(readUpTo(filled, ids(1, 2, 3, 10))).toBe(3);
    expect(readUpTo(filled, ids(1, 2, 3, 4, 5, 6, 7, 8, 9, 10))).toBe(10);
  });

  it('is counted by messages and not by numbers, which a restored log gives anew', () => {
    const restored = [posted(1, { id: 'another' })].reduce(withEvent, empty());
    expect(readUpTo(restored, ids(1))).toBe(0);
  });
});

describe('the first new message', () => {
  it('is known only when all since the last one that was read is held', () => {
    expect(firstNew(latest, 0)).toBeUndefined();
    expect(entries(latest, [], 0).some(({ kind }) => kind === 'new')).toBe(false);
    const filled = withPage(latest, 10, page, false);
    expect(firstNew(filled, 0)?.n).toBe(1);
    expect(firstNew(withPage(latest, 10, page.slice(0, 4), true), 5)?.n).toBe(6);
    expect(entries(filled, [], 0).slice(0, 3).map(({ kind }) => kind)).toEqual(['day', 'new', 'message']);
  });

  it('is not one’s own', () => {
    const held = [posted(1), posted(2, { author: ME }), posted(3)].reduce(withEvent, empty());
    expect(firstNew(held, 1)?.n).toBe(3);
    expect(firstNew(held, 3)).toBeUndefined();
  });
});
