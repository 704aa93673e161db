//! The key-value store as functions see it. The trait inverts the edge from the sandbox to whatever
//! keeps the pairs.

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::{ByteSize, Name, TenantId};

/// A bucket: the namespace of a tenant's keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BucketId {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name, unique for the tenant.
    pub name: Name,
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Gives the key a value.
    Set(String, Bytes),
    /// Removes the key, if it is there.
    Delete(String),
}

/// Some of a bucket's keys, in ascending order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyPage {
    /// The keys.
    pub keys: Vec<String>,
    /// Whether there are more after the last of them.
    pub more: bool,
}

/// Why an operation on a bucket failed; none of it was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyValueError {
    /// The key is empty or too long.
    #[error("the key has {length} bytes: it must have between 1 and {limit}")]
    Key {
        /// Its length in bytes.
        length: usize,
        /// The longest.
        limit: usize,
    },
    /// The value is too large.
    #[error("the value is larger than the limit of {limit}")]
    ValueTooLarge {
        /// The limit.
        limit: ByteSize,
    },
    /// The bucket would become too large.
    #[error("bucket {bucket:?} would be larger than its limit of {limit}: delete something first")]
    BucketFull {
        /// The bucket.
        bucket: Name,
        /// The limit on all its keys and values together.
        limit: ByteSize,
    },
    /// One operation concerns too many keys.
    #[error("{count} keys are too many for one operation: at most {limit} are allowed")]
    TooManyKeys {
        /// The keys.
        count: usize,
        /// The most.
        limit: usize,
    },
    /// One operation reads or writes too much.
    #[error("the values are larger than {limit} together: take fewer keys at once")]
    BatchTooLarge {
        /// The most that one operation reads or writes.
        limit: ByteSize,
    },
    /// An increment met a value that is no number, or has no room for the sum.
    #[error("the value of key {key:?} can't be incremented: {reason}")]
    NotANumber {
        /// The key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// As many operations as are allowed wait already.
    #[error("too many writes are waiting for the disk: try again later")]
    Busy,
    /// The disk failed.
    #[error("the key-value store failed: {reason}")]
    Storage {
        /// What it said.
        reason: String,
    },
}

/// Keeps pairs of keys and values. What is acknowledged survives power loss; the operations on a
/// bucket are in one order that all see.
pub trait KeyValue: Send + Sync + 'static {
    /// The values of these keys; none for those that are not there.
    fn get(
        &self,
        bucket: BucketId,
        keys: Vec<String>,
    ) -> BoxFuture<'static, Result<Vec<Option<Bytes>>, KeyValueError>>;

    /// The keys after `after`, at most `count` of them, and never more than one page has room for.
    fn keys(
        &self,
        bucket: BucketId,
        after: Option<String>,
        count: usize,
    ) -> BoxFuture<'static, Result<KeyPage, KeyValueError>>;

    /// Makes all changes, or none.
    fn write(
        &self,
        bucket: BucketId,
        changes: Vec<Change>,
    ) -> BoxFuture<'static, Result<(), KeyValueError>>;

    /// Adds `delta` to the number that the key's value is in decimal, and returns the sum; a key
    /// that is not there counts as zero.
    fn increment(
        &self,
        bucket: BucketId,
        key: String,
        delta: i64,
    ) -> BoxFuture<'static, Result<i64, KeyValueError>>;

    /// Gives the key a value if its present one is `expected`; returns whether it was.
    fn compare_and_set(
        &self,
        bucket: BucketId,
        key: String,
        expected: Option<Bytes>,
        value: Bytes,
    ) -> BoxFuture<'static, Result<bool, KeyValueError>>;
}
