-- Not part of any release: what the server's feature `next` adds, so that two versions can be run at once and mixed. It expands only,
-- so min_compatible_version stays. Twin: migrations/next/sqlite/9000_pinned.sql.
ALTER TABLE event ADD COLUMN pinned_until TIMESTAMPTZ;
