/**
 * The language of the page itself, and how it writes times, days and names of languages.
 *
 * Owns: which words are used. Refuses to know: the languages of messages, which carry their own.
 */
import type { Language } from '../protocol';
import { en, type Words } from './en';

/** The words in use. English is the only language of the page so far; people's own languages are those of messages. */
export const t: Words = en;
/** Their language, for `lang` and for dates. */
export const locale = 'en';
/** How this device writes dates in that language: 17 November, or November 17. */
const region = globalThis.navigator?.languages?.find((tag) => tag.split('-')[0] === locale) ?? locale;

/** Languages offered in the settings, by their tag; each is called by its own name. */
export const OFFERED: readonly Language[] = [
  'en', 'ar', 'bn', 'zh-Hans', 'zh-Hant', 'cs', 'da', 'nl', 'fil', 'fi', 'fr', 'de', 'el', 'gu', 'ht', 'he', 'hi', 'hmn', 'hu', 'id',
  'it', 'ja', 'km', 'ko', 'ku', 'lo', 'ms', 'my', 'ne', 'nb', 'ps', 'fa', 'pl', 'pt', 'pt-BR', 'pa', 'ro', 'ru', 'sr', 'so', 'es', 'sw',
  'sv', 'ta', 'te', 'th', 'ti', 'tr', 'uk', 'ur', 'vi', 'yo',
];

/** What a language is called in the page's words. */
export function languageName(tag: Language): string {
  return named(tag, locale);
}

/** What a language calls itself. */
export function ownName(tag: Language): string {
  const name = named(tag, tag);
  return name.charAt(0).toLocaleUpperCase(tag) + name.slice(1);
}

function named(tag: Language, by: string): string {
  const key = `${tag} ${by}`;
  const known = NAMES.get(key);
  if (known !== undefined) return known;
  let name: string | undefined;
  try {
    name = new Intl.DisplayNames([by, locale], { type: 'language' }).of(tag);
  } catch {
    // Not a tag that this browser takes: shown as it is.
  }
  NAMES.set(key, name ?? tag);
  return name ?? tag;
}

// Made once: to make a formatter takes longer than to draw a row.
const CLOCK = new Intl.DateTimeFormat(region, { hour: 'numeric', minute: '2-digit' });
const ORDER = new Intl.Collator(locale, { numeric: true });
const NAMES = new Map<string, string>();

/** `14:10` or `2:10 PM`, as this device writes it. */
export function clock(at: string | Date): string {
  return CLOCK.format(new Date(at));
}

/** The order of names in lists. */
export const inOrder = (a: string, b: string): number => ORDER.compare(a, b);

function daysAgo(at: Date, now: Date): number {
  const day = (date: Date) => Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) / 86_400_000;
  return day(now) - day(at);
}

/** A day as a heading: Today, Yesterday, Tuesday, 12 November. */
export function dayName(at: string | Date, now = new Date()): string {
  const date = new Date(at);
  const ago = daysAgo(date, now);
  if (ago === 0) return t.today;
  if (ago === 1) return t.yesterday;
  if (ago > 1 && ago < 7) return date.toLocaleDateString(region, { weekday: 'long' });
  const year = date.getFullYear() === now.getFullYear() ? {} : ({ year: 'numeric' } as const);
  return date.toLocaleDateString(region, { day: 'numeric', month: 'long', ...year });
}

/** A moment in a list, as short as it stays clear: 14:10, Yesterday, Tue, 12 Nov. */
export function when(at: string | Date, now = new Date()): string {
  const date = new Date(at);
  const ago = daysAgo(date, now);
  if (ago === 0) return clock(date);
  if (ago === 1) return t.yesterday;
  if (ago > 1 && ago < 7) return date.toLocaleDateString(region, { weekday: 'short' });
  return date.toLocaleDateString(region, { day: 'numeric', month: 'short' });
}

/** The greeting that fits the hour. */
export function greeting(name: string, now = new Date()): string {
  const hour = now.getHours();
  return hour < 12 ? t.goodMorning(name) : hour < 18 ? t.goodAfternoon(name) : t.goodEvening(name);
}
