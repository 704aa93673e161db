//! Who computes products of matrices on a device: it is chosen once, and said.

use std::{fmt, sync::Arc};

use cudarc::driver::CudaContext;

use crate::cublaslt::{CublasLt, WORKSPACE_BYTES};

/// Who is to compute products of matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Gemm {
    /// cuBLASLt where its library is found, else kernels of our own. FP32 is multiplied as it is.
    #[default]
    Library,
    /// The same, but factors of FP32 are rounded to TF32: much faster, with three digits.
    LibraryTf32,
    /// Kernels of our own.
    Own,
}

/// Who computes them.
pub(crate) enum Products {
    Library(CublasLt),
    /// Kernels of our own, and why.
    Own(String),
}

impl Products {
    pub(crate) fn choose(gemm: Gemm, context: &Arc<CudaContext>) -> Self {
        let found = match gemm {
            Gemm::Own => Err("as asked for".to_owned()),
            Gemm::Library => CublasLt::find(context, false),
            Gemm::LibraryTf32 => CublasLt::find(context, true),
        };
        found.map_or_else(Self::Own, Self::Library)
    }

    /// The library, where it is what computes.
    pub(crate) fn library(&self) -> Option<&CublasLt> {
        match self {
            Self::Library(library) => Some(library),
            Self::Own(_) => None,
        }
    }

    /// Bytes that each stream has for products.
    pub(crate) fn workspace_bytes(&self) -> u64 {
        if self.library().is_some() { WORKSPACE_BYTES } else { 0 }
    }
}

impl fmt::Display for Products {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Library(library) => library.fmt(f),
            Self::Own(why) => write!(f, "own kernels ({why})"),
        }
    }
}
