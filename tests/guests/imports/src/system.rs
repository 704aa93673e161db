//! Clocks and randomness.

use serde_json::json;
use wasip2::{
    clocks::{monotonic_clock, wall_clock},
    random::{insecure, insecure_seed, random},
};

use crate::Outcome;

/// The wall clock, and what the monotonic one says before and after a sleep of 20 ms.
pub(crate) fn clocks() -> Outcome {
    let before = monotonic_clock::now();
    monotonic_clock::subscribe_duration(20_000_000).block();
    let after = monotonic_clock::now();
    let wall = wall_clock::now();
    Ok(json!({
        "seconds": wall.seconds,
        "nanoseconds": wall.nanoseconds,
        "slept": after - before,
        "resolution": monotonic_clock::resolution(),
    }))
}

/// Random bytes of every source.
pub(crate) fn random() -> Outcome {
    Ok(json!({
        "secure": random::get_random_bytes(32),
        "number": random::get_random_u64().to_string(),
        "insecure": insecure::get_insecure_random_bytes(32),
        "seed": format!("{:?}", insecure_seed::insecure_seed()),
    }))
}
