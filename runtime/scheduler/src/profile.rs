//! How long batches take, as measured: for each size class a moving average and how far off it
//! usually is. Never a model or a guess of what was not measured.

/// The newest measurement counts for one part in this many of the average.
const MEAN_WEIGHT: u64 = 8;
/// The same of the deviation. Both as TCP smooths round-trip times (RFC 6298, section 2).
const DEVIATION_WEIGHT: u64 = 4;
/// Runs after which a class is relied upon: by then the first one, which may have been anything,
/// counts for little.
const TRUSTED_RUNS: u64 = 16;
/// Of calls in a row that are refused because of a class, with no run of it in between, one in this
/// many is run all the same: the class may be wrong, and only a run can tell.
const REFUSALS_PER_TRIAL: u32 = 16;
/// Runs after which a class says whether it pays: what it says wrongly is soon tried again.
const KNOWN_RUNS: u64 = 2;
/// A larger size pays if a row of it costs at least one part in this many less than one of a
/// smaller size.
const WORTH: u128 = 20;
/// Of batches that are kept from a size which doesn't pay, one in this many has it nevertheless:
/// only a run can tell that it pays by now.
const CAPS_PER_TRIAL: u32 = 64;
/// Classes of a `u32`.
const CLASSES: usize = 33;

/// Measured time of a batch by its number of rows. Sizes share a class up to the next power of
/// two: 1, 2, 3–4, 5–8, ….
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatencyProfile {
    classes: [SizeClass; CLASSES],
}

/// What was measured of batches of about the same size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// The most rows of the class.
    pub rows: u32,
    /// How many batches there were.
    pub runs: u64,
    /// Their average time, in µs, later ones counting more.
    pub mean_us: u64,
    /// How far from the average they are, on average, in µs.
    pub deviation_us: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct SizeClass {
    runs: u64,
    /// [`MEAN_WEIGHT`] times the average, so that integer division loses nothing that adds up.
    scaled_mean_us: u64,
    /// [`DEVIATION_WEIGHT`] times the mean deviation.
    scaled_deviation_us: u64,
    fastest_us: u64,
    /// [`MEAN_WEIGHT`] times what one row has taken on average: batches of a class differ in size.
    scaled_row_ns: u64,
    /// Calls refused because of this class since its last run.
    refusals: u32,
    /// Batches kept from this class since its last run.
    caps: u32,
}

impl Default for LatencyProfile {
    fn default() -> Self {
        Self { classes: [SizeClass::default(); CLASSES] }
    }
}

impl LatencyProfile {
    /// The most rows of each class: 1, 2, 4, …, and in the last one whatever more there can be.
    const SIZES: [u32; CLASSES] = {
        let mut sizes = [u32::MAX; CLASSES];
        let mut class = 0;
        while class < CLASSES - 1 {
            sizes[class] = 1 << class;
            class += 1;
        }
        sizes
    };

    /// What was measured of batches of about this many rows; none if there was no such batch yet.
    pub fn measured(&self, rows: u32) -> Option<Measured> {
        self.classes[class(rows)].measured(class(rows))
    }

    /// Every class that was measured, the smallest first.
    pub fn all(&self) -> impl Iterator<Item = Measured> {
        self.classes.iter().enumerate().filter_map(|(class, measured)| measured.measured(class))
    }

    /// What a batch of so many rows takes on average; none unless that can be relied upon.
    pub(crate) fn usual_us(&self, rows: u32) -> Option<u64> {
        self.trusted(rows).map(SizeClass::mean_us)
    }

    /// What a quick batch of so many rows takes: hardly any takes less.
    pub(crate) fn quick_us(&self, rows: u32) -> Option<u64> {
        let class = self.trusted(rows)?;
        Some(class.mean_us().saturating_sub(class.deviation_us().saturating_mul(2)))
    }

