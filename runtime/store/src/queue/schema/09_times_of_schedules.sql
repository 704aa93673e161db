-- Which times the spans are of: the fields and the zone of the schedule. Empty: it is not known.
ALTER TABLE fires ADD COLUMN times TEXT NOT NULL DEFAULT '';
-- What was called before spans were noted doesn't come again either.
UPDATE fires SET called = json_array(json_array(created_us, last_us))
    WHERE called = '[]' AND last_us > created_us;
