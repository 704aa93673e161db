//! The key-value store against a map in memory: any sequence of operations has the same answers,
//! the limit on a bucket's size included.

use std::collections::BTreeMap;

use bytes::Bytes;
use prometheus::Registry;
use proptest::{collection::vec, option, prelude::*};
use quern_store::{Store, StoreConfig};
use quern_types::{BucketId, ByteSize, Change, KeyPage, KeyValueError, TenantId};

use crate::common::{config, name};

const LIMIT: u64 = 400;

#[derive(Debug, Clone)]
enum Step {
    Write { bucket: u8, changes: Vec<(u8, Option<Vec<u8>>)> },
    Increment { bucket: u8, key: u8, delta: i64 },
    Swap { bucket: u8, key: u8, expected: Option<Vec<u8>>, value: Vec<u8> },
    Keys { bucket: u8, after: Option<u8>, count: usize },
    Reopen,
}

type Bucket = BTreeMap<String, Vec<u8>>;
type Model = BTreeMap<u8, Bucket>;

fn key_of(key: u8) -> String {
    ["a", "b", "ab", "é", "z\0"][usize::from(key)].to_owned()
}

fn bucket_of(bucket: u8) -> BucketId {
    let tenant = TenantId::new(if bucket == 2 { "other" } else { "default" });
    BucketId { tenant, name: name(["a", "b", "a"][usize::from(bucket)]) }
}

fn size(bucket: &Bucket) -> u64 {
    bucket.iter().map(|(key, value)| (key.len() + value.len() + 64) as u64).sum()
}

/// Keeps a changed bucket if it is not too large.
fn keep(model: &mut Model, bucket: u8, changed: Bucket) -> Result<(), &'static str> {
    let before = model.entry(bucket).or_default();
    if size(&changed) > size(before) && size(&changed) > LIMIT {
        return Err("full");
    }
    *before = changed;
    Ok(())
}

fn error(error: KeyValueError) -> &'static str {
    match error {
        KeyValueError::BucketFull { .. } => "full",
        KeyValueError::NotANumber { .. } => "number",
        other => panic!("{other}"),
    }
}

fn increment(model: &mut Model, bucket: u8, key: u8, delta: i64) -> Result<i64, &'static str> {
    let mut changed = model.get(&bucket).cloned().unwrap_or_default();
    let present = match changed.get(&key_of(key)) {
        Some(value) => String::from_utf8_lossy(value).parse().map_err(|_| "number")?,
        None => 0_i64,
    };
    let sum = present.checked_add(delta).ok_or("number")?;
    changed.insert(key_of(key), sum.to_string().into_bytes());
    keep(model, bucket, changed).map(|()| sum)
}

fn swap(
    model: &mut Model,
    bucket: u8,
    key: u8,
    (expected, value): (Option<&Vec<u8>>, &[u8]),
) -> Result<bool, &'static str> {
    let mut changed = model.get(&bucket).cloned().unwrap_or_default();
    if changed.get(&key_of(key)) != expected {
        return Ok(false);
    }
    changed.insert(key_of(key), value.to_vec());
    keep(model, bucket, changed).map(|()| true)
}

async fn take(store: &Store, model: &mut Model, step: &Step) {
    let pairs = store.key_value();
    match step.clone() {
        Step::Write { bucket, changes } => {
            let mut changed = model.get(&bucket).cloned().unwrap_or_default();
            for (key, value) in &changes {
                match value {
                    Some(value) => changed.insert(key_of(*key), value.clone()),
                    None => changed.remove(&key_of(*key)),
                };
            }
            let expected = keep(model, bucket, changed);
            let changes = changes.into_iter().map(|(key, value)| match value {
                Some(value) => Change::Set(key_of(key), value.into()),
                None => Change::Delete(key_of(key)),
            });
            let outcome = pairs.write(bucket_of(bucket), changes.collect()).await;
            assert_eq!(outcome.map_err(error), expected);
        }
        Step::Increment { bucket, key, delta } => {
            let expected = increment(model, bucket, key, delta);
            let outcome = pairs.increment(bucket_of(bucket), key_of(key), delta).await;
            assert_eq!(outcome.map_err(error), expected);
        }
        Step::Swap { bucket, key, expected: known, value } => {
            let expected = swap(model, bucket, key, (known.as_ref(), &value));
            let known = known.map(Bytes::from);
            let outcome =
                pairs.compare_and_set(bucket_of(bucket), key_of(key), known, value.into()).await;
            assert_eq!(outcome.map_err(error), expected);
        }
        Step::Keys { bucket, after, count } => {
            let all = model.get(&bucket).cloned().unwrap_or_default().into_keys();
            let after = after.map(key_of);
            let mut keys: Vec<_> =
                all.filter(|key| after.as_ref().is_none_or(|after| key > after)).collect();
            let more = keys.len() > count;
            keys.truncate(count);
            let page = pairs.keys(bucket_of(bucket), after, count).await;
            assert_eq!(page, Ok(KeyPage { keys, more }));
        }
        Step::Reopen => unreachable!("taken by the caller"),
    }
}

/// Every value of every bucket is that of the model.
async fn check(store: &Store, model: &Model) {
    for bucket in 0..3 {
        let keys: Vec<_> = (0..5).map(key_of).collect();
        let pairs = model.get(&bucket).cloned().unwrap_or_default();
        let expected: Vec<_> =
            keys.iter().map(|key| pairs.get(key).cloned().map(Bytes::from)).collect();
        assert_eq!(store.key_value().get(bucket_of(bucket), keys).await, Ok(expected));
    }
}

async fn walk(steps: &[Step]) {
    let folder = tempfile::tempdir().expect("a folder");
    let open = async || {
        let config = StoreConfig { bucket_bytes: ByteSize(LIMIT), ..config(folder.path(), 2) };
        Store::open(config, &Registry::new()).await.expect("opens")
    };
    let (mut store, mut model) = (open().await, Model::new());
    for step in steps {
        if matches!(step, Step::Reopen) {
            store.close().await;
            store = open().await;
        } else {
            take(&store, &mut model, step).await;
        }
        check(&store, &model).await;
    }
    store.close().await;
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        (0..20_i64).prop_map(|number| number.to_string().into_bytes()),
        (0..250_usize).prop_map(|length| vec![0xff; length]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let change = (0..5_u8, option::of(value()));
    prop_oneof![
        6 => (0..3_u8, vec(change, 0..4))
            .prop_map(|(bucket, changes)| Step::Write { bucket, changes }),
        4 => (0..3_u8, 0..5_u8, prop_oneof![-5..5_i64, any::<i64>()])
            .prop_map(|(bucket, key, delta)| Step::Increment { bucket, key, delta }),
        4 => (0..3_u8, 0..5_u8, option::of((0..6_i64).prop_map(|n| n.to_string().into_bytes())), value())
            .prop_map(|(bucket, key, expected, value)| Step::Swap { bucket, key, expected, value }),
        2 => (0..3_u8, option::of(0..5_u8), 0..4_usize)
            .prop_map(|(bucket, after, count)| Step::Keys { bucket, after, count }),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn pairs_behave_like_a_map(steps in vec(step(), 1..80)) {
        tokio::runtime::Runtime::new().expect("a runtime").block_on(walk(&steps));
    }
}
