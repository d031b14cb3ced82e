/** A person's circle: initials in one of eight hues and one of four rings, always the same for the same id. */
import type { Person } from '../protocol';

/** Two letters at most: of the first and the last word. */
export function initials(name: string): string {
  const words = name.split(/\s+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0]!, words.at(-1)!] : words;
  return letters.map((word) => [...word][0]!.toLocaleUpperCase()).join('');
}

/** A small number that is stable for an id (FNV-1a). */
export function stable(id: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

export function Avatar({ person, large = false }: { person: Person; large?: boolean }) {
  const hash = stable(person.person);
  return (
    <span class={`avatar hue-${hash % 8} ring-${(hash >>> 8) % 4}${large ? ' large' : ''}`} aria-hidden="true">
      {initials(person.name)}
    </span>
  );
}
