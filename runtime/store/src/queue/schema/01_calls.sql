-- One row for each call. What it carries lies beside it, so that a change of its state stays small.
CREATE TABLE calls (
    sequence INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    target TEXT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    state TEXT NOT NULL
        CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'dead', 'cancelled')),
    key TEXT,
    digest BLOB NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    refusals INTEGER NOT NULL DEFAULT 0,
    max_attempts INTEGER NOT NULL,
    max_age_us INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    expires_us INTEGER NOT NULL,
    due_us INTEGER NOT NULL,
    started_us INTEGER,
    finished_us INTEGER,
    keep_until_us INTEGER,
    status INTEGER,
    reason TEXT,
    bytes INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX calls_by_key ON calls (tenant, target, key) WHERE key IS NOT NULL;
CREATE INDEX calls_of_tenant ON calls (tenant, id);
CREATE INDEX calls_by_state ON calls (tenant, state, id);
CREATE INDEX calls_by_target ON calls (tenant, target, id);
CREATE INDEX calls_that_wait ON calls (tenant, due_us) WHERE state = 'queued';
CREATE INDEX calls_by_due ON calls (due_us) WHERE state = 'queued';
CREATE INDEX calls_that_run ON calls (sequence) WHERE state = 'running';
CREATE INDEX calls_by_end ON calls (keep_until_us) WHERE keep_until_us IS NOT NULL;
CREATE INDEX calls_of_tenant_by_end ON calls (tenant, finished_us) WHERE keep_until_us IS NOT NULL;

CREATE TABLE requests (
    sequence INTEGER PRIMARY KEY REFERENCES calls (sequence) ON DELETE CASCADE,
    headers BLOB NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE TABLE responses (
    sequence INTEGER PRIMARY KEY REFERENCES calls (sequence) ON DELETE CASCADE,
    headers BLOB NOT NULL,
    body BLOB NOT NULL
) STRICT;

-- How many calls there are in each state, of each tenant and, under the tenant '', of all.
CREATE TABLE usage (
    tenant TEXT NOT NULL,
    state TEXT NOT NULL,
    count INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (state, tenant)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER calls_added AFTER INSERT ON calls BEGIN
    INSERT INTO usage VALUES (new.tenant, new.state, 1, new.bytes), ('', new.state, 1, new.bytes)
        ON CONFLICT (state, tenant)
        DO UPDATE SET count = count + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER calls_removed AFTER DELETE ON calls BEGIN
    UPDATE usage SET count = count - 1, bytes = bytes - old.bytes
        WHERE state = old.state AND tenant IN (old.tenant, '');
    DELETE FROM usage WHERE state = old.state AND tenant = old.tenant AND count = 0;
END;
CREATE TRIGGER calls_moved AFTER UPDATE OF state, bytes ON calls BEGIN
    UPDATE usage SET count = count - 1, bytes = bytes - old.bytes
        WHERE state = old.state AND tenant IN (old.tenant, '');
    DELETE FROM usage WHERE state = old.state AND tenant = old.tenant AND count = 0;
    INSERT INTO usage VALUES (new.tenant, new.state, 1, new.bytes), ('', new.state, 1, new.bytes)
        ON CONFLICT (state, tenant)
        DO UPDATE SET count = count + 1, bytes = bytes + excluded.bytes;
END;
