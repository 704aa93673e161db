//! The API as programs read it: an OpenAPI document made of the types that are received and sent.
//! Each area describes its operations in a file of its own.

mod access;
mod background;
mod batches;
mod catalog;
mod document;
mod operation;
mod operations;
mod schemas;
mod settings;
mod tenancy;
#[cfg(test)]
mod tests;
mod traffic;
mod webhooks;

use std::collections::HashSet;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH},
};
use quern_types::Digest;

use crate::{
    body::{Reply, ReplyBody},
    query::{self, QueryError},
    route::Route,
};
use document::Server;
use operation::Operation;

/// Every operation that is described.
fn described() -> Vec<Operation> {
    let areas = [
        catalog::operations(),
        settings::operations(),
        traffic::operations(),
        background::operations(),
        webhooks::operations(),
        batches::operations(),
        access::operations(),
        tenancy::operations(),
        operations::operations(),
    ];
    areas.into_iter().flatten().collect()
}

/// The document of a server of this version, as JSON.
///
/// # Panics
/// If two types of one name have different schemas, which a test rules out.
pub fn document(version: &str, authenticate: bool) -> String {
    let document = document::write(Server { version, authenticate }, &described());
    document.expect("every schema has a name of its own, as a test shows").to_string()
}

/// What the edge knows of its operations.
pub(crate) struct Api {
    document: Bytes,
    etag: HeaderValue,
    /// The operations that take a query.
    queried: HashSet<&'static str>,
}

impl Api {
    pub(crate) fn new(version: &str, authenticate: bool) -> Self {
        let document = Bytes::from(document(version, authenticate));
        let etag = format!("\"{}\"", Digest::of(&document).hex());
        let queried = described().into_iter().filter(|operation| operation.query.is_some());
        Self {
            document,
            etag: etag.try_into().expect("hexadecimal digits in quotes"),
            queried: queried.map(|operation| operation.id).collect(),
        }
    }

    /// Refuses a query where none is described; where one is, its reader is as strict.
    pub(crate) fn check_query(&self, route: &Route, query: Option<&str>) -> Result<(), QueryError> {
        match route.operation() {
            Some(id) if !self.queried.contains(id) => query::refuse(query),
            _ => Ok(()),
        }
    }

    /// `GET /openapi.json`
    pub(crate) fn reply(&self, headers: &HeaderMap) -> Reply {
        let mut reply = Response::new(ReplyBody::empty());
        if self.is_known(headers) {
            *reply.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            *reply.body_mut() = ReplyBody::full(self.document.clone());
            let kind = HeaderValue::from_static("application/json");
            reply.headers_mut().insert(CONTENT_TYPE, kind);
        }
        reply.headers_mut().insert(ETAG, self.etag.clone());
        reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        reply
    }

    /// Whether the client has the document already (RFC 9110, section 13.1.2).
    fn is_known(&self, headers: &HeaderMap) -> bool {
        let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
        known.flat_map(|tags| tags.split(',')).map(str::trim).any(|tag| {
            tag == "*" || self.etag.as_bytes() == tag.strip_prefix("W/").unwrap_or(tag).as_bytes()
        })
    }
}
