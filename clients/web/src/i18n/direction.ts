/**
 * Which way a language is written: by its script where the tag names one, else by the language. The same lists as the
 * server's, which says the direction of what it has stored; this is for what it has not heard of yet.
 */
import type { Direction, Language } from '../protocol';

const SCRIPTS = ['Arab', 'Aran', 'Hebr', 'Thaa', 'Nkoo', 'Syrc', 'Adlm', 'Rohg', 'Mand'];
const LANGUAGES = ['ar', 'he', 'fa', 'ur', 'ps', 'sd', 'ug', 'yi', 'dv', 'ckb', 'prs', 'nqo', 'syr', 'pnb', 'ks'];

export function directionOf(language: Language): Direction {
  const [primary = '', ...rest] = language.split('-');
  const script = rest.find((part) => /^[A-Za-z]{4}$/.test(part));
  return (script ? SCRIPTS.includes(script) : LANGUAGES.includes(primary)) ? 'rtl' : 'ltr';
}
