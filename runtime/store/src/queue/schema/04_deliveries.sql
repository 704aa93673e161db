-- The webhook that is told how a call ends.
ALTER TABLE calls ADD COLUMN webhook TEXT;

-- Messages to webhooks, one for each end of a call that asked for it. They outlive the call.
CREATE TABLE deliveries (
    sequence INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    webhook TEXT NOT NULL,
    call BLOB NOT NULL,
    body TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'delivered', 'failed')),
    attempts INTEGER NOT NULL DEFAULT 0,
    created_us INTEGER NOT NULL,
    expires_us INTEGER NOT NULL,
    due_us INTEGER NOT NULL,
    ended_us INTEGER,
    keep_until_us INTEGER,
    status INTEGER,
    reason TEXT
) STRICT;
CREATE INDEX deliveries_of_tenant ON deliveries (tenant, id);
CREATE INDEX deliveries_by_state ON deliveries (tenant, state, id);
CREATE INDEX deliveries_by_webhook ON deliveries (tenant, webhook, id);
CREATE INDEX deliveries_that_wait ON deliveries (tenant, due_us) WHERE state = 'waiting';
CREATE INDEX deliveries_by_due ON deliveries (due_us) WHERE state = 'waiting';
CREATE INDEX deliveries_by_end ON deliveries (keep_until_us) WHERE keep_until_us IS NOT NULL;
CREATE INDEX deliveries_of_tenant_by_end ON deliveries (tenant, ended_us)
    WHERE keep_until_us IS NOT NULL;

-- How many there are in each state, of each tenant and, under the tenant '', of all.
CREATE TABLE delivery_counts (
    tenant TEXT NOT NULL,
    state TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (state, tenant)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER deliveries_added AFTER INSERT ON deliveries BEGIN
    INSERT INTO delivery_counts VALUES (new.tenant, new.state, 1), ('', new.state, 1)
        ON CONFLICT (state, tenant) DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER deliveries_removed AFTER DELETE ON deliveries BEGIN
    UPDATE delivery_counts SET count = count - 1
        WHERE state = old.state AND tenant IN (old.tenant, '');
    DELETE FROM delivery_counts WHERE state = old.state AND tenant = old.tenant AND count = 0;
END;
CREATE TRIGGER deliveries_moved AFTER UPDATE OF state ON deliveries WHEN old.state != new.state
BEGIN
    UPDATE delivery_counts SET count = count - 1
        WHERE state = old.state AND tenant IN (old.tenant, '');
    DELETE FROM delivery_counts WHERE state = old.state AND tenant = old.tenant AND count = 0;
    INSERT INTO delivery_counts VALUES (new.tenant, new.state, 1), ('', new.state, 1)
        ON CONFLICT (state, tenant) DO UPDATE SET count = count + 1;
END;
