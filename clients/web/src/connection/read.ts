/**
 * Readers: small functions that turn `unknown` into a type, or throw `Unreadable` with the place.
 *
 * Owns: how JSON is checked. Refuses to know: what the frames are (see `wire.ts`).
 *
 * A reader builds a new value of the fields it knows, so that what a newer server adds falls away here.
 */

/** Something that is not what the protocol says. */
export class Unreadable extends Error {
  constructor(at: string, expected: string) {
    super(`${at || 'frame'}: expected ${expected}`);
    this.name = 'Unreadable';
  }
}

/** Turns `unknown` into a `T`, or throws `Unreadable`. */
export type Reader<T> = (value: unknown, at?: string) => T;

/** A text. */
export const text: Reader<string> = (value, at = '') => {
  if (typeof value !== 'string') throw new Unreadable(at, 'a text');
  return value;
};

/** A number. */
export const number: Reader<number> = (value, at = '') => {
  if (typeof value !== 'number' || !Number.isFinite(value)) throw new Unreadable(at, 'a number');
  return value;
};

/** True or false. */
export const truth: Reader<boolean> = (value, at = '') => {
  if (typeof value !== 'boolean') throw new Unreadable(at, 'true or false');
  return value;
};

/** A list of what `each` reads. */
export const list =
  <T>(each: Reader<T>): Reader<T[]> =>
  (value, at = '') => {
    if (!Array.isArray(value)) throw new Unreadable(at, 'a list');
    return value.map((item, i) => each(item, `${at}[${i}]`));
  };

/** An object with any keys, each read by `each`. */
export const map =
  <T>(each: Reader<T>): Reader<Record<string, T>> =>
  (value, at = '') =>
    Object.fromEntries(Object.entries(fieldsOf(value, at)).map(([key, item]) => [key, each(item, `${at}.${key}`)]));

/** What `inner` reads, or null. */
export const nullable =
  <T>(inner: Reader<T>): Reader<T | null> =>
  (value, at = '') =>
    value === null ? null : inner(value, at);

/** What `inner` reads, or nothing at all. */
export const optional =
  <T>(inner: Reader<T>): Reader<T | undefined> =>
  (value, at = '') =>
    value === undefined || value === null ? undefined : inner(value, at);

/** What `inner` reads, or `otherwise` when it is left out. */
export const either =
  <T>(inner: Reader<T>, otherwise: T): Reader<T> =>
  (value, at = '') =>
    value === undefined ? otherwise : inner(value, at);

/** One of these words; a word that a newer server knows becomes `unknown` where that is one of them. */
export const oneOf =
  <T extends string>(...words: T[]): Reader<T> =>
  (value, at = '') => {
    const word = text(value, at);
    if (words.includes(word as T)) return word as T;
    if (words.includes('unknown' as T)) return 'unknown' as T;
    throw new Unreadable(at, words.join(' or '));
  };

/** A reader for each field of `T`; only a field that may be missing may be read as nothing. */
export type Fields<T> = { [K in keyof T]-?: object extends Pick<T, K> ? Reader<T[K] | undefined> : Reader<T[K]> };

/** An object with these fields; others fall away. Every field of `T` must be named, so a new one does not compile unread. */
export const object =
  <T extends object>(fields: Fields<T>): Reader<T> =>
  (value, at = '') => {
    const given = fieldsOf(value, at);
    const read: Partial<T> = {};
    for (const key in fields) {
      const field = fields[key](given[key], at ? `${at}.${key}` : key);
      if (field !== undefined) read[key] = field as T[typeof key];
    }
    return read as T;
  };

/** The fields of an object, unread. */
export function fieldsOf(value: unknown, at = ''): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Unreadable(at, 'an object');
  return value as Record<string, unknown>;
}
