//! The calls about shared memory: the same as over HTTP, in messages.

use super::protocol::{
    SystemSharedMemoryRegisterRequest, SystemSharedMemoryStatusRequest,
    SystemSharedMemoryStatusResponse, SystemSharedMemoryUnregisterRequest,
    system_shared_memory_status_response::RegionStatus,
};
use crate::{
    Gateway,
    shared_memory::{RegionError, Registration},
};

pub(super) fn status(
    gateway: &Gateway,
    request: &SystemSharedMemoryStatusRequest,
) -> Result<SystemSharedMemoryStatusResponse, RegionError> {
    let regions = gateway.regions.status(named(&request.name))?;
    Ok(SystemSharedMemoryStatusResponse { regions: regions.into_iter().map(describe).collect() })
}

fn describe(region: Registration) -> (String, RegionStatus) {
    let Registration { name, key, offset, byte_size } = region;
    (name.clone(), RegionStatus { name, key, offset, byte_size })
}

pub(super) fn register(
    gateway: &Gateway,
    request: SystemSharedMemoryRegisterRequest,
) -> Result<(), RegionError> {
    let SystemSharedMemoryRegisterRequest { name, key, offset, byte_size } = request;
    gateway.regions.register(Registration { name, key, offset, byte_size })
}

pub(super) fn unregister(gateway: &Gateway, request: &SystemSharedMemoryUnregisterRequest) {
    gateway.regions.unregister(named(&request.name));
}

/// One region, or all of them.
fn named(name: &str) -> Option<&str> {
    Some(name).filter(|name| !name.is_empty())
}
