-- Fewer places to write to for each message; see docs/decisions/0020-what-an-append-costs.md.
-- Twin: migrations/sqlite/0007_lean_append.sql.

-- Ids that are numbered by time come first in a key: new ones go to its end, wherever their rooms are.
ALTER TABLE client_command DROP CONSTRAINT client_command_pkey;
ALTER TABLE client_command ADD PRIMARY KEY (client_id, author_id);
DROP INDEX event_by_id;
CREATE UNIQUE INDEX event_by_id ON event (id, room_id);

-- What changes with each message stands in no index, and a page has room for its next version.
DROP INDEX conversation_by_room;
CREATE INDEX conversation_by_room ON conversation (room_id);
ALTER TABLE conversation SET (fillfactor = 50);
ALTER TABLE room SET (fillfactor = 50);

-- Only the sweep asks for it, and what it sweeps lies together.
DROP INDEX bell_by_time;
CREATE INDEX bell_by_time ON bell USING brin (rung_at);
