//! How much of the devices' time each tenant has had, in proportion to its weight. Whoever has had
//! a turn more than the least of those who wait goes after them; who had nothing waiting for a while
//! begins where the others are, so that nobody saves up time.
//!
//! After start-time fair queueing: Goyal, Vin and Cheng, SIGCOMM 1996.

use std::collections::{BTreeMap, BTreeSet};

use crate::TenantIndex;

/// Device time of a turn for each lane, in µs, at the usual weight: a hundredth of a second, so that
/// the tenants of any second differ by about that part, and deadlines decide within it.
const TURN_US: u64 = 10_000;
/// The weight of a tenant that none was said of, in thousandths.
const USUAL_MILLI: u32 = 1_000;

/// The tenants' shares.
#[derive(Debug, Clone)]
pub(super) struct Shares {
    tenants: BTreeMap<TenantIndex, Share>,
    /// Those whose calls wait, who has had least first.
    waiting: BTreeSet<(u64, TenantIndex)>,
    /// The least that a tenant with waiting calls had when it was last looked at.
    floor: u64,
    /// What a turn is, as `had` counts.
    turn: u64,
}

impl Default for Shares {
    fn default() -> Self {
        let mut shares =
            Self { tenants: BTreeMap::new(), waiting: BTreeSet::new(), floor: 0, turn: 1 };
        shares.set_lanes(1);
        shares
    }
}

#[derive(Debug, Clone, Copy)]
struct Share {
    weight_milli: u32,
    /// Device time by weight: µs · 1,000 / weight.
    had: u64,
    /// Calls that wait.
    waiting: u64,
}

impl Share {
    fn new(weight_milli: u32) -> Self {
        Self { weight_milli: weight_milli.max(1), had: 0, waiting: 0 }
    }

    fn scaled(&self, us: u64) -> u64 {
        us.saturating_mul(1_000_000) / u64::from(self.weight_milli)
    }
}

impl Shares {
    /// So many lanes compute side by side.
    pub(super) fn set_lanes(&mut self, lanes: u64) {
        self.turn = lanes.max(1).saturating_mul(TURN_US).saturating_mul(1_000);
    }

    pub(super) fn weigh(&mut self, tenant: TenantIndex, weight_milli: u32) {
        self.share(tenant).weight_milli = weight_milli.max(1);
    }

    /// A call of the tenant waits.
    pub(super) fn wait(&mut self, tenant: TenantIndex) {
        let floor = self.floor;
        let share = self.share(tenant);
        if share.waiting == 0 {
            share.had = share.had.max(floor);
        }
        share.waiting += 1;
        let had = share.had;
        self.waiting.insert((had, tenant));
    }

    /// A call of the tenant no longer waits.
    pub(super) fn leave(&mut self, tenant: TenantIndex) {
        let share = self.share(tenant);
        share.waiting = share.waiting.saturating_sub(1);
        if share.waiting == 0 {
            let had = share.had;
            self.waiting.remove(&(had, tenant));
        }
    }

    /// The tenant gets device time.
    pub(super) fn charge(&mut self, tenant: TenantIndex, us: u64) {
        self.change(tenant, |share| share.had.saturating_add(share.scaled(us)));
    }

    /// It took other than it was charged.
    pub(super) fn correct(&mut self, tenant: TenantIndex, charged_us: u64, us: u64) {
        self.change(tenant, |share| {
            let had = share.had.saturating_add(share.scaled(us));
            had.saturating_sub(share.scaled(charged_us))
        });
    }

    fn change(&mut self, tenant: TenantIndex, had: impl FnOnce(&Share) -> u64) {
        let share = self.share(tenant);
        let (before, waits) = (share.had, share.waiting > 0);
        share.had = had(share);
        let after = share.had;
        if waits {
            self.waiting.remove(&(before, tenant));
            self.waiting.insert((after, tenant));
        }
        if let Some((least, _)) = self.waiting.first() {
            self.floor = self.floor.max(*least);
        }
    }

    /// How many turns the tenant has had more than the least of those who wait.
    pub(super) fn turns(&self, tenant: TenantIndex) -> u64 {
        let least = self.waiting.first().map_or(self.floor, |(least, _)| *least);
        self.had(tenant).saturating_sub(least) / self.turn
    }

    /// What the tenant has had, by its weight.
    fn had(&self, tenant: TenantIndex) -> u64 {
        self.tenants.get(&tenant).map_or(0, |share| share.had)
    }

    fn share(&mut self, tenant: TenantIndex) -> &mut Share {
        self.tenants.entry(tenant).or_insert(Share::new(USUAL_MILLI))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: TenantIndex = TenantIndex(1);
    const TWO: TenantIndex = TenantIndex(2);

    #[test]
    fn a_heavier_tenant_has_had_less_of_the_same_time() {
        let mut shares = Shares::default();
        shares.weigh(TWO, 2_000);
        [ONE, TWO].into_iter().for_each(|tenant| shares.wait(tenant));
        [ONE, TWO].into_iter().for_each(|tenant| shares.charge(tenant, 100));
        assert_eq!((shares.had(ONE), shares.had(TWO)), (100_000, 50_000));
        shares.correct(TWO, 100, 300);
        assert_eq!(shares.had(TWO), 150_000);
        shares.weigh(TWO, 0);
        shares.charge(TWO, u64::MAX);
        assert!(shares.had(TWO) > shares.had(ONE), "a weight of nothing is the least there is");
    }

    #[test]
    fn a_turn_grows_with_the_lanes() {
        let mut shares = Shares::default();
        [ONE, TWO].into_iter().for_each(|tenant| shares.wait(tenant));
        shares.charge(ONE, 25_000);
        for (lanes, expected) in [(0, 2), (1, 2), (2, 1), (3, 0)] {
            shares.set_lanes(lanes);
            assert_eq!((shares.turns(ONE), shares.turns(TWO)), (expected, 0), "{lanes} lanes");
        }
    }

    #[test]
    fn who_comes_back_begins_where_the_others_are() {
        let mut shares = Shares::default();
        shares.wait(ONE);
        shares.charge(ONE, 1_000);
        shares.charge(ONE, 1_000);
        shares.wait(TWO);
        assert_eq!(shares.had(TWO), shares.had(ONE), "no credit for having been away");
        shares.leave(ONE);
        shares.charge(TWO, 5_000);
        shares.wait(ONE);
        assert_eq!(shares.had(ONE), shares.had(TWO));
        shares.leave(ONE);
        shares.charge(ONE, 9_000);
        shares.leave(TWO);
        shares.wait(TWO);
        assert!(shares.had(TWO) < shares.had(ONE), "what was owed stays owed");
    }
}
