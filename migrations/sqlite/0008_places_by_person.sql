-- Where a person is stands in the index by which it is asked: whoever comes is in some rooms, each of them a page of its own in the table.
-- Twin: migrations/postgres/0008_places_by_person.sql.
DROP INDEX membership_by_person;
-- What is in the table's key as well is in here without being named.
CREATE INDEX membership_by_person ON membership (person_id, room_id, role, left_seq, sees_after_seq);
