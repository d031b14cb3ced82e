-- An import asks of each person what their row listed until now; without this that is a scan for each person.
-- Twin: migrations/sqlite/0006_guardianship_by_lister.sql.
CREATE INDEX guardianship_by_lister ON guardianship (listed_by);
