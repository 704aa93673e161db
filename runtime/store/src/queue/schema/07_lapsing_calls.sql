-- Whether a call is given up when its time is over though it was never begun: its caller said for how
-- long it may be tried. Of those that were taken in before, all are.
ALTER TABLE calls ADD COLUMN lapses INTEGER NOT NULL DEFAULT 1 CHECK (lapses IN (0, 1));
