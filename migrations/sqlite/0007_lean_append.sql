-- Fewer pages to write to for each message; see docs/decisions/0020-what-an-append-costs.md.
-- Twin: migrations/postgres/0007_lean_append.sql.

-- Ids that are numbered by time come first in a key: new ones go to its end, wherever their rooms are.
CREATE TABLE client_command_new (
    author_id BLOB NOT NULL,
    client_id BLOB NOT NULL,
    -- SHA-256 of what was asked.
    digest BLOB NOT NULL,
    event_id BLOB NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (client_id, author_id)
) WITHOUT ROWID;
INSERT INTO client_command_new SELECT author_id, client_id, digest, event_id, n FROM client_command;
DROP TABLE client_command;
ALTER TABLE client_command_new RENAME TO client_command;
DROP INDEX event_by_id;
CREATE UNIQUE INDEX event_by_id ON event (id, room_id);

-- What changes with each message stands in no index.
DROP INDEX conversation_by_room;
CREATE INDEX conversation_by_room ON conversation (room_id);