    /// What the fastest batch of so many rows has taken: what is left to rely upon where batches
    /// differ in more than their rows.
    pub(crate) fn fastest_us(&self, rows: u32) -> Option<u64> {
        self.trusted(rows).map(|class| class.fastest_us)
    }

    /// What a slow batch of so many rows takes: hardly any takes more.
    pub(crate) fn slow_us(&self, rows: u32) -> Option<u64> {
        self.trusted(rows).map(SizeClass::slow_us)
    }

    pub(crate) fn record(&mut self, rows: u32, compute_us: u64) {
        self.classes[class(rows)].record(rows, compute_us);
    }

    /// Takes down that a call of so many rows would be refused because of its class, and says
    /// whether it is: now and then one is run to see whether the class is right.
    pub(crate) fn refuses(&mut self, rows: u32) -> bool {
        let class = &mut self.classes[class(rows)];
        class.refusals += 1;
        let refused = class.refusals < REFUSALS_PER_TRIAL;
        if !refused {
            class.refusals = 0;
        }
        refused
    }

    /// The most rows for a batch, up to `most`: as long as more rows are known to pay, and one size
    /// beyond what is known.
    pub(crate) fn worthwhile(&self, most: u32) -> u32 {
        Self::SIZES[self.worthwhile_class(most).0].min(most)
    }

    /// The same for a batch that is about to run, which now and then may have the next size.
    pub(crate) fn worthwhile_now(&mut self, most: u32) -> u32 {
        let (worthwhile, is_known) = self.worthwhile_class(most);
        if !is_known {
            return Self::SIZES[worthwhile].min(most);
        }
        let caps = &mut self.classes[worthwhile + 1].caps;
        *caps += 1;
        let is_trial = *caps >= CAPS_PER_TRIAL;
        Self::SIZES[worthwhile + usize::from(is_trial)].min(most)
    }

    /// The class of what is worth a batch, and whether the next one is known not to be.
    fn worthwhile_class(&self, most: u32) -> (usize, bool) {
        let known = |class: usize| self.classes[class].runs >= KNOWN_RUNS;
        let Some(mut best) = (0..=class(most)).find(|class| known(*class)) else {
            return (0, false);
        };
        for larger in best + 1..=class(most) {
            if !known(larger) {
                return (larger, false);
            }
            let [row_ns, best_ns] = [larger, best].map(|class| self.classes[class].row_ns());
            if u128::from(row_ns) * WORTH > u128::from(best_ns) * (WORTH - 1) {
                return (best, true);
            }
            best = larger;
        }
        (best, false)
    }

    /// What a slow batch of so many rows takes, as far as anything is known of that.
    pub(crate) fn known_slow_us(&self, rows: u32) -> Option<u64> {
        Some(&self.classes[class(rows)])
            .filter(|class| class.runs >= KNOWN_RUNS)
            .map(SizeClass::slow_us)
    }

    /// The most rows, up to `rows`, that even a slow batch has done within this time, as far as
    /// anything is known of that; one where none are.
    pub(crate) fn rows_within(&self, rows: u32, time_us: u64) -> u32 {
        let fits = |rows: u32| self.known_slow_us(rows).is_none_or(|slow_us| slow_us <= time_us);
        if fits(rows) {
            return rows;
        }
        let smaller = (0..class(rows)).rev().map(|class| Self::SIZES[class]);
        smaller.into_iter().find(|rows| fits(*rows)).unwrap_or(1)
    }

    fn trusted(&self, rows: u32) -> Option<&SizeClass> {
        Some(&self.classes[class(rows)]).filter(|class| class.runs >= TRUSTED_RUNS)
    }
}

impl SizeClass {
    fn mean_us(&self) -> u64 {
        self.scaled_mean_us / MEAN_WEIGHT
    }

    fn slow_us(&self) -> u64 {
        self.mean_us().saturating_add(self.deviation_us().saturating_mul(2))
    }

