//! `wasi:keyvalue@0.2.0-draft2`: its spelling of the operations, and its swaps.

use quern_types::Change;
use wasmtime::component::{Linker, Resource};

use self::generated::wasi::keyvalue0_2_0_draft2::{atomics, batch, store};
use super::{BucketView, Buckets, Cas, Failure, OpenBucket, spell};
use crate::state::State;

mod generated {
    //! Bindings of the interfaces.

    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "
            package quern:host;
            world buckets {
                import wasi:keyvalue/store@0.2.0-draft2;
                import wasi:keyvalue/atomics@0.2.0-draft2;
                import wasi:keyvalue/batch@0.2.0-draft2;
            }
        ",
        world: "quern:host/buckets",
        imports: { default: async | trappable },
        with: {
            "wasi:keyvalue/store.bucket": super::super::OpenBucket,
            "wasi:keyvalue/atomics.cas": super::super::Cas,
        },
    });
}

type Spelt<T> = wasmtime::Result<Result<T, store::Error>>;

spell!(store, batch, cursor: String, page);

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    store::add_to_linker::<State, Buckets>(linker, State::buckets)?;
    atomics::add_to_linker::<State, Buckets>(linker, State::buckets)?;
    batch::add_to_linker::<State, Buckets>(linker, State::buckets)
}

/// A page whose cursor is its last key.
async fn page(
    view: &mut BucketView<'_>,
    bucket: &Resource<OpenBucket>,
    cursor: Option<String>,
) -> Spelt<store::KeyResponse> {
    Ok(match view.keys(bucket, cursor).await? {
        Ok(page) => {
            let cursor = page.keys.last().filter(|_| page.more).cloned();
            Ok(store::KeyResponse { keys: page.keys, cursor })
        }
        Err(failure) => Err(failure.into()),
    })
}

impl atomics::Host for BucketView<'_> {
    async fn increment(
        &mut self,
        bucket: Resource<OpenBucket>,
        key: String,
        delta: i64,
    ) -> Spelt<i64> {
        Ok(BucketView::increment(self, &bucket, key, delta).await?.map_err(Into::into))
    }

    async fn swap(
        &mut self,
        cas: Resource<Cas>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), atomics::CasError>> {
        Ok(match BucketView::swap(self, cas, value).await? {
            Ok(Ok(())) => Ok(()),
            Ok(Err(newer)) => Err(atomics::CasError::CasFailed(newer)),
            Err(failure) => Err(atomics::CasError::StoreError(failure.into())),
        })
    }
}

impl atomics::HostCas for BucketView<'_> {
    async fn new(&mut self, bucket: Resource<OpenBucket>, key: String) -> Spelt<Resource<Cas>> {
        let id = self.id(&bucket)?;
        Ok(self.know(id, key).await?.map_err(Into::into))
    }

    async fn current(&mut self, cas: Resource<Cas>) -> Spelt<Option<Vec<u8>>> {
        Ok(Ok(self.table.get(&cas)?.known.as_ref().map(|value| value.to_vec())))
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.forget(cas)?;
        Ok(())
    }
}
