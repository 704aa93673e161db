//! `wasi:keyvalue@0.2.0-draft2`, an operation for each path.

use quern_sdk::Request;
use serde_json::{Value, json};

use crate::{
    Outcome, number, text,
    wasi::keyvalue0_2_0_draft2::{
        atomics::{self, Cas, CasError},
        batch,
        store::{self, Bucket, Error},
    },
};

pub(crate) fn operate(operation: &str, request: &Request) -> Outcome {
    let bucket = store::open(&text(request, "bucket")).map_err(describe)?;
    let (key, value) = (text(request, "key"), text(request, "value").into_bytes());
    let keys: Vec<String> = text(request, "keys").split(',').map(str::to_owned).collect();
    let answer = match operation {
        "open" => json!(null),
        "get" => shown(bucket.get(&key).map_err(describe)?),
        "set" => json!(bucket.set(&key, &value).map_err(describe)?),
        "fill" => {
            let size = number(request, "size") as usize;
            json!(bucket.set(&key, &vec![b'x'; size]).map_err(describe)?)
        }
        "delete" => json!(bucket.delete(&key).map_err(describe)?),
        "exists" => json!(bucket.exists(&key).map_err(describe)?),
        "list" => list(&bucket)?,
        "get-many" => {
            let pairs = batch::get_many(&bucket, &keys).map_err(describe)?;
            let pair = |(key, value): (String, Vec<u8>)| json!([key, shown(Some(value))]);
            pairs.into_iter().map(|found| found.map(pair)).collect::<Vec<_>>().into()
        }
        "set-many" => {
            let pairs: Vec<_> = keys.into_iter().map(|key| (key, value.clone())).collect();
            json!(batch::set_many(&bucket, &pairs).map_err(describe)?)
        }
        "delete-many" => json!(batch::delete_many(&bucket, &keys).map_err(describe)?),
        "increment" => {
            let delta = number(request, "delta");
            json!(atomics::increment(&bucket, &key, delta).map_err(describe)?)
        }
        "swap" => swap(&bucket, &key, request)?,
        "add" => add(&bucket, &key)?,
        "hoard" => hoard(&bucket, &key, number(request, "handles"))?,
        _ => return Err("there is no such operation".into()),
    };
    Ok(answer)
}

/// All keys, page by page, with the number of pages.
fn list(bucket: &Bucket) -> Outcome {
    let (mut keys, mut pages, mut cursor) = (Vec::new(), 0, None);
    loop {
        let page = bucket.list_keys(cursor.as_deref()).map_err(describe)?;
        keys.extend(page.keys);
        pages += 1;
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok(json!({ "keys": keys, "pages": pages }));
        }
    }
}

/// Takes a handle, sets the key to `?meanwhile=` behind its back, and swaps.
fn swap(bucket: &Bucket, key: &str, request: &Request) -> Outcome {
    let cas = Cas::new(bucket, key).map_err(describe)?;
    let known = shown(cas.current().map_err(describe)?);
    if let Some(meanwhile) = request.query("meanwhile") {
        bucket.set(key, meanwhile.as_bytes()).map_err(describe)?;
    }
    let swapped = match atomics::swap(cas, text(request, "value").as_bytes()) {
        Ok(()) => json!(true),
        Err(CasError::CasFailed(cas)) => shown(cas.current().map_err(describe)?),
        Err(CasError::StoreError(error)) => return Err(describe(error)),
    };
    Ok(json!({ "known": known, "swapped": swapped }))
}

/// Adds one to a number, again until nobody else has been faster; returns the tries.
fn add(bucket: &Bucket, key: &str) -> Outcome {
    let mut cas = Cas::new(bucket, key).map_err(describe)?;
    let mut tries = 1;
    loop {
        let current = cas.current().map_err(describe)?.unwrap_or(b"0".to_vec());
        let current: u64 = String::from_utf8_lossy(&current).parse().expect("a number");
        match atomics::swap(cas, (current + 1).to_string().as_bytes()) {
            Ok(()) => return Ok(json!(tries)),
            Err(CasError::CasFailed(newer)) => cas = newer,
            Err(CasError::StoreError(error)) => return Err(describe(error)),
        }
        tries += 1;
    }
}

/// Keeps many handles at once; each knows the key's value.
fn hoard(bucket: &Bucket, key: &str, handles: i64) -> Outcome {
    let taken: Result<Vec<Cas>, Error> = (0..handles).map(|_| Cas::new(bucket, key)).collect();
    Ok(json!(taken.map_err(describe)?.len()))
}

/// A value as text; only its length if it is long.
fn shown(value: Option<Vec<u8>>) -> Value {
    match value {
        Some(value) if value.len() > 100 => json!(value.len()),
        Some(value) => json!(String::from_utf8_lossy(&value)),
        None => Value::Null,
    }
}

fn describe(error: Error) -> String {
    match error {
        Error::NoSuchStore => "no-such-store".into(),
        Error::AccessDenied => "access-denied".into(),
        Error::Other(text) => text,
    }
}
