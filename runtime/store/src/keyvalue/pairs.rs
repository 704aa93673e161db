//! Pairs and buckets as rows. Never opens or ends a transaction.

use bytes::Bytes;
use quern_types::{BucketId, ByteSize, Change, KeyPage, KeyValueError};
use rusqlite::{Connection, OptionalExtension, params};

/// What a pair counts beside its key and value: what its row and its place in the index cost.
const PAIR_BYTES: i64 = 64;

/// As in the catalog: a released migration never changes.
pub(crate) const MIGRATIONS: &[&str] = &["
    CREATE TABLE buckets (
        id INTEGER PRIMARY KEY,
        tenant TEXT NOT NULL,
        name TEXT NOT NULL,
        -- The sum over its pairs, so that the limit is checked in no time.
        bytes INTEGER NOT NULL DEFAULT 0,
        UNIQUE (tenant, name)
    ) STRICT;
    CREATE TABLE pairs (
        bucket INTEGER NOT NULL REFERENCES buckets (id),
        key TEXT NOT NULL,
        value BLOB NOT NULL,
        UNIQUE (bucket, key)
    ) STRICT;
"];

/// Why a write was not done.
pub(crate) enum Failed {
    /// The database failed, and with it the whole group.
    Database(rusqlite::Error),
    /// This operation alone is refused.
    Refused(KeyValueError),
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<KeyValueError> for Failed {
    fn from(error: KeyValueError) -> Self {
        Self::Refused(error)
    }
}

/// A bucket within a transaction that writes.
pub(crate) struct Bucket<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) id: &'a BucketId,
    /// The most that its pairs may count.
    pub(crate) bucket_bytes: ByteSize,
}

impl Bucket<'_> {
    /// Makes all changes; after a refusal some of them have to be rolled back.
    pub(crate) fn write(&self, changes: &[Change]) -> Result<(), Failed> {
        let bucket = self.row()?;
        let mut grown = 0;
        for change in changes {
            grown += match change {
                Change::Set(key, value) => self.set(bucket, key, value)?,
                Change::Delete(key) => self.delete(bucket, key)?,
            };
        }
        self.grow(bucket, grown)
    }

    pub(crate) fn increment(&self, key: &str, delta: i64) -> Result<i64, Failed> {
        let bucket = self.row()?;
        let not_a_number = |reason: &str| KeyValueError::NotANumber {
            key: key.to_owned(),
            reason: reason.to_owned(),
        };
        let present = match value(self.connection, bucket, key)? {
            None => 0,
            Some(value) => {
                let text = std::str::from_utf8(&value).ok();
                let number = text.and_then(|text| text.parse::<i64>().ok());
                number.ok_or_else(|| not_a_number("it is no decimal number of 64 bits"))?
            }
        };
        let sum = present
            .checked_add(delta)
            .ok_or_else(|| not_a_number("the sum has more than 64 bits"))?;
        let grown = self.set(bucket, key, sum.to_string().as_bytes())?;
        self.grow(bucket, grown)?;
        Ok(sum)
    }

    pub(crate) fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        new: &[u8],
    ) -> Result<bool, Failed> {
        let bucket = self.row()?;
        if value(self.connection, bucket, key)?.as_deref() != expected {
            return Ok(false);
        }
        let grown = self.set(bucket, key, new)?;
        self.grow(bucket, grown)?;
        Ok(true)
    }

    /// The bucket's row, which its first write makes.
    fn row(&self) -> rusqlite::Result<i64> {
        if let Some(row) = find(self.connection, self.id)? {
            return Ok(row);
        }
        self.connection
            .prepare_cached("INSERT INTO buckets (tenant, name) VALUES (?1, ?2)")?
            .insert([self.id.tenant.as_str(), self.id.name.as_str()])
    }

    /// Gives a key a value; returns by how much the bucket has grown.
    fn set(&self, bucket: i64, key: &str, value: &[u8]) -> rusqlite::Result<i64> {
        let before = self.size(bucket, key)?;
        self.connection
            .prepare_cached(
                "INSERT INTO pairs (bucket, key, value) VALUES (?1, ?2, ?3)
                 ON CONFLICT (bucket, key) DO UPDATE SET value = excluded.value",
            )?
            .execute(params![bucket, key, value])?;
        Ok(size_of(key, value.len() as i64) - before)
    }

    /// Removes a key; returns by how much the bucket has grown, which is never more than 0.
    fn delete(&self, bucket: i64, key: &str) -> rusqlite::Result<i64> {
        let before = self.size(bucket, key)?;
        self.connection
            .prepare_cached("DELETE FROM pairs WHERE bucket = ?1 AND key = ?2")?
            .execute(params![bucket, key])?;
        Ok(-before)
    }

    /// What a pair counts; 0 if it is not there.
    fn size(&self, bucket: i64, key: &str) -> rusqlite::Result<i64> {
        let length: Option<i64> = self
            .connection
            .prepare_cached("SELECT length(value) FROM pairs WHERE bucket = ?1 AND key = ?2")?
            .query_row(params![bucket, key], |row| row.get(0))
            .optional()?;
        Ok(length.map_or(0, |length| size_of(key, length)))
    }

    /// Counts what was written; refuses to grow beyond the limit.
    fn grow(&self, bucket: i64, grown: i64) -> Result<(), Failed> {
        let bytes: i64 = self
            .connection
            .prepare_cached("UPDATE buckets SET bytes = bytes + ?2 WHERE id = ?1 RETURNING bytes")?
            .query_row([bucket, grown], |row| row.get(0))?;
        let limit = self.bucket_bytes;
        if grown > 0 && u64::try_from(bytes).is_ok_and(|bytes| bytes > limit.0) {
            let bucket = self.id.name.clone();
            return Err(KeyValueError::BucketFull { bucket, limit }.into());
        }
        Ok(())
    }
}

