/** A room as the screens show it. Owns: who is who in it. Refuses to know: what is said there. */
import type { Family, Person, PersonId, Role, RoomId, RoomKind } from '../protocol';

export interface Room {
  id: RoomId;
  kind: RoomKind;
  title: string;
  school: string;
  role: Role;
  /** For a guardian: their students in it. */
  students: Person[];
  staff: Person[];
  /** For staff: the students with their guardians. */
  families: Family[];
  /** Whether `staff` and `families` were ever fetched. */
  detailed: boolean;
}

export function byTitle(a: Room, b: Room): number {
  return a.title.localeCompare(b.title, undefined, { numeric: true });
}

/** Who somebody is, for those who may know them in the room. */
export function nameIn(room: Room, person: PersonId): string | null {
  const families = room.families.flatMap((family) => [family.student, ...family.guardians]);
  return [...room.staff, ...families, ...room.students].find((one) => one.person === person)?.name ?? null;
}
