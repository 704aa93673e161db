//! Whose batch runs next: tenants take turns, and the batches of one run in the order in which they
//! came. A pure decision: no clock, no batch.

use std::collections::HashMap;

use quern_types::TenantId;

/// The batch that shall run next, by its place among those that wait, oldest first.
///
/// It is one of the tenant that has the fewest running; of several, of the one that was served least
/// recently.
pub(crate) fn next(
    waiting: &[TenantId],
    running: &[TenantId],
    served: &HashMap<TenantId, u64>,
) -> Option<usize> {
    let rank = |index: usize| {
        let tenant = &waiting[index];
        let has = running.iter().filter(|other| *other == tenant).count();
        (has, served.get(tenant).copied().unwrap_or(0), index)
    };
    (0..waiting.len()).min_by_key(|index| rank(*index))
}

/// Whether a batch that has had its turn makes room: one waits whose tenant has fewer running.
pub(crate) fn makes_room(own: &TenantId, waiting: &[TenantId], running: &[TenantId]) -> bool {
    let count = |tenant: &TenantId| running.iter().filter(|other| *other == tenant).count();
    waiting.iter().any(|tenant| count(tenant) < count(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenants(names: &str) -> Vec<TenantId> {
        names.chars().map(|name| TenantId::new(&name.to_string())).collect()
    }

    #[test]
    fn tenants_take_turns() {
        let served = |pairs: &[(&str, u64)]| -> HashMap<TenantId, u64> {
            pairs.iter().map(|(name, at)| (TenantId::new(name), *at)).collect()
        };
        for (waiting, running, last, expected) in [
            ("", "", &[][..], None),
            ("aab", "", &[], Some(0)),
            ("aab", "a", &[], Some(2)),
            ("aab", "ab", &[("a", 2), ("b", 1)], Some(2)),
            ("aab", "", &[("a", 1)], Some(2)),
            ("aab", "", &[("a", 1), ("b", 2)], Some(0)),
            ("aa", "a", &[("a", 1)], Some(0)),
        ] {
            let found = next(&tenants(waiting), &tenants(running), &served(last));
            assert_eq!(found, expected, "{waiting:?} beside {running:?}");
        }
    }

    #[test]
    fn a_batch_makes_room_for_a_tenant_that_has_fewer() {
        for (waiting, running, expected) in [
            ("", "a", false),
            ("a", "a", false),
            ("b", "a", true),
            ("b", "ab", false),
            ("b", "aab", true),
        ] {
            let (waiting, running) = (tenants(waiting), tenants(running));
            assert_eq!(makes_room(&TenantId::new("a"), &waiting, &running), expected);
        }
    }
}
