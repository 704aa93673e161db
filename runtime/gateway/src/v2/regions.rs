//! The shared memory extensions, which are refused: a server that reads the memory of whoever asks
//! is not a sandbox. What is asked about them is answered truly.

use http::Response;
use serde_json::json;

use super::parameters::NO_SHARED_MEMORY;
use crate::{
    body::{self, Reply, ReplyBody},
    errors::Failure,
};

/// Why a region of shared memory is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RegionError {
    /// There is none of that name.
    #[error("shared memory region {region:?} is not registered: {}", NO_SHARED_MEMORY)]
    NotFound {
        /// The name.
        region: String,
    },
    /// There can't be any.
    #[error("{}", NO_SHARED_MEMORY)]
    NotAllowed,
}

/// `GET /v2/{system,cuda}sharedmemory[/region/{region}]/status`
pub(crate) fn regions(region: Option<&str>) -> Result<Reply, Failure> {
    no_region(region.unwrap_or_default())?;
    Ok(body::json(&json!([])))
}

/// Refuses a region by its name; none is named by an empty one.
pub(crate) fn no_region(region: &str) -> Result<(), RegionError> {
    if region.is_empty() {
        return Ok(());
    }
    Err(RegionError::NotFound { region: region.to_owned() })
}

/// `POST /v2/{system,cuda}sharedmemory/region/{region}/register`
pub(crate) fn register_region() -> Result<Reply, Failure> {
    Err(RegionError::NotAllowed.into())
}

/// `POST /v2/{system,cuda}sharedmemory[/region/{region}]/unregister`: none is registered afterwards.
pub(crate) fn unregister_regions() -> Reply {
    Response::new(ReplyBody::empty())
}
