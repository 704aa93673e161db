//! `wasi:keyvalue@0.2.0-draft`: its spelling of the operations, with cursors that are numbers, and
//! increments without a sign.

use quern_types::Change;
use wasmtime::component::{Linker, Resource};

use self::generated::wasi::keyvalue0_2_0_draft::{atomics, batch, store};
use super::{BucketView, Buckets, Failure, OpenBucket, spell};
use crate::state::State;

mod generated {
    //! Bindings of the interfaces.

    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "
            package quern:host;
            world first-buckets {
                import wasi:keyvalue/store@0.2.0-draft;
                import wasi:keyvalue/atomics@0.2.0-draft;
                import wasi:keyvalue/batch@0.2.0-draft;
            }
        ",
        world: "quern:host/first-buckets",
        imports: { default: async | trappable },
        with: { "wasi:keyvalue/store.bucket": super::super::OpenBucket },
    });
}

type Spelt<T> = wasmtime::Result<Result<T, store::Error>>;

spell!(store, batch, cursor: u64, page);

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    store::add_to_linker::<State, Buckets>(linker, State::buckets)?;
    atomics::add_to_linker::<State, Buckets>(linker, State::buckets)?;
    batch::add_to_linker::<State, Buckets>(linker, State::buckets)
}

/// A page whose cursor is its number; the handle remembers where the last one ended, and no more.
async fn page(
    view: &mut BucketView<'_>,
    bucket: &Resource<OpenBucket>,
    cursor: Option<u64>,
) -> Spelt<store::KeyResponse> {
    let after = match (cursor, &view.table.get(bucket)?.last_page) {
        (None, _) => None,
        (Some(cursor), Some((number, key))) if cursor == *number => Some(key.clone()),
        (Some(cursor), _) => {
            let text = format!("{cursor} is not the last cursor that this bucket's handle gave");
            return Ok(Err(store::Error::Other(text)));
        }
    };
    let page = match view.keys(bucket, after).await? {
        Ok(page) => page,
        Err(failure) => return Ok(Err(failure.into())),
    };
    let number = cursor.map_or(1, |cursor| cursor + 1);
    let last = page.keys.last().filter(|_| page.more);
    let next = last.map(|key| (number, key.clone()));
    let cursor = next.as_ref().map(|(number, _)| *number);
    view.table.get_mut(bucket)?.last_page = next;
    Ok(Ok(store::KeyResponse { keys: page.keys, cursor }))
}

impl atomics::Host for BucketView<'_> {
    async fn increment(
        &mut self,
        bucket: Resource<OpenBucket>,
        key: String,
        delta: u64,
    ) -> Spelt<u64> {
        let Ok(delta) = i64::try_from(delta) else {
            return Ok(Err(store::Error::Other(format!("delta {delta} has more than 63 bits"))));
        };
        Ok(match BucketView::increment(self, &bucket, key, delta).await? {
            Ok(sum) => u64::try_from(sum)
                .map_err(|_| store::Error::Other(format!("sum {sum} is negative"))),
            Err(failure) => Err(failure.into()),
        })
    }
}
