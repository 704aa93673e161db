-- A function and a model may have one name, and so may two tenants' functions: keys are of one of them.
ALTER TABLE calls ADD COLUMN kind TEXT NOT NULL DEFAULT 'http'
    CHECK (kind IN ('http', 'inference'));
-- The tenant whose function or model it is; empty: the caller's own.
ALTER TABLE calls ADD COLUMN owner TEXT NOT NULL DEFAULT '';
UPDATE calls SET kind = 'inference' WHERE path NOT LIKE '/f/%';
DROP INDEX calls_by_key;
CREATE UNIQUE INDEX calls_by_key ON calls (tenant, target, kind, owner, key) WHERE key IS NOT NULL;