fn size_of(key: &str, value_bytes: i64) -> i64 {
    key.len() as i64 + value_bytes + PAIR_BYTES
}

/// The values of these keys at one point in time, `limit` of them together at most.
pub(crate) fn get(
    connection: &Connection,
    bucket: &BucketId,
    keys: &[String],
    limit: ByteSize,
) -> Result<Vec<Option<Bytes>>, Failed> {
    let Some(bucket) = find(connection, bucket)? else { return Ok(vec![None; keys.len()]) };
    let mut left = limit.0;
    let mut values = Vec::with_capacity(keys.len());
    for key in keys {
        let value = value(connection, bucket, key)?;
        let bytes = value.as_ref().map_or(0, |value| value.len() as u64);
        left = left.checked_sub(bytes).ok_or(KeyValueError::BatchTooLarge { limit })?;
        values.push(value.map(Bytes::from));
    }
    Ok(values)
}

/// A page of the keys that follow `after`.
pub(crate) fn keys(
    connection: &Connection,
    bucket: &BucketId,
    after: &str,
    count: usize,
) -> Result<KeyPage, Failed> {
    let Some(bucket) = find(connection, bucket)? else { return Ok(KeyPage::default()) };
    let one_more = i64::try_from(count).unwrap_or(i64::MAX).saturating_add(1);
    let mut keys: Vec<String> = connection
        .prepare_cached(
            "SELECT key FROM pairs WHERE bucket = ?1 AND key > ?2 ORDER BY key LIMIT ?3",
        )?
        .query_map(params![bucket, after, one_more], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let more = keys.len() > count;
    keys.truncate(count);
    Ok(KeyPage { keys, more })
}

fn find(connection: &Connection, bucket: &BucketId) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT id FROM buckets WHERE tenant = ?1 AND name = ?2")?
        .query_row([bucket.tenant.as_str(), bucket.name.as_str()], |row| row.get(0))
        .optional()
}

fn value(connection: &Connection, bucket: i64, key: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    connection
        .prepare_cached("SELECT value FROM pairs WHERE bucket = ?1 AND key = ?2")?
        .query_row(params![bucket, key], |row| row.get(0))
        .optional()
}
