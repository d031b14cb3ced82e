-- Signing in. Written by server/src/identity only. Secrets are stored as SHA-256, never as they are.
-- Twin: migrations/sqlite/0003_identity.sql.

-- A one-time link and code for one person.
CREATE TABLE invitation (
    id UUID PRIMARY KEY,
    person_id UUID NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    secret_hash BYTEA NOT NULL UNIQUE,
    code_hash BYTEA NOT NULL,
    -- How often a wrong code may still be given.
    tries_left BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    used_at TIMESTAMPTZ
);
CREATE INDEX invitation_by_person ON invitation (person_id);

-- A device that is signed in: the cookie's or bearer token's hash.
CREATE TABLE login (
    id UUID PRIMARY KEY,
    token_hash BYTEA NOT NULL UNIQUE,
    person_id UUID NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    created_at TIMESTAMPTZ NOT NULL,
    used_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX login_by_person ON login (person_id);
