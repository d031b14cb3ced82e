/** Several people in one line. */
import type { Person } from '../protocol';
import { t } from '../i18n';

/** Two names in full; of more, how many. */
export function names(people: readonly Person[]): string {
  const shown = people.slice(0, 2).map((person) => person.name).join(', ');
  return people.length > 2 ? t.andMore(shown, people.length - 2) : shown;
}
