-- A role remembers the row of roles.csv (OneRoster 1.2) that says it, so that a delta can change or delete just that one. Empty:
-- it is said by users.csv (1.1). Twin: migrations/sqlite/0005_role_source.sql.
ALTER TABLE person_role ADD COLUMN source_id TEXT NOT NULL DEFAULT '';
ALTER TABLE person_role DROP CONSTRAINT person_role_pkey;
ALTER TABLE person_role ADD PRIMARY KEY (person_id, school_id, role, source_id);
CREATE INDEX person_role_by_source ON person_role (source_id) WHERE source_id <> '';
