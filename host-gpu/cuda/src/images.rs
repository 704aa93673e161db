//! The kernels as they were compiled ahead of time, and which of it a device takes. Held to the
//! sources by a test.

use std::io::Read;

use flate2::read::ZlibDecoder;

use crate::source::{Family, Target, families};

macro_rules! images {
    ($($variant:ident = $name:literal,)*) => {
        /// The image of a family, compressed.
        fn compressed(family: Family, image: Image) -> &'static [u8] {
            match (family, image) {
                $(
                    (Family::$variant, Image::Sm80) =>
                        include_bytes!(concat!("../kernels/images/", $name, ".sm_80.z")),
                    (Family::$variant, Image::Sm86) =>
                        include_bytes!(concat!("../kernels/images/", $name, ".sm_86.z")),
                    (Family::$variant, Image::Sm90) =>
                        include_bytes!(concat!("../kernels/images/", $name, ".sm_90.z")),
                    (Family::$variant, Image::Ptx) =>
                        include_bytes!(concat!("../kernels/images/", $name, ".compute_90.z")),
                )*
            }
        }
    };
}

families!(images);

/// What was compiled ahead of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Image {
    Sm80,
    Sm86,
    Sm90,
    Ptx,
}

impl Image {
    /// What it was compiled for, as its file is named.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sm80 => "sm_80",
            Self::Sm86 => "sm_86",
            Self::Sm90 => "sm_90",
            Self::Ptx => "compute_90",
        }
    }
}

/// Where a device's kernels come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// They were compiled ahead of time.
    Image(Image),
    /// They are compiled when they are first used.
    Compiler(Target),
}

impl Origin {
    /// For a device of a compute capability. Machine code runs on newer devices of the same major
    /// number. For others it is compiled where there is a compiler; else the driver makes it of
    /// PTX, which is slow to begin with.
    pub(crate) fn of((major, minor): (u32, u32), has_compiler: impl FnOnce() -> bool) -> Self {
        match (major, minor) {
            (8, 0..6) => Self::Image(Image::Sm80),
            (8, _) => Self::Image(Image::Sm86),
            (9, _) => Self::Image(Image::Sm90),
            _ if has_compiler() => Self::Compiler(Target::Machine(major, minor)),
            _ => Self::Image(Image::Ptx),
        }
    }
}

/// An image, as drivers take it: PTX ends in a 0.
pub(crate) fn image(family: Family, image: Image) -> Result<Vec<u8>, std::io::Error> {
    let mut bytes = Vec::new();
    ZlibDecoder::new(compressed(family, image)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_get_machine_code_of_their_generation_or_have_it_made() {
        let table = [
            ((8, 0), true, Origin::Image(Image::Sm80)),
            ((8, 6), true, Origin::Image(Image::Sm86)),
            ((8, 9), false, Origin::Image(Image::Sm86)),
            ((9, 0), true, Origin::Image(Image::Sm90)),
            ((10, 0), true, Origin::Compiler(Target::Machine(10, 0))),
            ((12, 0), false, Origin::Image(Image::Ptx)),
        ];
        for (capability, has_compiler, expected) in table {
            assert_eq!(Origin::of(capability, || has_compiler), expected, "{capability:?}");
        }
    }
}
