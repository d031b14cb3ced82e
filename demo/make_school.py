#!/usr/bin/env python3
"""Makes a school as OneRoster CSV 1.1: the demo school of this folder, or one of any size.

Owns: names, families and classes that look like a real school's. Refuses to know: Homeroom.
The same arguments give the same files.

    python3 demo/make_school.py                              the demo school, in demo/school
    python3 demo/make_school.py --students 5000 --out big    about 5,000 students, 7,500 guardians
"""

import argparse
import csv
import pathlib
import random

FAMILIES = {
    "en": (["Olivia", "Noah", "Emma", "Liam", "Grace", "Jack", "Ruby", "Henry"], ["Walker", "Hughes", "Carter", "Bennett", "Foster", "Reed"]),
    "es": (["María", "Jon", "Ana", "Mateo", "Lucía", "Diego", "Sofía", "Pablo"], ["Silva", "Morales", "Rojas", "Vargas", "Castillo", "Herrera"]),
    "ar": (["Layla", "Omar", "Yasmin", "Karim", "Nour", "Samir", "Huda", "Tariq"], ["Haddad", "Mansour", "Khalil", "Nasser", "Saleh", "Aziz"]),
    "vi": (["Linh", "Minh", "Hoa", "Tuấn", "Mai", "Huy", "Lan", "Đức"], ["Nguyễn", "Trần", "Lê", "Phạm", "Võ", "Đặng"]),
    "zh-Hans": (["Mei", "Wei", "Xiu", "Jun", "Ying", "Hao", "Lan", "Ming"], ["Chen", "Wang", "Liu", "Zhang", "Zhao", "Lin"]),
    "so": (["Hodan", "Abdi", "Amina", "Yusuf", "Fatuma", "Ismail", "Sahra", "Guled"], ["Warsame", "Farah", "Abdullahi", "Hersi", "Jama", "Duale"]),
    "uk": (["Oksana", "Andriy", "Sofiia", "Taras", "Iryna", "Danylo", "Kateryna", "Bohdan"], ["Kovalenko", "Shevchenko", "Bondar", "Melnyk", "Tkachuk", "Lysenko"]),
}
LANGUAGE_NAMES = {"en": "English", "es": "Spanish", "ar": "Arabic", "vi": "Vietnamese", "uk": "Ukrainian"}
LANGUAGES = ["en", "en", "en", "es", "es", "es", "ar", "ar", "vi", "zh-Hans", "so", "uk"]
CLASSES = [("2A", "Maple"), ("4B", "Cedar"), ("5C", "Birch"), ("7A", "Rowan")]
STAFF = [("Elena", "Alvarez"), ("James", "Okafor"), ("Priya", "Raman"), ("Tom", "Becker"), ("Sarah", "Lindqvist"), ("Daniel", "Moreau")]


def write(folder, name, header, rows):
    with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow(header)
        writer.writerows(rows)


def username(given, family, taken):
    """given.family in plain letters, with a number where it is taken."""
    import unicodedata

    plain = unicodedata.normalize("NFD", f"{given}.{family}".replace("đ", "d").replace("Đ", "D").lower())
    plain = "".join(letter for letter in plain if letter.isascii() and (letter.isalnum() or letter == "."))
    name, number = plain, 2
    while name in taken:
        name, number = f"{plain}{number}", number + 1
    taken.add(name)
    return name


