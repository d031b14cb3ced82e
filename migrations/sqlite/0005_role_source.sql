-- A role remembers the row of roles.csv (OneRoster 1.2) that says it, so that a delta can change or delete just that one. Empty:
-- it is said by users.csv (1.1). Twin: migrations/postgres/0005_role_source.sql.
CREATE TABLE person_role_new (
    person_id BLOB NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    school_id BLOB NOT NULL REFERENCES school (id),
    role TEXT NOT NULL,
    source_id TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (person_id, school_id, role, source_id)
) WITHOUT ROWID;
INSERT INTO person_role_new (person_id, school_id, role) SELECT person_id, school_id, role FROM person_role;
DROP TABLE person_role;
ALTER TABLE person_role_new RENAME TO person_role;
CREATE INDEX person_role_by_school ON person_role (school_id);
CREATE INDEX person_role_by_source ON person_role (source_id) WHERE source_id <> '';
