//! The regions of shared memory that clients have registered, within what the operator allows.
//! Never more than a name and an open file each: nothing is mapped, and nothing is read or written
//! before a request asks for it.

mod inputs;
mod object;
mod placement;
mod slot;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus::{IntGauge, Registry};
use quern_types::ByteSize;

pub(crate) use inputs::{SharedInput, fetch};
pub(crate) use placement::{MissingPart, Parts, Placement};
pub(crate) use slot::{PlacementError, Slot};

use crate::body::ReadError;
pub(crate) use object::KeyError;
pub use object::KeyPrefix;
use object::{Key, Object};

/// Longest name of a region, in bytes.
const MAX_NAME: usize = 255;

/// What the operator allows of shared memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedMemoryConfig {
    /// Beginning of the names of the objects that clients may register; none: they may not.
    pub prefix: Option<KeyPrefix>,
    /// Regions at a time, each of which is an open file.
    pub regions: usize,
    /// Bytes of one region.
    pub region_bytes: ByteSize,
}

impl Default for SharedMemoryConfig {
    fn default() -> Self {
        Self { prefix: None, regions: 64, region_bytes: ByteSize::mib(1024) }
    }
}

/// Why a region is not registered, found or used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RegionError {
    /// The operator has not allowed any.
    #[error("shared memory is not allowed on this server")]
    NotAllowed,
    /// It would be the memory of a device.
    #[error(
        "cuda shared memory is not allowed on this server: what a device holds is its models' \
         alone; use system shared memory"
    )]
    Cuda,
    /// There is none of that name.
    #[error("shared memory region {region:?} is not registered")]
    NotFound {
        /// The name.
        region: String,
    },
    /// There is one of that name already.
    #[error("shared memory region {region:?} is registered already: unregister it first")]
    Exists {
        /// The name.
        region: String,
    },
    /// It has no name, or a long one.
    #[error("name of a shared memory region has {bytes} bytes: use 1 to {MAX_NAME}")]
    Name {
        /// Bytes that it has.
        bytes: usize,
    },
    /// Its object has no name that an object can have.
    #[error("key {key:?} {error}")]
    Key {
        /// The name.
        key: String,
        /// What is wrong with it.
        error: KeyError,
    },
    /// The operator has not allowed objects of that name.
    #[error("key {key:?} is not allowed on this server: use one that begins with {prefix:?}")]
    Prefix {
        /// The name.
        key: String,
        /// How names have to begin.
        prefix: String,
    },
    /// The system does not open its object.
    #[error("key {key:?} can't be opened as shared memory: {reason}")]
    Object {
        /// The object's name.
        key: String,
        /// What the system says.
        reason: String,
    },
    /// It would have no bytes, or too many.
    #[error("byte_size is {byte_size}: a region has 1 to {most} bytes on this server")]
    Size {
        /// Bytes that it would have.
        byte_size: u64,
        /// Most that the operator allows.
        most: u64,
    },
    /// It would reach beyond the end of its object.
    #[error(
        "offset {offset} and byte_size {byte_size} reach beyond key {key:?}, which has {size} bytes"
    )]
    Beyond {
        /// The object's name.
        key: String,
        /// Where the region would begin.
        offset: u64,
        /// Bytes that it would have.
        byte_size: u64,
        /// Bytes of the object.
        size: u64,
    },
    /// There are as many as the operator allows.
    #[error("{most} shared memory regions are registered, as many as allowed: unregister one")]
    Full {
        /// How many that is.
        most: usize,
    },
    /// A tensor would reach beyond its end.
    #[error(
        "offset {offset} and byte size {byte_size} reach beyond shared memory region {region:?}, \
         which has {size} bytes"
    )]
    Outside {
        /// The region's name.
        region: String,
        /// Where the tensor would begin.
        offset: u64,
        /// Bytes that it would have.
        byte_size: u64,
        /// Bytes of the region.
        size: u64,
    },
    /// Its object was cut short since it was registered.
    #[error("shared memory region {region:?} was cut short since it was registered")]
    Shrunk {
        /// The region's name.
        region: String,
    },
    /// The system does not read or write it.
    #[error("shared memory region {region:?} can't be used: {reason}")]
    System {
        /// The region's name.
        region: String,
        /// What the system says.
        reason: String,
    },
    /// There is no room for a copy of what it holds.
    #[error("copy of shared memory: {0}")]
    Read(#[from] ReadError),
}

impl RegionError {
    /// That there is none of this name, which may be of any length.
    pub(crate) fn absent(name: &str) -> Self {
        Self::NotFound { region: name.chars().take(80).collect() }
    }
}

