//! Which device a session of tensors gets, which lane of it, and whether it gets one at all. Never
//! gives out more memory than there is, to all together or to one tenant, nor more sessions.

use std::collections::BTreeMap;

use quern_types::{DeviceId, DeviceKind, TenantId};

/// What a device has for sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeasedDevice {
    /// Its id.
    pub id: DeviceId,
    /// Memory for all sessions together.
    pub memory_bytes: u64,
    /// Memory for the sessions of one tenant.
    pub tenant_bytes: u64,
    /// Sessions that it has at a time; of one tenant as large a part of them as it may have of the
    /// memory, and at least one.
    pub sessions: usize,
    /// Lanes, which compute at the same time.
    pub lanes: usize,
}

/// Names a lease; the caller never uses one again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseEvent {
    /// Somebody asks for memory of a device.
    Request {
        /// What the lease would be called.
        lease: LeaseId,
        /// Whose budget it is.
        tenant: TenantId,
        /// Memory, in bytes.
        bytes: u64,
        /// Weight beside the others of a lane, in thousandths.
        share_milli: u32,
        /// The kind of device; none: any.
        kind: Option<DeviceKind>,
    },
    /// Somebody keeps memory of a device without computing there.
    Keep {
        /// What the lease would be called.
        lease: LeaseId,
        /// Whose budget it is.
        tenant: TenantId,
        /// The device.
        device: DeviceId,
        /// Memory, in bytes.
        bytes: u64,
    },
    /// All memory of a lease is free again. Without effect on one that there is not.
    Release {
        /// The lease.
        lease: LeaseId,
    },
}

/// What is to be done about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseAction {
    /// It gets a place.
    Grant {
        /// The device.
        device: DeviceId,
        /// The lane, from 0.
        lane: usize,
    },
    /// It gets none.
    Refuse(LeaseRefusal),
}

/// Why a request gets no place, by the device that is nearest to having one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseRefusal {
    /// There is no device of this kind.
    NoneOfKind {
        /// The kind.
        kind: DeviceKind,
    },
    /// No device has so much, or may give so much to a tenant, however little is in use.
    TooLarge {
        /// The most that could be had; 0: there is no device.
        most_bytes: u64,
    },
    /// The tenant has used up its memory.
    Tenant {
        /// Memory that it has left on a device.
        left_bytes: u64,
        /// What it may have there.
        limit_bytes: u64,
    },
    /// The tenant has as many sessions as it may.
    TenantSessions {
        /// How many it may have on a device.
        limit: usize,
    },
    /// The devices are full.
    Memory {
        /// The most that one has left.
        left_bytes: u64,
    },
    /// They have as many sessions as they may.
    Sessions {
        /// How many one may have.
        limit: usize,
    },
}

/// What is leased of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leased {
    /// The device.
    pub device: LeasedDevice,
    /// Memory that is leased.
    pub bytes: u64,
    /// Leases of sessions.
    pub leases: usize,
}

/// All leases of all devices.
#[derive(Debug, Clone)]
pub struct Leases {
    devices: Vec<Device>,
    leases: BTreeMap<LeaseId, Lease>,
}

#[derive(Debug, Clone)]
struct Device {
    of: LeasedDevice,
    bytes: u64,
    leases: usize,
    tenants: BTreeMap<TenantId, Held>,
    /// The shares of each lane's leases.
    lanes: Vec<u64>,
}

/// What a tenant has of a device.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    bytes: u64,
    leases: usize,
}

#[derive(Debug, Clone)]
struct Lease {
    tenant: TenantId,
    bytes: u64,
    share_milli: u32,
    /// Where it is among the devices.
    device: usize,
    /// None: it only keeps memory.
    lane: Option<usize>,
}

impl Leases {
    /// Nothing is leased of these devices. A GPU comes before a CPU, whatever their order.
    pub fn new(devices: impl IntoIterator<Item = LeasedDevice>) -> Self {
        let mut devices: Vec<_> = devices.into_iter().map(Device::new).collect();
        devices.sort_by_key(|device| (matches!(device.of.id, DeviceId::Cpu(_)), device.of.id));
        Self { devices, leases: BTreeMap::new() }
    }

