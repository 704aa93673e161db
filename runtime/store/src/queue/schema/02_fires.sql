-- The last time of each schedule that was called or left out, and its last call.
CREATE TABLE fires (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    last_us INTEGER NOT NULL,
    call BLOB,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;
