//! What of a configuration can be changed while a server runs, and what two of them differ in. It
//! changes no server.

use super::{Config, Http, Options, Tls};

/// An option of which two configurations say different things.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Its name with its section's, such as `http.max_head`.
    pub(crate) key: String,
    /// In TOML.
    pub(crate) from: String,
    pub(crate) to: String,
}

impl Config {
    /// Takes over from another configuration what can be changed while a server runs.
    pub(crate) fn take_live(&mut self, wanted: &Self) {
        let Options { server, tls, http, .. } = &mut self.options;
        server.log_filter = wanted.options.server.log_filter.clone();
        server.drain_timeout = wanted.options.server.drain_timeout;
        // Which certificate is shown can change, and not whether there is one.
        if tls.files().is_some() && wanted.options.tls.files().is_some() {
            let Tls { certificate, key, .. } = wanted.options.tls.clone();
            (tls.certificate, tls.key) = (certificate, key);
        }
        let Http { max_connections, body_memory, body_timeout, .. } = *http;
        *http = Http { max_connections, body_memory, body_timeout, ..wanted.options.http.clone() };
    }

    /// What `other` says differently.
    pub(crate) fn changes(&self, other: &Self) -> Vec<Change> {
        let (before, after) = (self.sections(), other.sections());
        let options = before.into_iter().zip(after).flat_map(|(before, after)| {
            let path = before.path;
            let pairs = before.options.into_iter().zip(after.options);
            pairs.map(move |(before, after)| (path, before, after))
        });
        let written = |value: Option<String>| value.unwrap_or_else(|| "not set".into());
        let different = options.filter(|(_, before, after)| before.value != after.value);
        let change = different.map(|(path, before, after)| Change {
            key: format!("{path}.{}", before.key),
            from: written(before.value),
            to: written(after.value),
        });
        change.collect()
    }
}
