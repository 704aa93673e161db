//! How urgent a call is among others of its model; never how long it may take, which its deadline
//! says.

/// A level of urgency: 1 is the most urgent. Calls of one level never wait for those of a less
/// urgent one, but for what the scheduler keeps aside so that no level starves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// How many levels there are.
    pub const LEVELS: u8 = 7;
    /// The most urgent level.
    pub const HIGHEST: Self = Self(1);
    /// The least urgent level.
    pub const LOWEST: Self = Self(Self::LEVELS);

    /// The level that the parameter `priority` of the Open Inference Protocol's extensions asks
    /// for: 0 is the default, 1 the most urgent; what is beyond the last level is the last one.
    pub fn from_parameter(value: u64) -> Self {
        match u8::try_from(value) {
            Ok(0) => Self::default(),
            Ok(level) if level < Self::LEVELS => Self(level),
            _ => Self::LOWEST,
        }
    }

    /// 1 to [`Priority::LEVELS`].
    pub fn level(self) -> u8 {
        self.0
    }
}

/// The level in the middle, so that callers can ask for more and for less.
impl Default for Priority {
    fn default() -> Self {
        Self(Self::LEVELS / 2 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_become_levels() {
        let cases = [(0, 4), (1, 1), (2, 2), (4, 4), (6, 6), (7, 7), (8, 7), (256, 7), (257, 7)];
        for (parameter, level) in cases {
            assert_eq!(Priority::from_parameter(parameter).level(), level, "{parameter}");
        }
        assert_eq!(Priority::from_parameter(u64::MAX), Priority::LOWEST);
        assert_eq!(Priority::from_parameter(1), Priority::HIGHEST);
        assert!(Priority::HIGHEST < Priority::default() && Priority::default() < Priority::LOWEST);
    }
}
