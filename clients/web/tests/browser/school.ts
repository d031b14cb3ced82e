/**
 * The demo school's cast, read from its OneRoster files: who teaches whom, and whose guardians are whose.
 *
 * Owns: choosing people for a test. Refuses to know: the importer; this reads the few columns that it needs itself.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export const DEMO_SCHOOL = process.env['HOMEROOM_SCHOOL'] ?? new URL('../../../../demo/school/', import.meta.url).pathname;

type Line = Record<string, string>;

export interface Person {
  id: string;
  name: string;
}
export interface Family {
  student: Person;
  guardians: Person[];
}
export interface Class {
  title: string;
  teachers: Person[];
  families: Family[];
}

/** RFC 4180, with a header. */
function csv(folder: string, file: string): Line[] {
  const rows: string[][] = [[]];
  for (const [, quoted, plain = '', end] of readFileSync(join(folder, file), 'utf8').replace(/^\uFEFF/, '')
    .matchAll(/(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/g)) {
    rows.at(-1)!.push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end !== ',') rows.push([]);
  }
  const [header = [], ...lines] = rows.filter((row) => row.some((cell) => cell !== ''));
  return lines.map((line) => Object.fromEntries(header.map((name, i) => [name, line[i] ?? ''])));
}

/** The classes of a school folder, those with the most families first. */
export function classes(folder = DEMO_SCHOOL): Class[] {
  const users = csv(folder, 'users.csv');
  const people = new Map(users.map((user) => [user['sourcedId']!, { id: user['sourcedId']!, name: `${user['givenName']} ${user['familyName']}` }]));
  const named = (id: string) => people.get(id) ?? { id, name: id };
  const related = new Map<string, Set<string>>();
  for (const user of users) {
    for (const agent of (user['agentSourcedIds'] ?? '').split(',').map((id) => id.trim()).filter(Boolean)) {
      for (const [a, b] of [[user['sourcedId']!, agent], [agent, user['sourcedId']!]] as const) {
        related.set(a, (related.get(a) ?? new Set()).add(b));
      }
    }
  }
  const enrollments = csv(folder, 'enrollments.csv');
  return csv(folder, 'classes.csv')
    .map((one) => {
      const members = (role: string) => enrollments
        .filter((line) => line['classSourcedId'] === one['sourcedId'] && line['role']?.toLowerCase() === role)
        .map((line) => named(line['userSourcedId']!));
      return {
        title: one['title']!,
        teachers: members('teacher'),
        families: members('student').map((student) => ({ student, guardians: [...(related.get(student.id) ?? [])].map(named) })),
      };
    })
    .sort((a, b) => b.families.length - a.families.length);
}

/** A class with a teacher and two families that share nobody. */
export function cast(folder = DEMO_SCHOOL): { room: Class; teacher: Person; one: Family; other: Family } {
  const all = classes(folder);
  const timesSeen = (person: Person) => all.flatMap((room) => room.families).filter((family) => family.guardians.some(({ id }) => id === person.id)).length;
  for (const room of all) {
    const [teacher] = room.teachers;
    // Guardians of one child only: their pages hold one card, and nothing of the class is on them twice.
    const plain = room.families.filter(({ guardians: [first] }) => first && timesSeen(first) === 1);
    const names = (family: Family) => [family.student, ...family.guardians].map(({ name }) => name);
    const [one] = plain;
    // Of other names too: a test that looks for a name must not find a namesake.
    const other = plain.find((family) => one && !names(family).some((name) => names(one).includes(name)));
    if (teacher && one && other) return { room, teacher, one, other };
  }
  throw new Error(`no class in ${folder} has a teacher and two families`);
}
