-- What is set for functions beside their versions; it goes with the function.
CREATE TABLE settings (
    name_id INTEGER NOT NULL REFERENCES names (id),
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    changed_us INTEGER NOT NULL,
    PRIMARY KEY (name_id, key)
) STRICT, WITHOUT ROWID;
-- sealed: a nonce, and behind it the value as it was encrypted with the key of that id.
CREATE TABLE secrets (
    name_id INTEGER NOT NULL REFERENCES names (id),
    key TEXT NOT NULL,
    sealed_with TEXT NOT NULL,
    sealed BLOB NOT NULL,
    changed_us INTEGER NOT NULL,
    PRIMARY KEY (name_id, key)
) STRICT;
