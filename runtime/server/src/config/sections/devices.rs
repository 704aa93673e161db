//! What functions may use of devices. Counts nothing.

use std::{io, num::NonZeroUsize};

use quern_dispatcher::KernelsConfig;
use quern_types::{ByteSize, Period};
use serde::Deserialize;

use super::{Count, DAY, OptionText, Section, Size, TIB, Time, Written};
use crate::machine;

section! {
    /// What functions may use of the devices for tensors of their own. So much is bounded; what it
    /// takes is taken as they ask for it.
    Devices in "devices" {
        /// Memory for the tensors of all functions together, on the CPU; functions that find none
        /// are refused. Not set: a quarter of the machine's or the container's memory, or 1 GiB
        /// where the system does not tell that.
        memory: Option<Size<1_048_576, TIB>> = None;
        /// Memory for those of one tenant, on each device. Not set: all of it.
        tenant_memory: Option<Size<65_536, TIB>> = None;
        /// Functions that have tensors on a device at a time; of one tenant as large a part of
        /// them as it may have of the memory.
        sessions: Count<1, 65_536> = Count(1_024);
        /// Operators of different functions that the CPU computes at the same time. Not set: the
        /// number of cores.
        lanes: Option<Count<1, 1_024>> = None;
        /// Threads that one operator may use, if it is large. Not set: the number of cores.
        threads: Option<Count<1, 1_024>> = None;
        /// Whether NVIDIA's GPUs are used: "auto" looks for them at the start, and uses each that it
        /// finds, in a process of its own; "off" does not look.
        cuda: Cuda = Cuda::Auto;
        /// Memory for the tensors of all functions together, on each GPU. Not set: nine tenths of
        /// what it has.
        cuda_memory: Option<Size<1_048_576, TIB>> = None;
        /// Operators of different functions that are sent to a GPU at the same time.
        cuda_lanes: Count<1, 64> = Count(4);
        /// How long a GPU may take without getting on. Then it is lost, with all that functions have
        /// there, and its process is started anew.
        cuda_timeout: Time<1_000, DAY> = Time(Period::from_millis(30_000));
    }
}

/// Whether NVIDIA's GPUs are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Cuda {
    Auto,
    Off,
}

impl Written for Cuda {
    fn written(&self) -> Option<String> {
        match self {
            Self::Auto => "auto".written(),
            Self::Off => "off".written(),
        }
    }
}

impl Devices {
    pub(crate) fn limits(&self) -> KernelsConfig {
        let usual = KernelsConfig::default();
        let quarter = || machine::memory().map_or(usual.memory, |memory| ByteSize(memory.0 / 4));
        let memory = self.memory.map_or_else(quarter, |size| size.0);
        KernelsConfig {
            memory,
            tenant_memory: self.tenant_memory.map(|size| size.0),
            sessions: usize::try_from(self.sessions.0).unwrap_or(usize::MAX),
        }
    }

    /// Memory for tensors of a GPU that has so much, some of which the driver needs.
    pub(crate) fn gpu_memory(&self, memory_bytes: u64) -> u64 {
        let most = memory_bytes - memory_bytes / 10;
        self.cuda_memory.map_or(most, |size| size.0.0.min(memory_bytes))
    }

    /// Lanes of a GPU.
    pub(crate) fn gpu_lanes(&self) -> NonZeroUsize {
        let lanes = usize::try_from(self.cuda_lanes.0).ok().and_then(NonZeroUsize::new);
        lanes.unwrap_or(NonZeroUsize::MIN)
    }

    /// Lanes and threads of the CPU: as given, or one for each core.
    pub(crate) fn cpu(&self) -> io::Result<(NonZeroUsize, NonZeroUsize)> {
        let cores = std::thread::available_parallelism()?;
        let given = |count: Option<Count<1, 1_024>>| {
            let count = count.and_then(|count| usize::try_from(count.0).ok());
            count.and_then(NonZeroUsize::new).unwrap_or(cores)
        };
        Ok((given(self.lanes), given(self.threads)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_follows_what_is() {
        let (devices, usual) = (Devices::default(), KernelsConfig::default());
        let limits = devices.limits();
        assert_eq!((limits.tenant_memory, limits.sessions), (None, usual.sessions));
        assert_eq!((devices.gpu_memory(1_000), devices.gpu_lanes().get()), (900, 4));
        let devices = Devices { memory: Some(Size(ByteSize::mib(64))), ..devices };
        assert_eq!(devices.limits().memory, ByteSize::mib(64));
        let devices = Devices {
            tenant_memory: Some(Size(ByteSize::mib(8))),
            cuda_memory: Some(Size(ByteSize::mib(16))),
            lanes: Some(Count(3)),
            ..devices
        };
        assert_eq!(devices.limits().tenant_memory, Some(ByteSize::mib(8)));
        assert_eq!((devices.gpu_memory(64 << 20), devices.gpu_memory(9)), (16 << 20, 9));
        let (lanes, threads) = devices.cpu().expect("the system tells");
        assert_eq!(lanes.get(), 3);
        assert_eq!(threads, std::thread::available_parallelism().expect("the system tells"));
    }
}