    /// What one row takes of a batch of this class, on average.
    fn row_ns(&self) -> u64 {
        self.scaled_row_ns / MEAN_WEIGHT
    }

    fn deviation_us(&self) -> u64 {
        self.scaled_deviation_us / DEVIATION_WEIGHT
    }

    fn record(&mut self, rows: u32, compute_us: u64) {
        (self.refusals, self.caps) = (0, 0);
        let row_ns = compute_us.saturating_mul(1_000) / u64::from(rows.max(1));
        if self.runs == 0 {
            self.scaled_mean_us = compute_us.saturating_mul(MEAN_WEIGHT);
            self.scaled_row_ns = row_ns.saturating_mul(MEAN_WEIGHT);
            self.scaled_deviation_us = (compute_us / 2).saturating_mul(DEVIATION_WEIGHT);
            self.fastest_us = compute_us;
        } else {
            self.fastest_us = self.fastest_us.min(compute_us);
            let off_us = self.mean_us().abs_diff(compute_us);
            self.scaled_deviation_us -= self.deviation_us();
            self.scaled_deviation_us = self.scaled_deviation_us.saturating_add(off_us);
            self.scaled_mean_us -= self.mean_us();
            self.scaled_mean_us = self.scaled_mean_us.saturating_add(compute_us);
            self.scaled_row_ns -= self.row_ns();
            self.scaled_row_ns = self.scaled_row_ns.saturating_add(row_ns);
        }
        self.runs = self.runs.saturating_add(1);
    }

    fn measured(&self, class: usize) -> Option<Measured> {
        (self.runs > 0).then(|| Measured {
            rows: LatencyProfile::SIZES[class],
            runs: self.runs,
            mean_us: self.mean_us(),
            deviation_us: self.deviation_us(),
        })
    }
}

