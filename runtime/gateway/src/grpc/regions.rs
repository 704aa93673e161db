//! The calls about shared memory: the same as over HTTP, in messages.

use super::{
    Method,
    messages::Messages,
    protocol::{
        CudaSharedMemoryStatusRequest, CudaSharedMemoryStatusResponse,
        CudaSharedMemoryUnregisterRequest, CudaSharedMemoryUnregisterResponse,
        SystemSharedMemoryRegisterRequest, SystemSharedMemoryRegisterResponse,
        SystemSharedMemoryStatusRequest, SystemSharedMemoryStatusResponse,
        SystemSharedMemoryUnregisterRequest, SystemSharedMemoryUnregisterResponse,
        system_shared_memory_status_response::RegionStatus,
    },
    response::Framed,
};
use crate::{
    Gateway,
    errors::Failure,
    shared_memory::{RegionError, Registration},
    v2,
};

/// Answers those of the calls that are about shared memory.
pub(super) async fn answer(
    gateway: &Gateway,
    method: Method,
    messages: &mut Messages,
) -> Result<Framed, Failure> {
    Ok(match method {
        Method::SystemSharedMemoryStatus => {
            Framed::new(&status(gateway, &messages.only_as().await?)?)
        }
        Method::SystemSharedMemoryRegister => {
            register(gateway, messages.only_as().await?)?;
            Framed::new(&SystemSharedMemoryRegisterResponse {})
        }
        Method::SystemSharedMemoryUnregister => {
            unregister(gateway, &messages.only_as().await?);
            Framed::new(&SystemSharedMemoryUnregisterResponse {})
        }
        Method::CudaSharedMemoryStatus => {
            let CudaSharedMemoryStatusRequest { name } = messages.only_as().await?;
            v2::no_cuda_region(&name)?;
            Framed::new(&CudaSharedMemoryStatusResponse::default())
        }
        Method::CudaSharedMemoryUnregister => {
            let _: CudaSharedMemoryUnregisterRequest = messages.only_as().await?;
            Framed::new(&CudaSharedMemoryUnregisterResponse {})
        }
        _ => return Err(RegionError::Cuda.into()),
    })
}

fn status(
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

fn register(
    gateway: &Gateway,
    request: SystemSharedMemoryRegisterRequest,
) -> Result<(), RegionError> {
    let SystemSharedMemoryRegisterRequest { name, key, offset, byte_size } = request;
    gateway.regions.register(Registration { name, key, offset, byte_size })
}

fn unregister(gateway: &Gateway, request: &SystemSharedMemoryUnregisterRequest) {
    gateway.regions.unregister(named(&request.name));
}

/// One region, or all of them.
fn named(name: &str) -> Option<&str> {
    Some(name).filter(|name| !name.is_empty())
}
