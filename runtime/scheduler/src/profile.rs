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
    /// Calls refused because of this class since its last run.
    refusals: u32,
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
        let class = self.trusted(rows)?;
        Some(class.mean_us().saturating_add(class.deviation_us().saturating_mul(2)))
    }

    pub(crate) fn record(&mut self, rows: u32, compute_us: u64) {
        self.classes[class(rows)].record(compute_us);
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

    fn trusted(&self, rows: u32) -> Option<&SizeClass> {
        Some(&self.classes[class(rows)]).filter(|class| class.runs >= TRUSTED_RUNS)
    }
}

impl SizeClass {
    fn mean_us(&self) -> u64 {
        self.scaled_mean_us / MEAN_WEIGHT
    }

    fn deviation_us(&self) -> u64 {
        self.scaled_deviation_us / DEVIATION_WEIGHT
    }

    fn record(&mut self, compute_us: u64) {
        self.refusals = 0;
        if self.runs == 0 {
            self.scaled_mean_us = compute_us.saturating_mul(MEAN_WEIGHT);
            self.scaled_deviation_us = (compute_us / 2).saturating_mul(DEVIATION_WEIGHT);
            self.fastest_us = compute_us;
        } else {
            self.fastest_us = self.fastest_us.min(compute_us);
            let off_us = self.mean_us().abs_diff(compute_us);
            self.scaled_deviation_us -= self.deviation_us();
            self.scaled_deviation_us = self.scaled_deviation_us.saturating_add(off_us);
            self.scaled_mean_us -= self.mean_us();
            self.scaled_mean_us = self.scaled_mean_us.saturating_add(compute_us);
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
