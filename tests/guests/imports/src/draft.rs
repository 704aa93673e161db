//! `wasi:keyvalue@0.2.0-draft`: what differs from its successor, and that the rest is there.

use quern_sdk::Request;
use serde_json::{Value, json};

use crate::{
    Outcome, number, text,
    wasi::keyvalue0_2_0_draft::{
        atomics, batch,
        store::{self, Error},
    },
};

pub(crate) fn operate(operation: &str, request: &Request) -> Outcome {
    let bucket = store::open(&text(request, "bucket")).map_err(describe)?;
    let key = text(request, "key");
    match operation {
        "roundtrip" => {
            bucket.set(&key, b"draft").map_err(describe)?;
            let read = bucket.get(&key).map_err(describe)?.unwrap_or_default();
            let many = batch::get_many(&bucket, std::slice::from_ref(&key)).map_err(describe)?;
            let there = bucket.exists(&key).map_err(describe)?;
            batch::delete_many(&bucket, std::slice::from_ref(&key)).map_err(describe)?;
            let gone = bucket.exists(&key).map_err(describe)?;
            let read = String::from_utf8_lossy(&read).into_owned();
            Ok(json!([read, many.len(), there, gone]))
        }
        "increment" => {
            let delta = number(request, "delta") as u64;
            Ok(json!(atomics::increment(&bucket, &key, delta).map_err(describe)?))
        }
        "list" => {
            let (mut keys, mut cursors, mut cursor) = (Vec::new(), Vec::new(), None);
            loop {
                let page = bucket.list_keys(cursor).map_err(describe)?;
                keys.extend(page.keys);
                cursors.push(page.cursor);
                cursor = page.cursor;
                if cursor.is_none() {
                    return Ok(json!({ "keys": keys, "cursors": cursors }));
                }
            }
        }
        "stale" => match bucket.list_keys(Some(7)) {
            Ok(page) => Ok(json!(page.keys)),
            Err(error) => Err(describe(error)),
        },
        _ => Ok(Value::Null),
    }
}

fn describe(error: Error) -> String {
    match error {
        Error::NoSuchStore => "no-such-store".into(),
        Error::AccessDenied => "access-denied".into(),
        Error::Other(text) => text,
    }
}
