-- What decides, beside the live version, where the requests to a name go. A version that is named
-- here can't be removed.
CREATE TABLE traffic (
    name_id INTEGER PRIMARY KEY REFERENCES names (id),
    sticky TEXT,
    shadow INTEGER,
    shadow_percent INTEGER,
    FOREIGN KEY (name_id, shadow) REFERENCES versions (name_id, number)
) STRICT;
CREATE TABLE shares (
    name_id INTEGER NOT NULL REFERENCES names (id),
    version INTEGER NOT NULL,
    percent INTEGER NOT NULL,
    PRIMARY KEY (name_id, version),
    FOREIGN KEY (name_id, version) REFERENCES versions (name_id, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE aliases (
    name_id INTEGER NOT NULL REFERENCES names (id),
    alias TEXT NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (name_id, alias),
    FOREIGN KEY (name_id, version) REFERENCES versions (name_id, number)
) STRICT, WITHOUT ROWID;
-- The last canary of a name. While it runs, its versions have shares.
CREATE TABLE canaries (
    name_id INTEGER PRIMARY KEY REFERENCES names (id),
    canary TEXT NOT NULL
) STRICT;
