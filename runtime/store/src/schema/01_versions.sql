-- A deleted name stays, without a live version, so that its numbers are never used again.
CREATE TABLE names (
    id INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    class TEXT NOT NULL CHECK (class IN ('function', 'model')),
    name TEXT NOT NULL,
    last_number INTEGER NOT NULL,
    live INTEGER,
    UNIQUE (tenant, name, class),
    FOREIGN KEY (id, live) REFERENCES versions (name_id, number)
) STRICT;
CREATE TABLE versions (
    name_id INTEGER NOT NULL REFERENCES names (id),
    number INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('http', 'inference', 'model')),
    digest TEXT NOT NULL,
    content TEXT NOT NULL,
    spec TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    PRIMARY KEY (name_id, number),
    UNIQUE (name_id, digest)
) STRICT;
CREATE INDEX versions_by_content ON versions (content);
