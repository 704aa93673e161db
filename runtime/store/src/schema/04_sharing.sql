-- Who else may call something: tenants by name, and '*' for everybody, which no tenant is called.
CREATE TABLE sharing (
    name_id INTEGER NOT NULL REFERENCES names (id),
    grantee TEXT NOT NULL,
    PRIMARY KEY (name_id, grantee)
) STRICT, WITHOUT ROWID;
-- What is deployed later under the name of something that was deleted is nobody's but its owner's.
CREATE TRIGGER sharing_ends_with_its_name AFTER UPDATE OF live ON names WHEN NEW.live IS NULL BEGIN
    DELETE FROM sharing WHERE name_id = NEW.id;
END;