def people(file, users, who):
    """Whom `make run` prints links for: a teacher, a guardian of each of some languages, and both parents of a child who live apart."""
    guardians = list(zip([user for user in users if user[0].startswith("guardian-")], who))
    shown = ["# username<TAB>who they are; `make run` prints a sign-in link for each", "james.okafor\tMr Okafor, teacher of Class 4B"]

    def show(username, person, more=""):
        _, _, spoken, children, given, surname = person
        note = f"{len(children)} children" if len(children) > 1 else "1 child"
        shown.append(f"{username}\t{given} {surname}, reads {LANGUAGE_NAMES[spoken]}, {note}{more}")

    seen, named = set(), set()
    for user, person in guardians:
        spoken = person[2]
        if spoken in seen or spoken not in LANGUAGE_NAMES:
            continue
        seen.add(spoken)
        named.add(user[6])
        show(user[6], person)
    for (user, person), (other, another) in zip(guardians, guardians[1:]):
        languages = {person[2], another[2]}
        apart = person[1] == "separated" and person[3] == another[3] and len(person[3]) == 1
        if apart and len(languages) == 2 and languages <= LANGUAGE_NAMES.keys() and not named & {user[6], other[6]}:
            show(user[6], person, f" with {another[4]} {another[5]}, apart")
            show(other[6], another, f" with {person[4]} {person[5]}, apart")
            break
    file.write_text("\n".join(shown) + "\n", encoding="utf-8")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--students", type=int, default=100)
    arguments.add_argument("--class-size", type=int, default=25, help="students in a class")
    arguments.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "school")
    arguments = arguments.parse_args()
    chance = random.Random(4)
    folder = arguments.out
    folder.mkdir(parents=True, exist_ok=True)

    count = max(1, round(arguments.students / arguments.class_size))
    names = [CLASSES[i] if i < len(CLASSES) else (f"{i // 6 + 1}{'ABCDEF'[i % 6]}{i}", "Oak") for i in range(count)]
    taken, users, enrollments, demographics = set(), [], [], []
    enabled, school = "true", "school-linden"

    def user(source_id, role, given, family, language="", agents="", reachable=True):
        name = username(given, family, taken)
        email = f"{name}@example.org" if reachable and role != "student" else ""
        phone = f"+1202555{len(users) % 10000:04d}" if reachable and role != "student" and chance.random() < 0.7 else ""
        users.append([source_id, "", "", enabled, school, role, name, given, family, email, phone, agents, language])
        return name

    def enroll(source_id, place, person, role):
        enrollments.append([source_id, "", "", f"class-{place}", school, person, role, "true" if role == "teacher" else "false", "2026-08-24", "2027-06-18"])

    user("staff-0", "administrator", "Margaret", "Osei")
    for place, (title, _) in enumerate(names):
        given, family = STAFF[place % len(STAFF)]
        user(f"teacher-{title}", "teacher", given, family if place < len(STAFF) else f"{family}-{place}")
        enroll(f"e-teacher-{title}", title, f"teacher-{title}", "teacher")
    if count > 1:
        user("aide-1", "aide", "Ruth", "Adeyemi")
        enroll("e-aide-1", names[1][0], "aide-1", "aide")
        # The second class has two teachers.
        enroll("e-co-teacher", names[1][0], f"teacher-{names[0][0]}", "teacher")

    student = guardian = 0
    who = []
    while student < arguments.students:
        language = chance.choice(LANGUAGES)
        given_names, family_names = FAMILIES[language]
        family = chance.choice(family_names)
        # The first family is Ana Silva's: Maria in the second class, Jon in the fourth.
        first = student == 0
        if first:
            language, family = "es", "Silva"
            given_names = FAMILIES["es"][0]
        children = min(2 if first else chance.choices([1, 2, 3], [84, 13, 3])[0], arguments.students - student)
        shape = "together" if first else chance.choices(["together", "separated", "one", "grandparent"], [56, 26, 12, 6])[0]
        ids = []
        named = set()
        for child in range(children):
            source_id = f"student-{student + 1}"
            place = names[(1 if first else student) % count][0] if not (first and child == 1) else names[3 % count][0]
            given = ["María", "Jon"][child] if first else chance.choice(given_names)
            named.add(given)
            user(source_id, "student", given, family, language)
            enroll(f"e-{source_id}", place, source_id, "student")
            demographics.append([source_id, "", "", f"{2019 - names.index(next(n for n in names if n[0] == place)) % 6}-0{1 + student % 9}-1{student % 9}"])
            ids.append(source_id)
            student += 1
        adults = {"together": 2, "separated": 2, "one": 1, "grandparent": 1}[shape]
        for adult in range(adults):
            role = "relative" if shape == "grandparent" else "parent" if adult == 0 else "guardian"
            given = "Ana" if first and adult == 0 else chance.choice(given_names)
            # The adults of a family are told apart by their names, and nobody has their child's.
            while given in named:
                given = given_names[(given_names.index(given) + 1) % len(given_names)]
            named.add(given)
            surname = chance.choice(family_names) if shape == "separated" and adult == 1 else family
            spoken = "en" if shape == "separated" and adult == 1 and chance.random() < 0.5 else language
            guardian += 1
            who.append((language, shape, spoken, ids, given, surname))
            user(f"guardian-{guardian}", role, given, surname, spoken, ",".join(ids), reachable=first or chance.random() > 0.06)

    write(folder, "manifest", ["propertyName", "value"],
          [["manifest.version", "1.0"], ["oneroster.version", "1.1"], ["source.systemName", "Linden"], ["source.systemCode", "linden"]]
          + [[f"file.{name}", "bulk"] for name in ["academicSessions", "classes", "courses", "demographics", "enrollments", "orgs", "users"]]
          + [[f"file.{name}", "absent"] for name in ["categories", "classResources", "courseResources", "lineItems", "resources", "results"]])
    write(folder, "orgs", ["sourcedId", "status", "dateLastModified", "name", "type", "identifier", "parentSourcedId", "metadata.language"],
          [["district-1", "", "", "Riverside District", "district", "", "", "en"], [school, "", "", "Linden School", "school", "", "district-1", "en"]])
    write(folder, "academicSessions", ["sourcedId", "status", "dateLastModified", "title", "type", "startDate", "endDate", "parentSourcedId", "schoolYear"],
          [["year-2027", "", "", "2026–2027", "schoolYear", "2026-08-24", "2027-06-18", "", "2027"],
           ["term-2027-1", "", "", "Autumn 2026", "term", "2026-08-24", "2027-01-29", "year-2027", "2027"]])
    write(folder, "courses", ["sourcedId", "status", "dateLastModified", "schoolYearSourcedId", "title", "courseCode", "grades", "orgSourcedId", "subjects", "subjectCodes"],
          [["course-homeroom", "", "", "year-2027", "Homeroom", "HR", "", school, "", ""]])
    write(folder, "classes", ["sourcedId", "status", "dateLastModified", "title", "grades", "courseSourcedId", "classCode", "classType", "location", "schoolSourcedId", "termSourcedIds", "subjects", "subjectCodes", "periods"],
          [[f"class-{title}", "", "", f"Class {title}", "", "course-homeroom", title, "homeroom", f"{room} room", school, "year-2027", "", "", ""] for title, room in names])
    write(folder, "users", ["sourcedId", "status", "dateLastModified", "enabledUser", "orgSourcedIds", "role", "username", "givenName", "familyName", "email", "sms", "agentSourcedIds", "metadata.homeLanguage"], users)
    write(folder, "enrollments", ["sourcedId", "status", "dateLastModified", "classSourcedId", "schoolSourcedId", "userSourcedId", "role", "primary", "beginDate", "endDate"], enrollments)
    write(folder, "demographics", ["sourcedId", "status", "dateLastModified", "birthDate"], demographics)
    if arguments.students == 100:
        people(folder.parent / "people.txt", users, who)
    print(f"{folder}: {student} students, {guardian} guardians, {count} classes")


if __name__ == "__main__":
    main()
