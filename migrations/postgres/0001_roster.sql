-- The roster: who is at school, as the school's own system says. Written by server/src/roster only.
-- Twin: migrations/sqlite/0001_roster.sql. Ids are UUIDs, moments are TIMESTAMPTZ.

-- The oldest schema version that a binary must know to run on this database (see server/src/db.rs).
CREATE TABLE compatibility (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    min_compatible_version BIGINT NOT NULL
);
INSERT INTO compatibility (only_row, min_compatible_version) VALUES (1, 1);

CREATE TABLE district (
    id UUID PRIMARY KEY,
    name TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL
);

-- `source_digest` is the SHA-256 of what the roster last said of a row: an import changes the rows whose digest differs. Empty:
-- the roster no longer has it, but something of ours (a room, a message) still refers to it.

-- An organisation of the roster: a school, or what stands above it (kind: school, district, local, state, national, department).
CREATE TABLE school (
    id UUID PRIMARY KEY,
    district_id UUID NOT NULL REFERENCES district (id),
    source_id TEXT NOT NULL,
    source_digest BYTEA NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    parent_source_id TEXT,
    language TEXT NOT NULL DEFAULT 'en',
    UNIQUE (district_id, source_id)
);

CREATE TABLE term (
    id UUID PRIMARY KEY,
    district_id UUID NOT NULL REFERENCES district (id),
    source_id TEXT NOT NULL,
    source_digest BYTEA NOT NULL,
    title TEXT NOT NULL,
    kind TEXT NOT NULL,
    begins_on TEXT NOT NULL,
    ends_on TEXT NOT NULL,
    school_year TEXT NOT NULL,
    parent_source_id TEXT,
    UNIQUE (district_id, source_id)
);

CREATE TABLE course (
    id UUID PRIMARY KEY,
    district_id UUID NOT NULL REFERENCES district (id),
    source_id TEXT NOT NULL,
    source_digest BYTEA NOT NULL,
    title TEXT NOT NULL,
    school_id UUID NOT NULL REFERENCES school (id),
    UNIQUE (district_id, source_id)
);

CREATE TABLE class (
    id UUID PRIMARY KEY,
    district_id UUID NOT NULL REFERENCES district (id),
    source_id TEXT NOT NULL,
    source_digest BYTEA NOT NULL,
    title TEXT NOT NULL,
    kind TEXT NOT NULL,
    course_id UUID NOT NULL REFERENCES course (id),
    school_id UUID NOT NULL REFERENCES school (id),
    UNIQUE (district_id, source_id)
);
CREATE INDEX class_by_school ON class (school_id);

CREATE TABLE class_term (
    class_id UUID NOT NULL REFERENCES class (id) ON DELETE CASCADE,
    term_id UUID NOT NULL REFERENCES term (id),
    PRIMARY KEY (class_id, term_id)
);

CREATE TABLE person (
    id UUID PRIMARY KEY,
    district_id UUID NOT NULL REFERENCES district (id),
    source_id TEXT NOT NULL,
    source_digest BYTEA NOT NULL,
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
    reached_at TIMESTAMPTZ,
    UNIQUE (district_id, source_id)
);
CREATE INDEX person_by_username ON person (username);

-- What a person is at a school (role: student, teacher, guardian, parent, relative, aide, administrator, ...).
CREATE TABLE person_role (
    person_id UUID NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    school_id UUID NOT NULL REFERENCES school (id),
    role TEXT NOT NULL,
    PRIMARY KEY (person_id, school_id, role)
);
CREATE INDEX person_role_by_school ON person_role (school_id);

-- Who speaks for whom. The roster may say so at the guardian or at the student; `listed_by` is who was asked.
CREATE TABLE guardianship (
    guardian_id UUID NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    student_id UUID NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    listed_by UUID NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    PRIMARY KEY (guardian_id, student_id, listed_by)
);
CREATE INDEX guardianship_by_student ON guardianship (student_id);

CREATE TABLE enrollment (
    id UUID PRIMARY KEY,
    district_id UUID NOT NULL REFERENCES district (id),
    source_id TEXT NOT NULL,
    source_digest BYTEA NOT NULL,
    class_id UUID NOT NULL REFERENCES class (id),
    person_id UUID NOT NULL REFERENCES person (id),
    role TEXT NOT NULL,
    begins_on TEXT,
    ends_on TEXT,
    UNIQUE (district_id, source_id)
);
CREATE INDEX enrollment_by_class ON enrollment (class_id);
CREATE INDEX enrollment_by_person ON enrollment (person_id);
