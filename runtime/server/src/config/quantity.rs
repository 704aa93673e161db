//! The values of options: each knows its bounds, and how it is written in TOML.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use ipnet::IpNet;
use quern_gateway::KeyPrefix;
use quern_types::{ByteSize, LimitValue, Period};
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::logging::LogFilter;

/// A day, in milliseconds.
pub(crate) const DAY: u64 = 24 * 60 * 60 * 1_000;
/// A tebibyte, in bytes.
pub(crate) const TIB: u64 = 1 << 40;

/// How a value stands in TOML; none where it is not set.
pub(crate) trait Written {
    fn written(&self) -> Option<String>;
}

/// Makes a quantity with bounds; a value beyond them is refused with a message that names them.
macro_rules! bounded {
    ($(#[doc = $doc:literal])* $name:ident($inner:ty), bounds of $bound:ty, $make:expr) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) struct $name<const LEAST: $bound, const MOST: $bound>(pub(crate) $inner);

        impl<const LEAST: $bound, const MOST: $bound> $name<LEAST, MOST> {
            fn checked(value: $inner) -> Result<Self, String> {
                let (least, most): ($inner, $inner) = ($make(LEAST), $make(MOST));
                if value < least || value > most {
                    let [value, least, most] =
                        [value, least, most].map(|value| value.written().unwrap_or_default());
                    return Err(format!("{value} is out of bounds: write {least} to {most}"));
                }
                Ok(Self(value))
            }
        }

        impl<const LEAST: $bound, const MOST: $bound> FromStr for $name<LEAST, MOST> {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                Self::checked(text.parse().map_err(|error| format!("{error}"))?)
            }
        }

        impl<'de, const LEAST: $bound, const MOST: $bound> Deserialize<'de> for $name<LEAST, MOST> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::checked(Deserialize::deserialize(deserializer)?).map_err(D::Error::custom)
            }
        }

        impl<const LEAST: $bound, const MOST: $bound> Written for $name<LEAST, MOST> {
            fn written(&self) -> Option<String> {
                self.0.written()
            }
        }
    };
}

bounded! {
    /// A number of things.
    Count(u32), bounds of u32, std::convert::identity
}
bounded! {
    /// A number of bytes; its bounds are in bytes.
    Size(ByteSize), bounds of u64, ByteSize
}
bounded! {
    /// A length of time; its bounds are in milliseconds.
    Time(Period), bounds of u64, Period::from_millis
}

/// A network of addresses, as `10.1.0.0/16` or `fd00::/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network(pub(crate) IpNet);

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let network = text.parse().map_err(|_| {
            let example = "write an address and the length of its prefix, such as \"10.1.0.0/16\"";
            D::Error::custom(format!("{text:?} is not a network: {example}"))
        })?;
        Ok(Self(network))
    }
}

impl Written for Network {
    fn written(&self) -> Option<String> {
        self.0.to_string().written()
    }
}

impl<T: Written> Written for Vec<T> {
    fn written(&self) -> Option<String> {
        let items: Vec<_> = self.iter().filter_map(Written::written).collect();
        Some(format!("[{}]", items.join(", ")))
    }
}

impl Written for u32 {
    fn written(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Written for bool {
    fn written(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Written for str {
    fn written(&self) -> Option<String> {
        Some(toml::Value::from(self).to_string())
    }
}

impl Written for String {
    fn written(&self) -> Option<String> {
        self.as_str().written()
    }
}

impl Written for ByteSize {
    fn written(&self) -> Option<String> {
        self.exact().written()
    }
}

impl Written for Period {
    fn written(&self) -> Option<String> {
        self.to_string().written()
    }
}

impl Written for SocketAddr {
    fn written(&self) -> Option<String> {
        self.to_string().written()
    }
}

impl Written for PathBuf {
    fn written(&self) -> Option<String> {
        self.to_string_lossy().written()
    }
}

impl Written for LogFilter {
    fn written(&self) -> Option<String> {
        self.as_str().written()
    }
}

impl Written for KeyPrefix {
    fn written(&self) -> Option<String> {
        self.as_str().written()
    }
}

impl Written for LimitValue {
    fn written(&self) -> Option<String> {
        match self {
            Self::Size(size) => size.written(),
            Self::Time(time) => time.written(),
            Self::Count(count) => count.written(),
        }
    }
}

impl<T: Written> Written for Option<T> {
    fn written(&self) -> Option<String> {
        self.as_ref()?.written()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_bounds_are_refused_with_the_bounds() {
        let cases = [
            ("7".parse::<Count<1, 9>>().map(|count| count.0.to_string()), Ok("7".into())),
            (
                "0".parse::<Count<1, 9>>().map(|count| count.0.to_string()),
                Err("0 is out of bounds: write 1 to 9".into()),
            ),
            (
                "x".parse::<Count<1, 9>>().map(|count| count.0.to_string()),
                Err("invalid digit found in string".into()),
            ),
            (
                "1KiB".parse::<Size<8_192, 65_536>>().map(|size| size.0.exact()),
                Err("\"1KiB\" is out of bounds: write \"8KiB\" to \"64KiB\"".into()),
            ),
            (
                "25h".parse::<Time<0, DAY>>().map(|time| time.0.to_string()),
                Err("\"1day 1h\" is out of bounds: write \"0s\" to \"1day\"".into()),
            ),
        ];
        for (found, expected) in cases {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_is_written_is_toml() {
        assert_eq!(PathBuf::from("a \"b\"").written().as_deref(), Some("'a \"b\"'"));
        assert_eq!(ByteSize::mib(1).written().as_deref(), Some("\"1MiB\""));
        assert_eq!(Some(true).written().as_deref(), Some("true"));
        assert_eq!(None::<u32>.written(), None);
    }
}
