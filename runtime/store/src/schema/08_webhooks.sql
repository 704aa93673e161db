-- Where tenants have messages sent. sealed: as in the table of secrets; previous: the secret before.
CREATE TABLE webhooks (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    url TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    sealed_with TEXT NOT NULL,
    sealed BLOB NOT NULL,
    secret_created_us INTEGER NOT NULL,
    previous BLOB,
    previous_until_us INTEGER,
    PRIMARY KEY (tenant, name)
) STRICT;
