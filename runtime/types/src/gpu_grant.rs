//! The grant of a device: how much of its memory and time a function may have. Which device it is,
//! and whether there is room, is not decided here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ByteSize, DeviceKind};

/// What one request of a function may have of a device; in a manifest
/// `gpu = { memory = "256MiB", share = 0.5, device = "cuda" }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GpuGrant {
    /// Memory of all its tensors.
    pub memory: ByteSize,
    /// How it counts where the functions that compute on a device take turns.
    #[serde(default)]
    pub share: DeviceShare,
    /// The kind of device that it needs; none: whichever has room, GPUs first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceKind>,
}

impl GpuGrant {
    /// What no grant's memory can exceed, unless the operator says otherwise.
    pub const CEILING: ByteSize = ByteSize::mib(1024);

    /// This, unless its memory is zero or above its ceiling.
    pub fn within(self, ceiling: ByteSize) -> Result<Self, String> {
        if self.memory.0 == 0 {
            return Err("grants.gpu.memory is zero: no tensor would fit".into());
        }
        if self.memory > ceiling {
            return Err(format!("grants.gpu.memory is above this server's ceiling of {ceiling}"));
        }
        Ok(self)
    }
}

/// A part of a device's time, in thousandths; in text a number above 0 and up to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct DeviceShare(u16);

impl DeviceShare {
    /// In thousandths.
    pub fn milli(self) -> u32 {
        self.0.into()
    }
}

impl Default for DeviceShare {
    /// All of it.
    fn default() -> Self {
        Self(1_000)
    }
}

impl TryFrom<f64> for DeviceShare {
    type Error = String;

    fn try_from(share: f64) -> Result<Self, String> {
        let milli = (share * 1_000.0).round();
        if (1.0..=1_000.0).contains(&milli) {
            // Exact: it is a whole number in this range.
            return Ok(Self(milli as u16));
        }
        Err(format!("{share} is no share of a device: write a number from 0.001 to 1"))
    }
}

impl From<DeviceShare> for f64 {
    fn from(share: DeviceShare) -> Self {
        Self::from(share.0) / 1_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_survive_their_text() {
        for milli in [1, 333, 500, 1_000] {
            let json = serde_json::to_string(&DeviceShare(milli)).expect("serialises");
            assert_eq!(serde_json::from_str::<DeviceShare>(&json).expect(&json).0, milli);
        }
        assert_eq!(serde_json::from_str::<DeviceShare>("1").expect("whole").milli(), 1_000);
        for bad in ["0", "0.0001", "1.001", "-1", "1e300", "\"half\""] {
            assert!(serde_json::from_str::<DeviceShare>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_kind_of_device_may_be_named() {
        let parse = |text: &str| serde_json::from_str::<GpuGrant>(text);
        let grant = parse(r#"{"memory": "1MiB", "device": "cuda"}"#).expect("a grant");
        assert_eq!(grant.device, Some(DeviceKind::Cuda));
        let grant = parse(r#"{"memory": "1MiB"}"#).expect("a grant");
        let text = serde_json::to_string(&grant).expect("serialises");
        assert!(!text.contains("device"), "{text}: what was stored before stays as it was");
        assert!(parse(r#"{"memory": "1MiB", "device": "tpu"}"#).is_err());
    }

    #[test]
    fn a_grant_keeps_to_the_ceiling() {
        let grant = |mib| {
            let (memory, share) = (ByteSize::mib(mib), DeviceShare::default());
            GpuGrant { memory, share, device: None }
        };
        let within = |mib| grant(mib).within(ByteSize::mib(4));
        assert_eq!(within(4), Ok(grant(4)));
        let refused = "grants.gpu.memory is above this server's ceiling of 4.0 MiB";
        assert_eq!(within(5), Err(refused.into()));
        assert_eq!(within(0), Err("grants.gpu.memory is zero: no tensor would fit".into()));
    }
}
