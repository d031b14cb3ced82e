-- The rooms and their logs. Written by server/src/log only: no other folder's SQL changes these tables, but for `room`,
-- whose rows the roster makes and names.
-- Twin: migrations/sqlite/0002_log.sql.

CREATE TABLE room (
    id UUID PRIMARY KEY,
    district_id UUID NOT NULL REFERENCES district (id),
    kind TEXT NOT NULL CHECK (kind IN ('class', 'school')),
    school_id UUID NOT NULL REFERENCES school (id),
    class_id UUID UNIQUE REFERENCES class (id),
    title TEXT NOT NULL,
    -- The head of the log.
    last_seq BIGINT NOT NULL DEFAULT 0,
    last_event_id UUID
);
CREATE INDEX room_by_school ON room (school_id);

-- A person's places in a room, from when to when, counted in the room's own log.
CREATE TABLE membership (
    room_id UUID NOT NULL REFERENCES room (id),
    person_id UUID NOT NULL REFERENCES person (id),
    -- For a guardian: through whom. For staff: the nil UUID, since a key can't hold NULL.
    student_id UUID NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('staff', 'guardian')),
    -- The log's entries that opened and closed it.
    joined_seq BIGINT NOT NULL,
    left_seq BIGINT,
    -- What they may see begins after this entry: for a guardian joined_seq, for staff the start of the term.
    sees_after_seq BIGINT NOT NULL,
    joined_at TIMESTAMPTZ NOT NULL,
    left_at TIMESTAMPTZ,
    PRIMARY KEY (room_id, person_id, student_id, joined_seq)
);
CREATE INDEX membership_by_person ON membership (person_id, room_id);

CREATE TABLE conversation (
    id UUID PRIMARY KEY,
    room_id UUID NOT NULL REFERENCES room (id),
    -- Both NULL for the room's announcements.
    guardian_id UUID,
    student_id UUID,
    last_n BIGINT NOT NULL,
    last_seq BIGINT NOT NULL
);
CREATE INDEX conversation_by_room ON conversation (room_id, last_seq);

-- The log. `body` is what was said then and never changes; on a `posted` row the columns `edited_at`, `retracted_at` and
-- `current_body` say how the message stands now.
CREATE TABLE event (
    room_id UUID NOT NULL,
    seq BIGINT NOT NULL,
    id UUID NOT NULL,
    kind TEXT NOT NULL,
    conversation_id UUID,
    n BIGINT,
    -- The message that this event is about: itself for `posted`.
    root_id UUID,
    root_seq BIGINT,
    author_id UUID,
    client_id UUID,
    at TIMESTAMPTZ NOT NULL,
    urgent BOOLEAN NOT NULL DEFAULT FALSE,
    -- JSON: an envelope for posts and edits, a membership change, ...
    body TEXT,
    edited_at TIMESTAMPTZ,
    retracted_at TIMESTAMPTZ,
    current_body TEXT,
    PRIMARY KEY (room_id, seq)
);
CREATE UNIQUE INDEX event_by_id ON event (room_id, id);
CREATE UNIQUE INDEX event_by_conversation ON event (room_id, conversation_id, n);

-- What each appending command was answered, for ever.
CREATE TABLE client_command (
    author_id UUID NOT NULL,
    client_id UUID NOT NULL,
    -- SHA-256 of what was asked.
    digest BYTEA NOT NULL,
    event_id UUID NOT NULL,
    n BIGINT NOT NULL,
    PRIMARY KEY (author_id, client_id)
);

-- How far a person has had a conversation delivered, and read. Only ever raised.
CREATE TABLE mark (
    conversation_id UUID NOT NULL,
    person_id UUID NOT NULL,
    room_id UUID NOT NULL,
    delivered_n BIGINT NOT NULL,
    read_n BIGINT NOT NULL,
    delivered_at TIMESTAMPTZ,
    read_at TIMESTAMPTZ,
    PRIMARY KEY (conversation_id, person_id)
);
CREATE INDEX mark_by_room ON mark (room_id);
