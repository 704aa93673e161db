//! `wasi:keyvalue`: opens buckets that are granted, and knows what an operation means. How the two
//! drafts of the interface spell it is in `draft` and `draft2`; what keeps the pairs is behind
//! `KeyValue`.

mod draft;
mod draft2;

use bytes::Bytes;
use quern_types::{BucketId, Change, KeyPage, KeyValueError, TenantId};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use super::Granted;
use crate::{held::Held, state::State};

/// Most keys of one page.
const PAGE: usize = 1_000;

/// A bucket that a guest has opened.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct OpenBucket {
    id: BucketId,
    /// The number of the last page that `0.2.0-draft` was given, and its last key.
    last_page: Option<(u64, String)>,
}

/// A value that a guest knows and would swap for another.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Cas {
    bucket: BucketId,
    key: String,
    known: Option<Bytes>,
}

/// The buckets of one invocation, together with the table that its handles live in.
pub(crate) struct BucketView<'a> {
    pub(crate) granted: &'a Granted,
    pub(crate) tenant: &'a TenantId,
    pub(crate) table: &'a mut ResourceTable,
    pub(crate) held: &'a mut Held,
}

/// Names [`BucketView`] for the linker.
struct Buckets;

impl HasData for Buckets {
    type Data<'a> = BucketView<'a>;
}

/// Why an operation failed: what both drafts call `error`.
enum Failure {
    NoSuchStore,
    AccessDenied,
    Other(String),
}

impl From<KeyValueError> for Failure {
    fn from(error: KeyValueError) -> Self {
        Self::Other(error.to_string())
    }
}

/// The outer result is a trap, the inner one the guest's.
type Answer<T> = wasmtime::Result<Result<T, Failure>>;

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    draft::add_to_linker(linker)?;
    draft2::add_to_linker(linker)
}

/// A pair, or none where its key is not there.
type Pair = Option<(String, Vec<u8>)>;

impl BucketView<'_> {
    fn open(&mut self, identifier: &str) -> Answer<Resource<OpenBucket>> {
        let Ok(name) = identifier.parse() else { return Ok(Err(Failure::NoSuchStore)) };
        if !self.granted.buckets.contains(&name) {
            return Ok(Err(Failure::AccessDenied));
        }
        let id = BucketId { tenant: self.tenant.clone(), name };
        Ok(Ok(self.table.push(OpenBucket { id, last_page: None })?))
    }

    fn id(&self, bucket: &Resource<OpenBucket>) -> wasmtime::Result<BucketId> {
        Ok(self.table.get(bucket)?.id.clone())
    }

    fn close(&mut self, bucket: Resource<OpenBucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }

    async fn get(&mut self, bucket: &Resource<OpenBucket>, key: String) -> Answer<Option<Vec<u8>>> {
        let id = self.id(bucket)?;
        Ok(read(self.granted, id, key).await.map(|value| value.map(Vec::from)))
    }

    async fn get_many(
        &mut self,
        bucket: &Resource<OpenBucket>,
        keys: Vec<String>,
    ) -> Answer<Vec<Pair>> {
        let id = self.id(bucket)?;
        let values = match self.granted.key_value.get(id, keys.clone()).await {
            Ok(values) => values,
            Err(error) => return Ok(Err(error.into())),
        };
        let pairs = keys.into_iter().zip(values);
        Ok(Ok(pairs.map(|(key, value)| value.map(|value| (key, value.into()))).collect()))
    }

    async fn write(
        &mut self,
        bucket: &Resource<OpenBucket>,
        changes: impl IntoIterator<Item = Change>,
    ) -> Answer<()> {
        let id = self.id(bucket)?;
        let written = self.granted.key_value.write(id, changes.into_iter().collect()).await;
        Ok(written.map_err(Failure::from))
    }

    async fn keys(
        &mut self,
        bucket: &Resource<OpenBucket>,
        after: Option<String>,
    ) -> Answer<KeyPage> {
        let id = self.id(bucket)?;
        Ok(self.granted.key_value.keys(id, after, PAGE).await.map_err(Failure::from))
    }

    async fn increment(
        &mut self,
        bucket: &Resource<OpenBucket>,
        key: String,
        delta: i64,
    ) -> Answer<i64> {
        let id = self.id(bucket)?;
        Ok(self.granted.key_value.increment(id, key, delta).await.map_err(Failure::from))
    }

    /// A handle that knows the key's present value; it counts against the guest's memory.
    async fn know(&mut self, bucket: BucketId, key: String) -> Answer<Resource<Cas>> {
        let known = match read(self.granted, bucket.clone(), key.clone()).await {
            Ok(known) => known,
            Err(failure) => return Ok(Err(failure)),
        };
        if let Err(error) = self.held.take(known.as_ref().map_or(0, Bytes::len)) {
            return Ok(Err(Failure::Other(error.to_string())));
        }
        Ok(Ok(self.table.push(Cas { bucket, key, known })?))
    }

    /// Takes a handle back from the guest.
    fn forget(&mut self, cas: Resource<Cas>) -> wasmtime::Result<Cas> {
        let cas = self.table.delete(cas)?;
        self.held.give_back(cas.known.as_ref().map_or(0, Bytes::len));
        Ok(cas)
    }

    /// Swaps, or gives a handle that knows what is there instead.
    async fn swap(
        &mut self,
        cas: Resource<Cas>,
        value: Vec<u8>,
    ) -> Answer<Result<(), Resource<Cas>>> {
        let Cas { bucket, key, known } = self.forget(cas)?;
        let store = &self.granted.key_value;
        let swapped = store.compare_and_set(bucket.clone(), key.clone(), known, value.into()).await;
        match swapped {
            Ok(true) => Ok(Ok(Ok(()))),
            Ok(false) => Ok(self.know(bucket, key).await?.map(Err)),
            Err(error) => Ok(Err(error.into())),
        }
    }
}

