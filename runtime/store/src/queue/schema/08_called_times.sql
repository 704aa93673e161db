-- Spans of times of a schedule that were called or left out, and don't come again; they may lie behind
-- last_us, where the clock was set back. In JSON: an array of pairs, each after one time up to another.
ALTER TABLE fires ADD COLUMN called TEXT NOT NULL DEFAULT '[]';
