//! What one function may use up: the limits of a manifest, the operator's defaults and ceilings
//! for them, and the limit that a request ran into.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ByteSize, GpuGrant, Period};

/// A quantity that can be limited.
trait Quantity: Copy + PartialOrd + fmt::Display {
    /// What would let nothing run.
    const ZERO: Self;
}

impl Quantity for ByteSize {
    const ZERO: Self = Self(0);
}

impl Quantity for Period {
    const ZERO: Self = Self::from_millis(0);
}

impl Quantity for u32 {
    const ZERO: Self = 0;
}

/// One limit, for whoever prints or documents it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Described {
    /// Its key in a manifest's `[limits]`.
    pub name: &'static str,
    /// What it limits.
    pub meaning: &'static str,
    /// Its value.
    pub value: LimitValue,
}

/// The value of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitValue {
    /// Bytes.
    Size(ByteSize),
    /// A length of time.
    Time(Period),
    /// A number of things.
    Count(u32),
}

impl From<ByteSize> for LimitValue {
    fn from(size: ByteSize) -> Self {
        Self::Size(size)
    }
}

impl From<Period> for LimitValue {
    fn from(time: Period) -> Self {
        Self::Time(time)
    }
}

impl From<u32> for LimitValue {
    fn from(count: u32) -> Self {
        Self::Count(count)
    }
}

