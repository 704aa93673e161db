//! Notices when the clock on the wall was set, beside one that nobody sets. Reads neither: whoever looks
//! has the clocks.

use std::time::{Duration, Instant, SystemTime};

/// Compares the two clocks from one look to the next.
#[derive(Debug, Clone, Copy)]
pub struct ClockWatch {
    wall: SystemTime,
    steady: Instant,
}

/// How far the clock on the wall was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockJump {
    /// Forward, or the machine was asleep.
    Forward(Duration),
    /// Back.
    Back(Duration),
}

/// Keeps what has expired for a while after the clock was set forward, while this process ran or before:
/// that may have been a mistake, and what is removed is gone.
#[derive(Debug, Clone, Copy)]
pub struct Hesitation {
    watch: ClockWatch,
    until: Option<Instant>,
}

impl ClockWatch {
    /// The least that counts. Less is a clock that is put right little by little, or a process that
    /// had to wait between reading one clock and the other.
    pub const LEAST: Duration = Duration::from_secs(30);

    /// Begins to compare.
    pub fn new(wall: SystemTime, steady: Instant) -> Self {
        Self { wall, steady }
    }

    /// How far the clock was set since the last look, if it was.
    pub fn look(&mut self, wall: SystemTime, steady: Instant) -> Option<ClockJump> {
        let passed = steady.saturating_duration_since(self.steady);
        let expected = self.wall.checked_add(passed).unwrap_or(wall);
        *self = Self { wall, steady };
        let jump = match wall.duration_since(expected) {
            Ok(ahead) => ClockJump::Forward(ahead),
            Err(behind) => ClockJump::Back(behind.duration()),
        };
        let (ClockJump::Forward(by) | ClockJump::Back(by)) = jump;
        (by >= Self::LEAST).then_some(jump)
    }
}

impl Hesitation {
    /// How long nothing is to be removed.
    pub const SPAN: Duration = Duration::from_secs(600);

    /// Begins to look, at a start. `last` is the last time before it that anything is known of: a clock
    /// that is far ahead of it was set forward since, or nothing has happened for long, which looks the
    /// same and harms nothing.
    pub fn new(wall: SystemTime, steady: Instant, last: Option<SystemTime>) -> Self {
        let ahead = last.and_then(|last| wall.duration_since(last).ok());
        let until = ahead.filter(|ahead| *ahead >= Self::SPAN).map(|_| steady + Self::SPAN);
        Self { watch: ClockWatch::new(wall, steady), until }
    }

    /// Whether nothing may be removed at this moment.
    pub fn holds(&mut self, wall: SystemTime, steady: Instant) -> bool {
        if let Some(ClockJump::Forward(_)) = self.watch.look(wall, steady) {
            self.until = Some(steady + Self::SPAN);
        }
        self.until.is_some_and(|until| steady < until)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn only_what_nobody_waited_for_is_a_jump() {
        const HOUR: Duration = Duration::from_secs(3_600);
        let (start, begin) = (UNIX_EPOCH + 400_000 * HOUR, Instant::now());
        let mut watch = ClockWatch::new(start, begin);
        let mut look = |wall_s: u64, steady_s: u64| {
            watch.look(start + Duration::from_secs(wall_s), begin + Duration::from_secs(steady_s))
        };
        assert_eq!(look(5, 5), None);
        assert_eq!(look(7_205, 7_205), None, "a long while is no jump");
        assert_eq!(look(7_240, 7_211), None, "29 s are put right");
        assert_eq!(look(10_845, 7_216), Some(ClockJump::Forward(HOUR)));
        assert_eq!(look(10_850, 7_221), None, "it is told once");
        assert_eq!(look(7_255, 7_226), Some(ClockJump::Back(HOUR)));
        assert_eq!(look(7_285, 7_226), Some(ClockJump::Forward(ClockWatch::LEAST)));
        assert_eq!(look(7_285, 7_256), Some(ClockJump::Back(ClockWatch::LEAST)));
    }

    #[test]
    fn what_has_expired_stays_for_a_while_after_a_jump_forward() {
        let (start, begin) = (UNIX_EPOCH, Instant::now());
        let mut hesitation = Hesitation::new(start, begin, None);
        let mut holds = |wall_s: u64, steady_s: u64| {
            hesitation
                .holds(start + Duration::from_secs(wall_s), begin + Duration::from_secs(steady_s))
        };
        assert!(!holds(5, 5));
        assert!(holds(3_610, 10) && holds(4_209, 609), "for ten minutes");
        assert!(!holds(4_210, 610));
        assert!(!holds(615, 615), "back harms nothing");
    }

    #[test]
    fn what_has_expired_stays_for_a_while_after_a_start_long_after_all_that_is_known() {
        let (start, begin) = (UNIX_EPOCH + Hesitation::SPAN * 1_000, Instant::now());
        let second = Duration::from_secs(1);
        for (last, expected) in [
            (None, false),
            (Some(start + Hesitation::SPAN), false),
            (Some(start - Hesitation::SPAN + second), false),
            (Some(start - Hesitation::SPAN), true),
            (Some(UNIX_EPOCH), true),
        ] {
            let mut hesitation = Hesitation::new(start, begin, last);
            let mut holds = |after| hesitation.holds(start + after, begin + after);
            assert_eq!((holds(second), holds(Hesitation::SPAN)), (expected, false), "{last:?}");
        }
    }
}
