-- The rooms and their logs. Written by server/src/log only: no other folder's SQL changes these tables, but for `room`,
-- whose rows the roster makes and names.
-- Twin: migrations/postgres/0002_log.sql.

CREATE TABLE room (
    id BLOB PRIMARY KEY,
    district_id BLOB NOT NULL REFERENCES district (id),
    kind TEXT NOT NULL CHECK (kind IN ('class', 'school')),
    school_id BLOB NOT NULL REFERENCES school (id),
    class_id BLOB UNIQUE REFERENCES class (id),
    title TEXT NOT NULL,
    -- The head of the log.
    last_seq INTEGER NOT NULL DEFAULT 0,
    last_event_id BLOB
);
CREATE INDEX room_by_school ON room (school_id);

-- A person's places in a room, from when to when, counted in the room's own log.
CREATE TABLE membership (
    room_id BLOB NOT NULL REFERENCES room (id),
    person_id BLOB NOT NULL REFERENCES person (id),
    -- For a guardian: through whom. For staff: the nil UUID, since a key can't hold NULL.
    student_id BLOB NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('staff', 'guardian')),
    -- The log's entries that opened and closed it.
    joined_seq INTEGER NOT NULL,
    left_seq INTEGER,
    -- What they may see begins after this entry: for a guardian joined_seq, for staff the start of the term.
    sees_after_seq INTEGER NOT NULL,
    joined_at TEXT NOT NULL,
    left_at TEXT,
    PRIMARY KEY (room_id, person_id, student_id, joined_seq)
) WITHOUT ROWID;
CREATE INDEX membership_by_person ON membership (person_id, room_id);

CREATE TABLE conversation (
    id BLOB PRIMARY KEY,
    room_id BLOB NOT NULL REFERENCES room (id),
    -- Both NULL for the room's announcements.
    guardian_id BLOB,
    student_id BLOB,
    last_n INTEGER NOT NULL,
    last_seq INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX conversation_by_room ON conversation (room_id, last_seq);

-- The log. `body` is what was said then and never changes; on a `posted` row the columns `edited_at`, `retracted_at` and
-- `current_body` say how the message stands now.
CREATE TABLE event (
    room_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    id BLOB NOT NULL,
    kind TEXT NOT NULL,
    conversation_id BLOB,
    n INTEGER,
    -- The message that this event is about: itself for `posted`.
    root_id BLOB,
    root_seq INTEGER,
    author_id BLOB,
    client_id BLOB,
    at TEXT NOT NULL,
    urgent BOOLEAN NOT NULL DEFAULT FALSE,
    -- JSON: an envelope for posts and edits, a membership change, ...
    body TEXT,
    edited_at TEXT,
    retracted_at TEXT,
    current_body TEXT,
    PRIMARY KEY (room_id, seq)
);
CREATE UNIQUE INDEX event_by_id ON event (room_id, id);
CREATE UNIQUE INDEX event_by_conversation ON event (room_id, conversation_id, n);

-- What each appending command was answered, for ever.
CREATE TABLE client_command (
    author_id BLOB NOT NULL,
    client_id BLOB NOT NULL,
    -- SHA-256 of what was asked.
    digest BLOB NOT NULL,
    event_id BLOB NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (author_id, client_id)
) WITHOUT ROWID;

-- How far a person has had a conversation delivered, and read. Only ever raised.
CREATE TABLE mark (
    conversation_id BLOB NOT NULL,
    person_id BLOB NOT NULL,
    room_id BLOB NOT NULL,
    delivered_n INTEGER NOT NULL,
    read_n INTEGER NOT NULL,
    delivered_at TEXT,
    read_at TEXT,
    PRIMARY KEY (conversation_id, person_id)
) WITHOUT ROWID;
CREATE INDEX mark_by_room ON mark (room_id);
