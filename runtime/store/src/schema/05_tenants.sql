-- What a tenant may ask of the server, where that differs from the server's own limits.
CREATE TABLE tenant_limits (
    tenant TEXT PRIMARY KEY,
    requests_per_second INTEGER,
    burst INTEGER,
    concurrency INTEGER
) STRICT;
-- Records that each tenant has, so that what one does never pushes out another's.
CREATE TABLE audit_counts (
    tenant TEXT PRIMARY KEY,
    records INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO audit_counts SELECT tenant, count(*) FROM audit GROUP BY tenant;
CREATE INDEX tokens_by_expiry ON tokens (expires_us) WHERE expires_us IS NOT NULL;
