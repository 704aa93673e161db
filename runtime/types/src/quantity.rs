//! Quantities of a manifest: bytes as `"64MiB"`, time as `"500ms"`.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A number of bytes; in text `"64MiB"`, `"2GB"`, `"512"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// So many mebibytes.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bytesize::ByteSize(self.0).display().iec().fmt(f)
    }
}

impl ByteSize {
    /// The size in the largest unit that has no fraction, such as `"64MiB"`; it parses to the same.
    pub fn exact(self) -> String {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        let whole = |shift: u32| self.0 != 0 && self.0.trailing_zeros() >= shift;
        match units.into_iter().find(|(shift, _)| whole(*shift)) {
            Some((shift, unit)) => format!("{}{unit}", self.0 >> shift),
            None => format!("{}B", self.0),
        }
    }
}

impl std::str::FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed: Result<bytesize::ByteSize, _> = text.parse();
        parsed.map(|size| Self(size.as_u64())).map_err(|_| {
            format!("{text:?} is not a size: write bytes with a unit, such as \"64MiB\"")
        })
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The display form rounds; what is stored must come back exactly.
        serializer.collect_str(&format_args!("{}B", self.0))
    }
}

/// A length of time; in text `"500ms"`, `"2s"`, `"1m 30s"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(pub Duration);

impl Period {
    /// So many milliseconds.
    pub const fn from_millis(count: u64) -> Self {
        Self(Duration::from_millis(count))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl std::str::FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text).map(Self).map_err(|_| {
            format!("{text:?} is not a time: write a number with a unit, such as \"500ms\"")
        })
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_survive_their_text() {
        let size = ByteSize(64 * 1024 * 1024 + 1);
        assert_eq!(serde_json::to_string(&size).expect("serialises"), "\"67108865B\"");
        assert_eq!("67108865B".parse(), Ok(size));
        assert_eq!("64MiB".parse(), Ok(ByteSize::mib(64)));
        for (size, text) in [
            (0, "0B"),
            (1, "1B"),
            (1 << 10, "1KiB"),
            (1_025, "1025B"),
            (64 << 20, "64MiB"),
            (4 << 30, "4GiB"),
            (u64::MAX, "18446744073709551615B"),
        ] {
            assert_eq!(ByteSize(size).exact(), text);
            assert_eq!(text.parse(), Ok(ByteSize(size)));
        }
        assert_eq!("1m 30s".parse(), Ok(Period(Duration::from_secs(90))));
        for bad in ["", "-1s", "5 parsecs", "NaN"] {
            assert!(bad.parse::<Period>().is_err(), "{bad}");
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }
}