fn class(rows: u32) -> usize {
    let above = rows.max(1) - 1;
    (u32::BITS - above.leading_zeros()) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_us(profile: &LatencyProfile, rows: u32) -> Option<u64> {
        profile.measured(rows).map(|measured| measured.mean_us)
    }

    #[test]
    fn sizes_share_a_class_up_to_the_next_power_of_two() {
        let cases = [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (64, 6), (65, 7)];
        for (rows, expected) in cases {
            assert_eq!(class(rows), expected, "{rows} rows");
        }
        assert_eq!(class(u32::MAX), CLASSES - 1);
        for (expected, rows) in LatencyProfile::SIZES.into_iter().enumerate() {
            assert_eq!(class(rows), expected, "{rows} rows");
        }
    }

    #[test]
    fn the_average_starts_at_the_first_measurement_and_follows_later_ones() {
        let mut profile = LatencyProfile::default();
        assert_eq!(profile.measured(4), None);
        profile.record(4, 100);
        assert_eq!(mean_us(&profile, 3), Some(100));
        assert_eq!(mean_us(&profile, 1), None);
        profile.record(4, 180);
        assert_eq!(mean_us(&profile, 4), Some(110));
        for _ in 0..200 {
            profile.record(4, 183);
        }
        assert!(mean_us(&profile, 4).is_some_and(|average| (182..=183).contains(&average)));
    }

    #[test]
    fn more_rows_are_worth_a_batch_while_they_make_a_row_cheaper() {
        let mut profile = LatencyProfile::default();
        let worth = |profile: &LatencyProfile| [1, 8, 64].map(|most| profile.worthwhile(most));
        assert_eq!(worth(&profile), [1, 1, 1], "one after another");
        for (rows, us, expected) in
            [(1, 1_000, 2), (2, 1_200, 4), (3, 1_500, 8), (7, 3_500, 4), (5, 2_500, 4)]
        {
            (0..KNOWN_RUNS).for_each(|_| profile.record(rows, us));
            assert_eq!(worth(&profile), [1, expected, expected], "{rows} rows");
        }
        // A row of 7 costs as much as one of 3: kept from that size, but for one in so many.
        let sizes: Vec<_> = (0..2 * CAPS_PER_TRIAL).map(|_| profile.worthwhile_now(64)).collect();
        assert_eq!(sizes[..63], [4; 63]);
        assert_eq!(sizes[63..], [8; 65], "until one has run");
        profile.record(8, 4_000);
        assert_eq!(profile.worthwhile_now(64), 4);
        for _ in 0..64 {
            profile.record(8, 2_200);
        }
        assert_eq!(worth(&profile), [1, 8, 16], "it pays by now");
    }

    #[test]
    fn a_batch_has_the_rows_that_are_done_in_time() {
        let mut profile = LatencyProfile::default();
        for (rows, us) in [(1, 100), (2, 200), (4, 400), (8, 800)] {
            (0..64).for_each(|_| profile.record(rows, us));
        }
        for (rows, time_us, expected) in [
            (8, 1_000, 8),
            (8, 500, 4),
            (7, 250, 2),
            (8, 150, 1),
            (8, 50, 1),
            (1, 50, 1),
            (16, 1, 16),
        ] {
            assert_eq!(profile.rows_within(rows, time_us), expected, "{rows} in {time_us} µs");
        }
    }

    #[test]
    fn steady_runs_are_known_closely_and_unsteady_ones_are_not() {
        let (mut steady, mut unsteady) = (LatencyProfile::default(), LatencyProfile::default());
        for run in 0..64 {
            steady.record(8, 1_000);
            unsteady.record(8, if run % 2 == 0 { 500 } else { 1_500 });
        }
        let bounds = |profile: &LatencyProfile| (profile.quick_us(8), profile.slow_us(8));
        assert_eq!(bounds(&steady), (Some(1_000), Some(1_000)));
        let (quick, slow) = bounds(&unsteady);
        assert!(quick.is_some_and(|quick| quick < 500), "{quick:?}");
        assert!(slow.is_some_and(|slow| slow > 1_500), "{slow:?}");
        assert_eq!(steady.usual_us(8), Some(1_000));
        assert_eq!((steady.fastest_us(8), unsteady.fastest_us(8)), (Some(1_000), Some(500)));
    }

    #[test]
    fn a_class_is_relied_upon_only_after_several_runs() {
        let mut profile = LatencyProfile::default();
        for _ in 1..TRUSTED_RUNS {
            profile.record(1, 100);
            assert_eq!((profile.quick_us(1), profile.usual_us(1)), (None, None));
        }
        profile.record(1, 100);
        assert_eq!(profile.usual_us(1), Some(100));
        assert_eq!(profile.usual_us(2), None, "another class");
        let all: Vec<_> = profile.all().collect();
        assert_eq!((all.len(), all[0].rows, all[0].runs), (1, 1, TRUSTED_RUNS));
    }

    #[test]
    fn one_of_many_refusals_is_a_trial_unless_there_was_a_run() {
        let mut profile = LatencyProfile::default();
        let refused = |profile: &mut LatencyProfile| profile.refuses(1);
        for _ in 0..3 {
            let row: Vec<_> = (0..REFUSALS_PER_TRIAL).map(|_| refused(&mut profile)).collect();
            assert!(row[..row.len() - 1].iter().all(|refused| *refused) && !row[row.len() - 1]);
        }
        for _ in 0..REFUSALS_PER_TRIAL - 1 {
            assert!(refused(&mut profile));
        }
        profile.record(1, 100);
        assert!(refused(&mut profile), "counted anew after a run");
    }

    #[test]
    fn absurd_measurements_do_not_overflow() {
        let mut profile = LatencyProfile::default();
        for compute_us in [u64::MAX, 0, u64::MAX, u64::MAX] {
            profile.record(u32::MAX, compute_us);
        }
        assert_eq!(profile.all().map(|measured| measured.rows).collect::<Vec<_>>(), [u32::MAX]);
    }
}
