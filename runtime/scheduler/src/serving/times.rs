//! How long batches of a model take by their rows, as was measured.

use std::fmt;

/// How long a batch takes by its rows: measured at some sizes, straight lines in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchProfile {
    points: Vec<(u32, u64)>,
}

/// Why a profile can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProfileError {
    /// There is nothing in it.
    Empty,
    /// Sizes don't grow.
    Order {
        /// The size before.
        before: u32,
        /// The one that is not larger.
        rows: u32,
    },
    /// A larger batch takes less, or nothing at all.
    Faster {
        /// The larger size.
        rows: u32,
        /// What it takes.
        us: u64,
        /// What the size before takes.
        before_us: u64,
    },
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a profile needs at least one size: rows and µs"),
            Self::Order { before, rows } => write!(
                f,
                "the sizes of a profile have to grow, from 1: {rows} rows come after {before}"
            ),
            Self::Faster { rows, us, before_us } => {
                write!(f, "a batch of {rows} rows takes {us} µs, and one of fewer {before_us} µs")
            }
        }
    }
}

impl std::error::Error for ProfileError {}

impl BatchProfile {
    /// A profile of measured sizes: rows and µs, both growing.
    ///
    /// # Errors
    ///
    /// If there is none, or one takes less than a smaller one.
    pub fn new(points: Vec<(u32, u64)>) -> Result<Self, ProfileError> {
        if points.is_empty() {
            return Err(ProfileError::Empty);
        }
        let mut last = (0, 0);
        for (rows, us) in &points {
            if *rows <= last.0 {
                return Err(ProfileError::Order { before: last.0, rows: *rows });
            }
            if *us < last.1.max(1) {
                return Err(ProfileError::Faster { rows: *rows, us: *us, before_us: last.1 });
            }
            last = (*rows, *us);
        }
        Ok(Self { points })
    }

    /// One whose batches take `fixed_us`, and `row_us` for each row, up to so many rows.
    pub fn linear(fixed_us: u64, row_us: u64, most: u32) -> Self {
        let rows_us = |rows: u32| row_us.saturating_mul(rows.into());
        let at = |rows: u32| (rows, fixed_us.saturating_add(rows_us(rows)).max(1));
        let points = if most > 1 { vec![at(1), at(most)] } else { vec![at(1)] };
        Self { points }
    }

    /// What was measured.
    pub fn points(&self) -> &[(u32, u64)] {
        &self.points
    }

    /// What a batch of so many rows takes, in µs. Beyond the last size rows cost what they cost
    /// there on average; below the first, a batch takes as long as the first.
    pub fn latency_us(&self, rows: u32) -> u64 {
        let place = self.points.partition_point(|(size, _)| *size < rows);
        let Some((above, above_us)) = self.points.get(place).copied() else {
            let (most, us) = self.points[self.points.len() - 1];
            return scaled(us, rows.into(), most.into());
        };
        let Some((below, below_us)) = place.checked_sub(1).map(|place| self.points[place]) else {
            return above_us;
        };
        let part = scaled(above_us - below_us, (rows - below).into(), (above - below).into());
        below_us.saturating_add(part)
    }

    /// What a row costs in a batch of so many, in ns.
    pub(super) fn row_ns(&self, rows: u32) -> u64 {
        self.latency_us(rows).saturating_mul(1_000) / u64::from(rows.max(1))
    }

    /// The most rows, up to `most`, whose batch is done within this time; none if one row is not.
    pub fn rows_within(&self, most: u32, time_us: u64) -> u32 {
        let (mut fits, mut beyond) = (0, most.saturating_add(1));
        while beyond - fits > 1 {
            let middle = fits + (beyond - fits) / 2;
            if self.latency_us(middle) <= time_us {
                fits = middle;
            } else {
                beyond = middle;
            }
        }
        fits
    }
}

/// `value · part / whole`, rounded up.
fn scaled(value: u64, part: u64, whole: u64) -> u64 {
    let product = u128::from(value) * u128::from(part);
    u64::try_from(product.div_ceil(u128::from(whole.max(1)))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_between_two_measured_ones_lie_on_the_line_between_them() {
        let profile = BatchProfile::new(vec![(2, 100), (4, 200), (8, 240)]).expect("grows");
        let cases = [(1, 100), (2, 100), (3, 150), (4, 200), (6, 220), (8, 240), (16, 480)];
        for (rows, expected) in cases {
            assert_eq!(profile.latency_us(rows), expected, "{rows} rows");
        }
        for (time_us, expected) in [(99, 0), (100, 2), (149, 2), (150, 3), (240, 8), (9_999, 16)] {
            assert_eq!(profile.rows_within(16, time_us), expected, "{time_us} µs");
        }
    }

    #[test]
    fn a_profile_that_does_not_grow_is_refused() {
        let cases = [
            (vec![], ProfileError::Empty),
            (vec![(0, 1)], ProfileError::Order { before: 0, rows: 0 }),
            (vec![(2, 1), (2, 2)], ProfileError::Order { before: 2, rows: 2 }),
            (vec![(1, 0)], ProfileError::Faster { rows: 1, us: 0, before_us: 0 }),
            (vec![(1, 5), (2, 4)], ProfileError::Faster { rows: 2, us: 4, before_us: 5 }),
        ];
        for (points, expected) in cases {
            assert_eq!(BatchProfile::new(points), Err(expected));
        }
    }
}
