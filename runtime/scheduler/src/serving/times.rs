//! What batches of a model take by their rows.

/// Times of batches: measured sizes, straight lines in between.
#[derive(Debug, Clone, Default)]
pub(super) struct BatchTimes {
    points: Vec<(u32, u64)>,
}

impl BatchTimes {
    pub(super) fn new(points: &[(u32, u64)]) -> Self {
        Self { points: points.to_vec() }
    }

    /// What a batch of so many rows takes, in µs.
    pub(super) fn of(&self, rows: u32) -> u64 {
        let place = self.points.partition_point(|(size, _)| *size < rows);
        let Some((above, above_us)) = self.points.get(place).copied() else {
            let Some((most, us)) = self.points.last().copied() else { return 0 };
            return (us * u64::from(rows)).div_ceil(most.into());
        };
        let Some((below, below_us)) = place.checked_sub(1).map(|place| self.points[place]) else {
            return above_us;
        };
        below_us
            + ((above_us - below_us) * u64::from(rows - below)).div_ceil((above - below).into())
    }

    pub(super) fn row_ns(&self, rows: u32) -> u64 {
        self.of(rows) * 1_000 / u64::from(rows)
    }

    /// The most rows, up to `most`, whose batch is done within this time; none if one row is not.
    pub(super) fn rows_within(&self, most: u32, time_us: u64) -> u32 {
        let (mut fits, mut beyond) = (0, most.saturating_add(1));
        while beyond - fits > 1 {
            let middle = fits + (beyond - fits) / 2;
            if self.of(middle) <= time_us {
                fits = middle;
            } else {
                beyond = middle;
            }
        }
        fits
    }
}
