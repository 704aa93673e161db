CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('invoker', 'deployer', 'admin')),
    note TEXT NOT NULL,
    hash TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    expires_us INTEGER
) STRICT;
-- AUTOINCREMENT: a place that was given once is never given again, whatever is removed.
CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    time_us INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    token TEXT,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;
CREATE INDEX audit_by_tenant ON audit (tenant, sequence);
