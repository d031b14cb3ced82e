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

/** Somebody of whom something was heard has signed in, whatever the room's people said when they were fetched. */
export function withHeard(room: Room, person: PersonId): Room {
  const isNews = (family: Family) => family.guardians.some((guardian) => guardian.person === person && !guardian.reachable);
  if (!room.families.some(isNews)) return room;
  const heard = (family: Family): Family => ({
    ...family, guardians: family.guardians.map((guardian) => (guardian.person === person ? { ...guardian, reachable: true } : guardian)),
  });
  return { ...room, families: room.families.map((family) => (isNews(family) ? heard(family) : family)) };
}

/** Who somebody is, for those who may know them in the room. */
export function nameIn(room: Room, person: PersonId): string | null {
  const families = room.families.flatMap((family) => [family.student, ...family.guardians]);
  return [...room.staff, ...families, ...room.students].find((one) => one.person === person)?.name ?? null;
}
