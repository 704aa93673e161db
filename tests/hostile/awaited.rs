//! What the server does not do yet: the one place in which tests that wait for it are marked.

/// Something that the server is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feature {
    /// Outbound HTTP to granted origins, and the addresses that it refuses.
    Outbound,
    /// Buckets of wasi:keyvalue, and their quota.
    KeyValue,
    /// The limit on a response's body.
    ResponseLimit,
}

/// What is not there yet. Removing a feature from this list runs its tests.
const AWAITED: &[Feature] = &[];

/// Whether a test of this has to be skipped; says so if it has.
pub(crate) fn skips(feature: Feature, test: &str) -> bool {
    let skipped = AWAITED.contains(&feature);
    if skipped {
        eprintln!("SKIPPED {test}: the server has no {feature:?} yet");
    }
    skipped
}