async fn read(granted: &Granted, bucket: BucketId, key: String) -> Result<Option<Bytes>, Failure> {
    let mut values = granted.key_value.get(bucket, vec![key]).await?;
    Ok(values.pop().flatten())
}

fn set((key, value): (String, Vec<u8>)) -> Change {
    Change::Set(key, value.into())
}

/// What both drafts spell alike: the store but for its pages, and the batches.
macro_rules! spell {
    ($store:ident, $batch:ident, cursor: $cursor:ty, $page:ident) => {
        impl From<Failure> for $store::Error {
            fn from(failure: Failure) -> Self {
                match failure {
                    Failure::NoSuchStore => Self::NoSuchStore,
                    Failure::AccessDenied => Self::AccessDenied,
                    Failure::Other(text) => Self::Other(text),
                }
            }
        }

        impl $store::Host for BucketView<'_> {
            async fn open(&mut self, identifier: String) -> Spelt<Resource<OpenBucket>> {
                Ok(BucketView::open(self, &identifier)?.map_err(Into::into))
            }
        }

        impl $store::HostBucket for BucketView<'_> {
            async fn get(
                &mut self,
                bucket: Resource<OpenBucket>,
                key: String,
            ) -> Spelt<Option<Vec<u8>>> {
                Ok(BucketView::get(self, &bucket, key).await?.map_err(Into::into))
            }

            async fn set(
                &mut self,
                bucket: Resource<OpenBucket>,
                key: String,
                value: Vec<u8>,
            ) -> Spelt<()> {
                Ok(self.write(&bucket, [super::set((key, value))]).await?.map_err(Into::into))
            }

            async fn delete(&mut self, bucket: Resource<OpenBucket>, key: String) -> Spelt<()> {
                Ok(self.write(&bucket, [Change::Delete(key)]).await?.map_err(Into::into))
            }

            async fn exists(&mut self, bucket: Resource<OpenBucket>, key: String) -> Spelt<bool> {
                let value = BucketView::get(self, &bucket, key).await?;
                Ok(value.map(|value| value.is_some()).map_err(Into::into))
            }

            async fn list_keys(
                &mut self,
                bucket: Resource<OpenBucket>,
                cursor: Option<$cursor>,
            ) -> Spelt<$store::KeyResponse> {
                $page(self, &bucket, cursor).await
            }

            async fn drop(&mut self, bucket: Resource<OpenBucket>) -> wasmtime::Result<()> {
                self.close(bucket)
            }
        }

        impl $batch::Host for BucketView<'_> {
            async fn get_many(
                &mut self,
                bucket: Resource<OpenBucket>,
                keys: Vec<String>,
            ) -> Spelt<Vec<super::Pair>> {
                Ok(BucketView::get_many(self, &bucket, keys).await?.map_err(Into::into))
            }

            async fn set_many(
                &mut self,
                bucket: Resource<OpenBucket>,
                pairs: Vec<(String, Vec<u8>)>,
            ) -> Spelt<()> {
                let changes = pairs.into_iter().map(super::set);
                Ok(self.write(&bucket, changes).await?.map_err(Into::into))
            }

            async fn delete_many(
                &mut self,
                bucket: Resource<OpenBucket>,
                keys: Vec<String>,
            ) -> Spelt<()> {
                let changes = keys.into_iter().map(Change::Delete);
                Ok(self.write(&bucket, changes).await?.map_err(Into::into))
            }
        }
    };
}
use spell;
