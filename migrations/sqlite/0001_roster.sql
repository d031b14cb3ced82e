-- The roster: who is at school, as the school's own system says. Written by server/src/roster only.
-- Twin: migrations/postgres/0001_roster.sql. Ids are UUIDs (BLOB of 16 bytes here), moments are RFC 3339 text in UTC.

-- The oldest schema version that a binary must know to run on this database (see server/src/db.rs).
CREATE TABLE compatibility (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    min_compatible_version INTEGER NOT NULL
);
INSERT INTO compatibility (only_row, min_compatible_version) VALUES (1, 1);

CREATE TABLE district (
    id BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    created_at TEXT NOT NULL
);

-- `source_digest` is the SHA-256 of what the roster last said of a row: an import changes the rows whose digest differs. Empty:
-- the roster no longer has it, but something of ours (a room, a message) still refers to it.

-- An organisation of the roster: a school, or what stands above it (kind: school, district, local, state, national, department).
CREATE TABLE school (
    id BLOB PRIMARY KEY,
    district_id BLOB NOT NULL REFERENCES district (id),
    source_id TEXT NOT NULL,
    source_digest BLOB NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    parent_source_id TEXT,
    language TEXT NOT NULL DEFAULT 'en',
    UNIQUE (district_id, source_id)
);

CREATE TABLE term (
    id BLOB PRIMARY KEY,
    district_id BLOB NOT NULL REFERENCES district (id),
    source_id TEXT NOT NULL,
    source_digest BLOB NOT NULL,
    title TEXT NOT NULL,
    kind TEXT NOT NULL,
    begins_on TEXT NOT NULL,
    ends_on TEXT NOT NULL,
    school_year TEXT NOT NULL,
    parent_source_id TEXT,
    UNIQUE (district_id, source_id)
);

CREATE TABLE course (
    id BLOB PRIMARY KEY,
    district_id BLOB NOT NULL REFERENCES district (id),
    source_id TEXT NOT NULL,
    source_digest BLOB NOT NULL,
    title TEXT NOT NULL,
    school_id BLOB NOT NULL REFERENCES school (id),
    UNIQUE (district_id, source_id)
);

CREATE TABLE class (
    id BLOB PRIMARY KEY,
    district_id BLOB NOT NULL REFERENCES district (id),
    source_id TEXT NOT NULL,
    source_digest BLOB NOT NULL,
    title TEXT NOT NULL,
    kind TEXT NOT NULL,
    course_id BLOB NOT NULL REFERENCES course (id),
    school_id BLOB NOT NULL REFERENCES school (id),
    UNIQUE (district_id, source_id)
);
CREATE INDEX class_by_school ON class (school_id);

CREATE TABLE class_term (
    class_id BLOB NOT NULL REFERENCES class (id) ON DELETE CASCADE,
    term_id BLOB NOT NULL REFERENCES term (id),
    PRIMARY KEY (class_id, term_id)
) WITHOUT ROWID;

CREATE TABLE person (
    id BLOB PRIMARY KEY,
    district_id BLOB NOT NULL REFERENCES district (id),
    source_id TEXT NOT NULL,
    source_digest BLOB NOT NULL,
    username TEXT NOT NULL,
    given_name TEXT NOT NULL,
    family_name TEXT NOT NULL,
    -- What the person reads: from the roster, else from their school, until they choose for themselves.
    language TEXT NOT NULL DEFAULT 'en',
    language_chosen BOOLEAN NOT NULL DEFAULT FALSE,
    email TEXT,
    phone TEXT,
    birth_date TEXT,
    enabled BOOLEAN NOT NULL DEFAULT TRUE,
    -- When they first signed in; until then nothing reaches them.
    reached_at TEXT,
    UNIQUE (district_id, source_id)
);
CREATE INDEX person_by_username ON person (username);

-- What a person is at a school (role: student, teacher, guardian, parent, relative, aide, administrator, ...).
CREATE TABLE person_role (
    person_id BLOB NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    school_id BLOB NOT NULL REFERENCES school (id),
    role TEXT NOT NULL,
    PRIMARY KEY (person_id, school_id, role)
) WITHOUT ROWID;
CREATE INDEX person_role_by_school ON person_role (school_id);

-- Who speaks for whom. The roster may say so at the guardian or at the student; `listed_by` is who was asked.
CREATE TABLE guardianship (
    guardian_id BLOB NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    student_id BLOB NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    listed_by BLOB NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    PRIMARY KEY (guardian_id, student_id, listed_by)
) WITHOUT ROWID;
CREATE INDEX guardianship_by_student ON guardianship (student_id);

CREATE TABLE enrollment (
    id BLOB PRIMARY KEY,
    district_id BLOB NOT NULL REFERENCES district (id),
    source_id TEXT NOT NULL,
    source_digest BLOB NOT NULL,
    class_id BLOB NOT NULL REFERENCES class (id),
    person_id BLOB NOT NULL REFERENCES person (id),
    role TEXT NOT NULL,
    begins_on TEXT,
    ends_on TEXT,
    UNIQUE (district_id, source_id)
);
CREATE INDEX enrollment_by_class ON enrollment (class_id);
CREATE INDEX enrollment_by_person ON enrollment (person_id);
