-- Messages whose webhook has no secret that can be opened: they wait for that, and for no time.
ALTER TABLE deliveries ADD COLUMN held INTEGER NOT NULL DEFAULT 0 CHECK (held IN (0, 1));
DROP INDEX deliveries_that_wait;
DROP INDEX deliveries_by_due;
CREATE INDEX deliveries_that_wait ON deliveries (tenant, due_us)
    WHERE state = 'waiting' AND held = 0;
CREATE INDEX deliveries_by_due ON deliveries (due_us) WHERE state = 'waiting' AND held = 0;
CREATE INDEX deliveries_held ON deliveries (tenant, webhook, webhook_created_us) WHERE held = 1;
