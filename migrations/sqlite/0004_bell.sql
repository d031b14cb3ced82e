-- The bell is a function call where one process holds the database: nothing to store.
-- Twin: migrations/postgres/0004_bell.sql.
SELECT 1;
