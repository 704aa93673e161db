-- A catalog as servers wrote it before there were tokens. It never changes.
PRAGMA foreign_keys = off;
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
INSERT INTO names VALUES (1, 'default', 'function', 'hello', 3, 3);
INSERT INTO names VALUES (2, 'default', 'model', 'digits-mlp', 1, 1);
INSERT INTO names VALUES (3, 'default', 'function', 'deleted', 7, NULL);
INSERT INTO versions VALUES (
    1, 3, 'http',
    'sha256:a9cba7fe2b358778b1351495b06455a3e654d610b7fcd066e85dadbda74cb24b',
    'sha256:9a91cb615c1829c01456208efc71a404c46113d7bb3a00cbf87c2ad2245c8239',
    '{"kind":{"type":"http"},"limits":{"memory":"67108864B","tables":100000,"instances":100,"handles":2048,"cpu":"1s","timeout":"30s","request":"16777216B","response":"67108864B","host_call":"67108864B","log":"65536B","concurrency":256,"connections":16,"outbound":"67108864B"},"grants":{"models":[],"http":[],"keyvalue":[]},"config":{},"reuse":null}',
    1795286733003683
);
INSERT INTO versions VALUES (
    2, 1, 'model',
    'sha256:b660792e9075eeb2ef36dde702fe17d0ebb8fb6184a87eea43ab36fe966ad676',
    'sha256:12615aa02736aa3a11453c4e56b02a89f660d4b011b473e4761fb8f407cbc97e',
    '{"signature":{"inputs":[{"name":"image","dtype":"FP32","shape":[-1,64]}],"outputs":[{"name":"probabilities","dtype":"FP32","shape":[-1,10]}]},"engine":"tract","batch":{"rows":{"max":64}}}',
    1795286733105855
);
PRAGMA user_version = 1;