    /// Takes in an event and says what to do about it, if it is a request.
    #[must_use = "a lease that is granted stays until it is released"]
    pub fn step(&mut self, event: LeaseEvent) -> Option<LeaseAction> {
        match event {
            LeaseEvent::Request { lease, tenant, bytes, share_milli, kind } => {
                let (device, lane) = match self.place(&tenant, bytes, kind) {
                    Ok(place) => place,
                    Err(refusal) => return Some(LeaseAction::Refuse(refusal)),
                };
                let granted = Lease { tenant, bytes, share_milli, device, lane: Some(lane) };
                Some(self.grant(lease, granted, lane))
            }
            LeaseEvent::Keep { lease, tenant, device, bytes } => {
                let place = self.devices.iter().position(|known| known.of.id == device);
                let nothing = LeaseRefusal::TooLarge { most_bytes: 0 };
                let free = place.ok_or(nothing).and_then(|place| {
                    self.devices[place].check_memory(&tenant, bytes).map(|()| place)
                });
                let device = match free {
                    Ok(device) => device,
                    Err(refusal) => return Some(LeaseAction::Refuse(refusal)),
                };
                let granted = Lease { tenant, bytes, share_milli: 0, device, lane: None };
                Some(self.grant(lease, granted, 0))
            }
            LeaseEvent::Release { lease } => {
                if let Some(lease) = self.leases.remove(&lease) {
                    self.devices[lease.device].give_back(&lease);
                }
                None
            }
        }
    }

    fn grant(&mut self, name: LeaseId, lease: Lease, lane: usize) -> LeaseAction {
        let device = &mut self.devices[lease.device];
        device.take(&lease);
        self.leases.insert(name, lease);
        LeaseAction::Grant { device: device.of.id, lane }
    }

    /// What is leased of each device.
    pub fn leased(&self) -> impl Iterator<Item = Leased> + '_ {
        self.devices.iter().map(|device| Leased {
            device: device.of,
            bytes: device.bytes,
            leases: device.leases,
        })
    }

    /// What each tenant that has leases has of each device.
    pub fn of_tenants(&self) -> impl Iterator<Item = (DeviceId, &TenantId, u64)> + '_ {
        self.devices.iter().flat_map(|device| {
            device.tenants.iter().map(|(tenant, held)| (device.of.id, tenant, held.bytes))
        })
    }

    /// The place for a lease: GPUs first, unless it names a kind; of a kind the device that has the
    /// most memory left, and the lane whose leases weigh least; the first where they are even.
    fn place(
        &self,
        tenant: &TenantId,
        bytes: u64,
        kind: Option<DeviceKind>,
    ) -> Result<(usize, usize), LeaseRefusal> {
        let mut refusal = match kind {
            Some(kind) => LeaseRefusal::NoneOfKind { kind },
            None => LeaseRefusal::TooLarge { most_bytes: 0 },
        };
        let mut best: Option<(usize, (bool, u64))> = None;
        let devices = self.devices.iter().enumerate();
        let fits = |device: &Device| kind.is_none_or(|kind| device.of.id.kind() == kind);
        for (place, device) in devices.filter(|(_, device)| fits(device)) {
            match device.check(tenant, bytes) {
                Ok(()) => {
                    let is_gpu = matches!(device.of.id, DeviceId::Cuda(_));
                    let rank = (is_gpu, device.left_bytes());
                    if best.is_none_or(|(_, other)| rank > other) {
                        best = Some((place, rank));
                    }
                }
                Err(other) => refusal = refusal.nearest(other),
            }
        }
        let (place, _) = best.ok_or(refusal)?;
        let lanes = self.devices[place].lanes.iter().enumerate();
        let lane = lanes.min_by_key(|(_, shares)| **shares).map_or(0, |(lane, _)| lane);
        Ok((place, lane))
    }
}