/// A region as a client asks for it, or is shown it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registration {
    /// The region's name.
    pub(crate) name: String,
    /// The name of its object.
    pub(crate) key: String,
    /// Where it begins in the object.
    pub(crate) offset: u64,
    /// Bytes that it has.
    pub(crate) byte_size: u64,
}

/// A registered region. Its object stays open as long as anything uses it, whatever becomes of the
/// object's name.
#[derive(Debug)]
struct Region {
    registration: Registration,
    object: Object,
}

/// The registered regions.
#[derive(Debug)]
pub(crate) struct Regions {
    config: SharedMemoryConfig,
    table: Mutex<BTreeMap<String, Arc<Region>>>,
    registered: IntGauge,
}

impl Regions {
    /// No regions yet.
    ///
    /// # Errors
    /// If the number of regions is in the registry already.
    pub(crate) fn new(
        config: SharedMemoryConfig,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let about = "Regions of shared memory that clients have registered";
        let registered = IntGauge::new("quern_http_shared_memory_regions", about)?;
        registry.register(Box::new(registered.clone()))?;
        Ok(Self { config, table: Mutex::default(), registered })
    }

    /// Whether clients may register regions.
    pub(crate) fn are_allowed(&self) -> bool {
        self.config.prefix.is_some()
    }

    pub(crate) fn register(&self, wish: Registration) -> Result<(), RegionError> {
        let SharedMemoryConfig { prefix, regions: most, region_bytes } = &self.config;
        let prefix = prefix.as_ref().ok_or(RegionError::NotAllowed)?;
        let Registration { name, key, offset, byte_size } = &wish;
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(RegionError::Name { bytes: name.len() });
        }
        let parsed = key.parse::<Key>().map_err(|error| {
            let key = key.chars().take(80).collect();
            RegionError::Key { key, error }
        })?;
        if !prefix.begins(&parsed) {
            return Err(RegionError::Prefix { key: key.clone(), prefix: prefix.to_string() });
        }
        if *byte_size == 0 || *byte_size > region_bytes.0 {
            return Err(RegionError::Size { byte_size: *byte_size, most: region_bytes.0 });
        }
        // Held while the object is opened, which is in memory: two of one name can't both win.
        let mut table = self.table();
        if table.contains_key(name) {
            return Err(RegionError::Exists { region: name.clone() });
        }
        if table.len() >= *most {
            return Err(RegionError::Full { most: *most });
        }
        let refused = |error: std::io::Error| RegionError::Object {
            key: key.clone(),
            reason: error.to_string(),
        };
        let object = Object::open(&parsed).map_err(refused)?;
        let size = object.size().map_err(refused)?;
        if offset.checked_add(*byte_size).is_none_or(|end| end > size) {
            let (key, offset, byte_size) = (key.clone(), *offset, *byte_size);
            return Err(RegionError::Beyond { key, offset, byte_size, size });
        }
        tracing::info!(region = name, key, offset, byte_size, "shared memory region registered");
        table.insert(name.clone(), Arc::new(Region { registration: wish, object }));
        self.count(&table);
        Ok(())
    }

    /// Forgets a region, or all of them. Requests that have found it keep it until their end.
    pub(crate) fn unregister(&self, name: Option<&str>) {
        let mut table = self.table();
        let gone = match name {
            Some(name) => table.remove_entry(name).into_iter().collect(),
            None => std::mem::take(&mut *table),
        };
        self.count(&table);
        drop(table);
        for (region, _) in gone {
            tracing::info!(region, "shared memory region unregistered");
        }
    }

    /// A region, or all of them, by their names.
    pub(crate) fn status(&self, name: Option<&str>) -> Result<Vec<Registration>, RegionError> {
        let table = self.table();
        match name {
            None => Ok(table.values().map(|region| region.registration.clone()).collect()),
            Some(name) => match table.get(name) {
                Some(region) => Ok(vec![region.registration.clone()]),
                None => Err(RegionError::absent(name)),
            },
        }
    }

    /// The part of a region where a tensor lies, or is to lie.
    pub(crate) fn slot(&self, place: &Placement) -> Result<Slot, RegionError> {
        if !self.are_allowed() {
            return Err(RegionError::NotAllowed);
        }
        let Placement { region: name, offset, byte_size } = place;
        let region = self.table().get(name).cloned();
        let region = region.ok_or_else(|| RegionError::absent(name))?;
        Slot::of(region, *offset, *byte_size)
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Region>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, table: &BTreeMap<String, Arc<Region>>) {
        self.registered.set(i64::try_from(table.len()).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests;