/// Makes the limits and everything that concerns each of them from one list.
macro_rules! limits {
    ($($(#[doc = $doc:literal])* $name:ident: $type:ty = $default:expr, at most $ceiling:expr;)*) => {
        /// What one function may use up. Every field has a default and a ceiling.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct Limits {
            $($(#[doc = $doc])* pub $name: $type,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Limits {
            /// What no configuration can exceed: the pool that instances come from is made for it.
            pub const CEILING: Self = Self { $($name: $ceiling,)* };

            /// Each limit's name, meaning and value, in order.
            pub fn described(&self) -> Vec<Described> {
                vec![$(Described {
                    name: stringify!($name),
                    meaning: concat!($($doc),*).trim(),
                    value: self.$name.into(),
                },)*]
            }

            /// These limits, unless one is zero or above its ceiling; the error names it.
            pub fn within(self, ceiling: &Self) -> Result<Self, String> {
                $(check(stringify!($name), self.$name, ceiling.$name)?;)*
                Ok(self)
            }

            /// These limits, each lowered to its ceiling.
            pub fn capped(self, ceiling: &Self) -> Self {
                Self { $($name: if self.$name > ceiling.$name { ceiling.$name } else { self.$name },)* }
            }
        }

        /// Limits of which some are not given.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct PartialLimits {
            $($(#[doc = $doc])* pub $name: Option<$type>,)*
        }

        impl PartialLimits {
            /// The first limit that is given and above its ceiling, with both values.
            pub fn above(&self, ceiling: &Limits) -> Option<(&'static str, LimitValue, LimitValue)> {
                $(if let Some(value) = self.$name && value > ceiling.$name {
                    return Some((stringify!($name), value.into(), ceiling.$name.into()));
                })*
                None
            }

            /// The first limit that is given as zero.
            pub fn zero(&self) -> Option<&'static str> {
                $(if self.$name.is_some_and(|value| value <= Quantity::ZERO) {
                    return Some(stringify!($name));
                })*
                None
            }

            /// These limits, with those of `defaults` where none is given.
            pub fn or(self, defaults: &Limits) -> Limits {
                Limits { $($name: self.$name.unwrap_or(defaults.$name),)* }
            }
        }
    };
}

limits! {
    /// Linear memory of one instance, all its memories together.
    memory: ByteSize = ByteSize::mib(64), at most ByteSize::mib(1024);
    /// Elements of one instance's tables together.
    tables: u32 = 100_000, at most 1_000_000;
    /// Core instances that one component may consist of.
    instances: u32 = 100, at most 200;
    /// Handles that one instance can hold at the same time: bodies, streams, calls, ….
    handles: u32 = 2_048, at most 65_536;
    /// Guest processor time per request.
    cpu: Period = Period::from_millis(1_000), at most Period::from_millis(600_000);
    /// Wall time per request, from admission to the last byte of the response.
    timeout: Period = Period::from_millis(30_000), at most Period::from_millis(3_600_000);
    /// Bytes of one request body.
    request: ByteSize = ByteSize::mib(16), at most ByteSize::mib(1024);
    /// Bytes of one response body.
    response: ByteSize = ByteSize::mib(64), at most ByteSize::mib(4096);
    /// Bytes that the guest can pass to the host in one call.
    host_call: ByteSize = ByteSize::mib(64), at most ByteSize::mib(1024);
    /// Bytes that are kept of what one request prints and logs.
    log: ByteSize = ByteSize(64 << 10), at most ByteSize::mib(16);
    /// Requests that run at the same time; more are refused.
    concurrency: u32 = 256, at most 500;
    /// Outbound requests that the function has under way at the same time.
    connections: u32 = 16, at most 1_024;
    /// Bytes that one request sends and receives in its outbound requests together.
    outbound: ByteSize = ByteSize::mib(64), at most ByteSize::mib(4096);
}

fn check<Q: Quantity>(name: &str, value: Q, ceiling: Q) -> Result<(), String> {
    if value <= Q::ZERO {
        return Err(format!("limits.{name} is zero: nothing could run"));
    }
    if value > ceiling {
        return Err(format!("limits.{name} is above this server's ceiling of {ceiling}"));
    }
    Ok(())
}

/// An operator's word on limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitRules {
    /// For manifests that don't say.
    pub defaults: Limits,
    /// What manifests can't exceed.
    pub ceilings: Limits,
    /// The same for the memory of a device that they ask for.
    pub gpu_memory: ByteSize,
}

impl Default for LimitRules {
    fn default() -> Self {
        let (defaults, ceilings) = (Limits::default(), Limits::CEILING);
        Self { defaults, ceilings, gpu_memory: GpuGrant::CEILING }
    }
}

/// A limit that a request ran into and that ended it, with the limit's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// Of linear memory.
    Memory(ByteSize),
    /// Of table elements.
    Tables(u32),
    /// Of core instances.
    Instances(u32),
    /// Of handles.
    Handles(u32),
    /// Of processor time.
    Cpu(Period),
    /// Of wall time.
    Timeout(Period),
    /// Of the request's body.
    Request(ByteSize),
    /// Of the response's body.
    Response(ByteSize),
    /// Of what one host call takes.
    HostCall(ByteSize),
}

impl Exceeded {
    /// The limit as the manifest names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
            Self::Tables(_) => "tables",
            Self::Instances(_) => "instances",
            Self::Handles(_) => "handles",
            Self::Cpu(_) => "cpu",
            Self::Timeout(_) => "timeout",
            Self::Request(_) => "request",
            Self::Response(_) => "response",
            Self::HostCall(_) => "host_call",
        }
    }

    /// The limit's value as a manifest would have it.
    pub fn value(self) -> String {
        match self {
            Self::Memory(size)
            | Self::Request(size)
            | Self::Response(size)
            | Self::HostCall(size) => size.to_string(),
            Self::Tables(count) | Self::Instances(count) | Self::Handles(count) => {
                count.to_string()
            }
            Self::Cpu(period) | Self::Timeout(period) => period.to_string(),
        }
    }
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::Memory(_) => "needs more memory than",
            Self::Tables(_) => "needs more table elements than",
            Self::Instances(_) => "consists of more core instances than",
            Self::Handles(_) => "holds more handles than",
            Self::Cpu(_) => "used more processor time than",
            Self::Timeout(_) => "ran longer than",
            Self::Request(_) => "got a request body larger than",
            Self::Response(_) => "gave a response body larger than",
            Self::HostCall(_) => "passed more bytes in one host call than",
        };
        write!(f, "function {what} its limits.{} of {}", self.name(), self.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_named_when_they_break_the_ceiling() {
        let ceiling = &Limits::CEILING;
        assert_eq!(Limits::default().within(ceiling), Ok(Limits::default()));
        assert_eq!(Limits::CEILING.within(ceiling), Ok(Limits::CEILING));
        let limits = Limits { memory: ByteSize::mib(4096), ..Limits::default() };
        assert_eq!(
            limits.within(ceiling).expect_err("above the ceiling"),
            "limits.memory is above this server's ceiling of 1.0 GiB"
        );
        let limits = Limits { concurrency: 0, ..Limits::default() };
        assert!(limits.within(ceiling).expect_err("zero").contains("limits.concurrency"));
        let lower = Limits { cpu: Period::from_millis(10), ..Limits::CEILING };
        assert_eq!(Limits::default().capped(&lower).cpu, lower.cpu);
        assert_eq!(Limits::default().capped(&lower).memory, Limits::default().memory);
    }

    #[test]
    fn what_is_not_given_is_the_operators_default() {
        let defaults = Limits { cpu: Period::from_millis(7), ..Limits::default() };
        let given = PartialLimits { memory: Some(ByteSize::mib(1)), ..PartialLimits::default() };
        let expected = Limits { memory: ByteSize::mib(1), ..defaults };
        assert_eq!(given.or(&defaults), expected);
    }

    #[test]
    fn an_exceeded_limit_is_named_with_its_value() {
        assert_eq!(
            Exceeded::Memory(ByteSize::mib(1)).to_string(),
            "function needs more memory than its limits.memory of 1.0 MiB"
        );
        assert_eq!(
            Exceeded::Cpu(Period::from_millis(100)).to_string(),
            "function used more processor time than its limits.cpu of 100ms"
        );
    }
}
