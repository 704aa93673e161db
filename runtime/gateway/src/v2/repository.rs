//! The model repository extension: listing, loading and unloading what is deployed. Deploying is
//! another door: nothing gets into the repository here, and nothing out of it.

use http::{Request, Response};
use quern_dispatcher::IndexEntry;
use quern_types::{Caller, ModelError, Name};
use serde_json::{Value, json};

use super::{
    fields::{DecodeError, boolean, document, members, once, text, unknown},
    json::Cursor,
    parameters::other,
    receive::receive_control,
};
use crate::{
    Gateway,
    body::{self, Reply, ReplyBody, RequestBody},
    errors::Failure,
};

/// `POST /v2/repository/index`
pub(crate) async fn repository_index(
    gateway: &Gateway,
    caller: &Caller,
    request: Request<RequestBody>,
) -> Result<Reply, Failure> {
    let body = receive_control(gateway, request).await?;
    let ready_alone = read_index(body.as_ref())?;
    let mut entries = gateway.dispatcher.index(&caller.tenant);
    entries.retain(|entry| entry.readiness.is_ok() || !ready_alone);
    Ok(body::json(&entries.iter().map(describe).collect::<Vec<_>>()))
}

/// `POST /v2/repository/models/{name}/load`
pub(crate) async fn load_model(
    gateway: &Gateway,
    caller: &Caller,
    name: Name,
    request: Request<RequestBody>,
) -> Result<Reply, Failure> {
    let body = receive_control(gateway, request).await?;
    read_parameters(body.as_ref(), |cursor, key| match key {
        "config" => Err(DecodeError::unsupported(
            "a model is served as it was deployed: deploy it anew with PUT /v1/models/{name}",
        )),
        file if file.starts_with("file:") => Err(DecodeError::unsupported(
            "files are not loaded: deploy the model with PUT /v1/models/{name}",
        )),
        _ => other(cursor),
    })?;
    gateway.dispatcher.load(&caller.tenant, &name).await?;
    Ok(Response::new(ReplyBody::empty()))
}

/// `POST /v2/repository/models/{name}/unload`
pub(crate) async fn unload_model(
    gateway: &Gateway,
    caller: &Caller,
    name: Name,
    request: Request<RequestBody>,
) -> Result<Reply, Failure> {
    let body = receive_control(gateway, request).await?;
    read_parameters(body.as_ref(), |cursor, key| match key {
        "unload_dependents" if boolean(cursor)? => Err(DecodeError::unsupported(
            "nothing is unloaded together with a model: unload each by its name",
        )),
        "unload_dependents" => Ok(()),
        _ => other(cursor),
    })?;
    gateway.dispatcher.unload(&caller.tenant, &name).await?;
    Ok(Response::new(ReplyBody::empty()))
}

/// Whether only what is ready is asked for. A body may be missing.
fn read_index(body: &[u8]) -> Result<bool, DecodeError> {
    let mut ready = None;
    optional(body, |cursor, key| match key {
        "ready" => once(&mut ready, || boolean(cursor)),
        _ => Err(unknown("ready")),
    })?;
    Ok(ready.unwrap_or_default())
}

/// The parameters of a request that may have some.
fn read_parameters(
    body: &[u8],
    mut parameter: impl FnMut(&mut Cursor<'_>, &str) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut parameters = None;
    optional(body, |cursor, key| match key {
        "parameters" => once(&mut parameters, || members(cursor, &mut parameter)),
        _ => Err(unknown("parameters")),
    })
}

fn optional<'a>(
    body: &'a [u8],
    member: impl FnMut(&mut Cursor<'a>, &str) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let text = text(body)?;
    if text.trim().is_empty() { Ok(()) } else { document(text, member) }
}

fn describe(entry: &IndexEntry) -> Value {
    let (state, reason) = state(&entry.readiness);
    json!({
        "name": entry.name,
        "version": entry.version.to_string(),
        "state": state,
        "reason": reason,
    })
}

/// The protocol's word for whether a version takes calls, and why not.
pub(crate) fn state(readiness: &Result<(), ModelError>) -> (&'static str, String) {
    match readiness {
        Ok(()) => ("READY", String::new()),
        Err(error) => ("UNAVAILABLE", Failure::from(error.clone()).into_detail()),
    }
}

#[cfg(test)]
mod tests {
    use quern_types::VersionNumber;

    use super::*;

    #[test]
    fn an_index_is_asked_for_with_or_without_a_filter() {
        for (body, ready) in
            [("", false), (" \n", false), ("{}", false), (r#"{"ready": true}"#, true)]
        {
            assert_eq!(read_index(body.as_bytes()), Ok(ready), "{body}");
        }
        for (body, message) in [
            (r#"{"ready": 1}"#, "ready: expected true or false, found 1"),
            (r#"{"name": 1}"#, "name: is not a field of the protocol, which has ready"),
            ("[]", "body is not JSON: byte 0: expected an object, found an array"),
            ("{} {}", "body is not JSON: byte 3: expected the end of the body, found an object"),
        ] {
            let error = read_index(body.as_bytes()).expect_err(body);
            assert_eq!(error.to_string(), message);
        }
        assert_eq!(read_index(b"\xff"), Err(DecodeError::NotUtf8 { at: 0 }));
    }

    #[test]
    fn parameters_are_read_where_they_are() {
        let mut seen = Vec::new();
        let body = br#"{"parameters": {"a": 1, "b": "x"}}"#;
        let read = read_parameters(body, |cursor, key| {
            seen.push(key.to_owned());
            other(cursor)
        });
        assert_eq!((read, seen), (Ok(()), vec!["a".to_owned(), "b".to_owned()]));
        let error = read_parameters(br#"{"parameters": []}"#, |_, _| Ok(())).expect_err("a list");
        assert_eq!(error.to_string(), "parameters: expected an object, found an array");
    }

    #[test]
    fn an_entry_says_why_it_is_not_ready() {
        let name: Name = "m".parse().expect("a name");
        let entry = |readiness| IndexEntry {
            name: name.clone().into(),
            version: VersionNumber::FIRST,
            readiness,
        };
        let ready = json!({"name": "m", "version": "1", "state": "READY", "reason": ""});
        assert_eq!(describe(&entry(Ok(()))), ready);
        let unloaded = describe(&entry(Err(ModelError::Unloaded { name: name.clone() })));
        assert_eq!(unloaded["state"], "UNAVAILABLE");
        assert_eq!(unloaded["reason"], "model \"m\" is unloaded: load it to call it again");
    }
}
