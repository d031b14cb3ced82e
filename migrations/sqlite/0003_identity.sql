-- Signing in. Written by server/src/identity only. Secrets are stored as SHA-256, never as they are.
-- Twin: migrations/postgres/0003_identity.sql.

-- A one-time link and code for one person.
CREATE TABLE invitation (
    id BLOB PRIMARY KEY,
    person_id BLOB NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    secret_hash BLOB NOT NULL UNIQUE,
    code_hash BLOB NOT NULL,
    -- How often a wrong code may still be given.
    tries_left INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    used_at TEXT
);
CREATE INDEX invitation_by_person ON invitation (person_id);

-- A device that is signed in: the cookie's or bearer token's hash.
CREATE TABLE login (
    id BLOB PRIMARY KEY,
    token_hash BLOB NOT NULL UNIQUE,
    person_id BLOB NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    created_at TEXT NOT NULL,
    used_at TEXT NOT NULL,
    expires_at TEXT NOT NULL
);
CREATE INDEX login_by_person ON login (person_id);
