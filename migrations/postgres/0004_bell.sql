-- The bell: which rooms changed in which transaction. Every node polls it; what the bus loses, this repairs.
-- Written by server/src/log/append, read by server/src/log/bell.
-- Twin: migrations/sqlite/0004_bell.sql.

CREATE TABLE bell (
    -- The transaction that changed the room. Readers ask for xid >= the oldest one that was still running when they last
    -- looked: an increasing id alone would skip what committed out of order.
    xid XID8 NOT NULL DEFAULT pg_current_xact_id(),
    room_id UUID NOT NULL,
    -- The head of the room's log after that transaction.
    head_seq BIGINT NOT NULL,
    -- Whether a membership changed in it.
    members BOOLEAN NOT NULL DEFAULT FALSE,
    rung_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX bell_by_xid ON bell (xid);
CREATE INDEX bell_by_time ON bell (rung_at);
