//! Where a tensor lies, as the parameters `shared_memory_…` say it. Whether there is such a place
//! is not known here.

/// Bytes of a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placement {
    /// The region's name.
    pub(crate) region: String,
    /// Where they begin in the region.
    pub(crate) offset: u64,
    /// How many they are.
    pub(crate) byte_size: u64,
}

/// The parameters that are there.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub(crate) region: Option<String>,
    pub(crate) offset: Option<u64>,
    pub(crate) byte_size: Option<u64>,
}

/// A parameter is missing without which the others mean nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MissingPart {
    /// Its name.
    pub(crate) name: &'static str,
}

impl MissingPart {
    /// What is said of it.
    pub(crate) const PROBLEM: &str =
        "is missing: shared memory needs shared_memory_region and shared_memory_byte_size";
}

impl Parts {
    /// What they say together; nothing if there are none.
    pub(crate) fn finish(self) -> Result<Option<Placement>, MissingPart> {
        let Self { region, offset, byte_size } = self;
        match (region, byte_size) {
            (Some(region), Some(byte_size)) => {
                Ok(Some(Placement { region, offset: offset.unwrap_or_default(), byte_size }))
            }
            (Some(_), None) => Err(MissingPart { name: "shared_memory_byte_size" }),
            (None, None) if offset.is_none() => Ok(None),
            (None, _) => Err(MissingPart { name: "shared_memory_region" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_a_region_and_a_size_and_perhaps_an_offset() {
        let missing = |name| Err(MissingPart { name });
        let place = |offset| Ok(Some(Placement { region: "r".into(), offset, byte_size: 8 }));
        for (region, offset, byte_size, expected) in [
            (None, None, None, Ok(None)),
            (Some("r"), None, Some(8), place(0)),
            (Some("r"), Some(4), Some(8), place(4)),
            (Some("r"), Some(4), None, missing("shared_memory_byte_size")),
            (None, None, Some(8), missing("shared_memory_region")),
            (None, Some(4), None, missing("shared_memory_region")),
        ] {
            let region = region.map(str::to_owned);
            let parts = Parts { region, offset, byte_size };
            assert_eq!(parts.finish(), expected);
        }
    }
}