impl LeasedDevice {
    /// Sessions that one tenant may have.
    fn tenant_sessions(&self) -> usize {
        let (all, memory_bytes) = (self.sessions as u128, u128::from(self.memory_bytes.max(1)));
        let part = all * u128::from(self.tenant_bytes) / memory_bytes;
        // No more than there are, so that it fits.
        (part.min(all) as usize).max(1)
    }
}

impl Device {
    fn new(of: LeasedDevice) -> Self {
        let lanes = vec![0; of.lanes.max(1)];
        Self { of, bytes: 0, leases: 0, tenants: BTreeMap::new(), lanes }
    }

    fn left_bytes(&self) -> u64 {
        self.of.memory_bytes - self.bytes
    }

    /// Whether there is room for a session.
    fn check(&self, tenant: &TenantId, bytes: u64) -> Result<(), LeaseRefusal> {
        let limit = self.of.tenant_sessions();
        let too_many = self.held(tenant).leases >= limit;
        match self.check_memory(tenant, bytes) {
            Err(LeaseRefusal::Memory { .. }) | Ok(()) if too_many => {
                Err(LeaseRefusal::TenantSessions { limit })
            }
            Ok(()) if self.leases >= self.of.sessions => {
                Err(LeaseRefusal::Sessions { limit: self.of.sessions })
            }
            checked => checked,
        }
    }

    fn check_memory(&self, tenant: &TenantId, bytes: u64) -> Result<(), LeaseRefusal> {
        let most_bytes = self.of.memory_bytes.min(self.of.tenant_bytes);
        if bytes > most_bytes {
            return Err(LeaseRefusal::TooLarge { most_bytes });
        }
        let limit_bytes = self.of.tenant_bytes;
        let left_bytes = limit_bytes - self.held(tenant).bytes;
        if bytes > left_bytes {
            return Err(LeaseRefusal::Tenant { left_bytes, limit_bytes });
        }
        let left_bytes = self.left_bytes();
        if bytes > left_bytes {
            return Err(LeaseRefusal::Memory { left_bytes });
        }
        Ok(())
    }

    fn held(&self, tenant: &TenantId) -> Held {
        self.tenants.get(tenant).copied().unwrap_or_default()
    }

    fn take(&mut self, lease: &Lease) {
        self.bytes += lease.bytes;
        let held = self.tenants.entry(lease.tenant.clone()).or_default();
        held.bytes += lease.bytes;
        if let Some(lane) = lease.lane {
            self.leases += 1;
            held.leases += 1;
            self.lanes[lane] += u64::from(lease.share_milli);
        }
    }

    fn give_back(&mut self, lease: &Lease) {
        self.bytes -= lease.bytes;
        let sessions = usize::from(lease.lane.is_some());
        self.leases -= sessions;
        if let Some(lane) = lease.lane {
            self.lanes[lane] -= u64::from(lease.share_milli);
        }
        if let Some(held) = self.tenants.get_mut(&lease.tenant) {
            held.bytes -= lease.bytes;
            held.leases -= sessions;
            if (held.leases, held.bytes) == (0, 0) {
                self.tenants.remove(&lease.tenant);
            }
        }
    }
}

impl LeaseRefusal {
    /// Of two devices' the one that tells best what would help: another time before less of one's
    /// own before less at all; of the same kind the one that has more.
    fn nearest(self, other: Self) -> Self {
        let rank = |refusal: &Self| match *refusal {
            Self::NoneOfKind { .. } => (0, 0),
            Self::TooLarge { most_bytes } => (1, most_bytes),
            Self::Tenant { left_bytes, .. } => (2, left_bytes),
            Self::TenantSessions { limit } => (3, limit as u64),
            Self::Memory { left_bytes } => (4, left_bytes),
            Self::Sessions { limit } => (5, limit as u64),
        };
        if rank(&other) > rank(&self) { other } else { self }
    }
}

#[cfg(test)]
mod tests;
