//! The sources of the kernels, and how they are compiled: by NVRTC, ahead of time or, for devices
//! that nothing was compiled for, when they are first used.

use std::{
    ffi::{CStr, CString, c_char},
    ptr,
};

use cudarc::nvrtc::{result, sys};

/// What every source includes.
pub const HEADER: (&str, &str) = ("quern.cuh", include_str!("../kernels/quern.cuh"));

/// What the compiler is told beside the architecture.
pub const OPTIONS: [&str; 1] = ["--std=c++17"];

/// A file of kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Its name, without its ending.
    pub name: &'static str,
    /// CUDA C.
    pub text: &'static str,
}

/// Hands every file of kernels, with the name of its module, to a macro.
macro_rules! families {
    ($made:ident) => {
        $made! {
            Attention = "attention",
            Binary = "binary",
            Cast = "cast",
            Convolution = "convolution",
            CrossEntropy = "cross_entropy",
            Histogram = "histogram",
            Indexing = "indexing",
            Matmul = "matmul",
            Movement = "movement",
            Optimizer = "optimizer",
            Ordering = "ordering",
            Pooling = "pooling",
            Random = "random",
            Reduction = "reduction",
            Rows = "rows",
            Scan = "scan",
            Unary = "unary",
        }
    };
}
pub(crate) use families;

macro_rules! sources {
    ($($variant:ident = $name:literal,)*) => {
        /// A file of kernels, and the module that it becomes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(crate) enum Family {
            $($variant,)*
        }

        /// Every source.
        pub const SOURCES: &[Source] = &[
            $(Source { name: $name, text: include_str!(concat!("../kernels/", $name, ".cu")) },)*
        ];
    };
}

families!(sources);

/// What is compiled for: machine code of an architecture, or PTX, of which drivers make machine
/// code for newer ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A cubin, for this compute capability and newer ones of the same major number.
    Machine(u32, u32),
    /// PTX, for this compute capability and newer ones.
    Portable(u32, u32),
}

impl Target {
    /// Its name, as compilers have it.
    pub fn name(self) -> String {
        match self {
            Self::Machine(major, minor) => format!("sm_{major}{minor}"),
            Self::Portable(major, minor) => format!("compute_{major}{minor}"),
        }
    }
}

/// Why a source was not compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The compiler's library is not there.
    #[error(
        "libnvrtc.so was not found: install NVRTC of CUDA 13, or the package nvidia-cuda-nvrtc of PyPI, and let LD_LIBRARY_PATH name its folder"
    )]
    NoCompiler,
    /// The compiler refuses the source, or does not know the architecture.
    #[error("{source_name} for {target}: {log}")]
    Refused {
        /// The source.
        source_name: String,
        /// What it was compiled for.
        target: String,
        /// What the compiler says.
        log: String,
    },
}

/// Whether there is a compiler.
pub fn has_compiler() -> bool {
    // SAFETY: loading NVIDIA's library runs its initialisers, which is what it is for.
    unsafe { sys::is_culib_present() }
}

/// Compiles a source; PTX ends in a 0, as drivers want it.
pub fn compile(source: &Source, target: Target) -> Result<Vec<u8>, CompileError> {
    if !has_compiler() {
        return Err(CompileError::NoCompiler);
    }
    let refused = |log: String| CompileError::Refused {
        source_name: source.name.to_owned(),
        target: target.name(),
        log,
    };
    let program = Program::new(source).map_err(|error| refused(error.to_string()))?;
    let architecture = format!("--gpu-architecture={}", target.name());
    let options: Vec<_> = OPTIONS.into_iter().chain([architecture.as_str()]).collect();
    // SAFETY: the program is alive.
    let compiled = unsafe { result::compile_program(program.0, &options) };
    compiled.map_err(|error| refused(program.log().unwrap_or_else(|| error.to_string())))?;
    let image = match target {
        Target::Machine(..) => program.machine_code(),
        // SAFETY: the program is alive and was compiled.
        Target::Portable(..) => unsafe { result::get_ptx(program.0) }.map(bytes),
    };
    image.map_err(|error| refused(error.to_string()))
}

/// A program of the compiler's.
struct Program(sys::nvrtcProgram);

impl Program {
    fn new(source: &Source) -> Result<Self, result::NvrtcError> {
        let own = |text: &str| CString::new(text).expect("sources have no 0 in them");
        let (name, text) = (own(&format!("{}.cu", source.name)), own(source.text));
        let (header_name, header) = (own(HEADER.0), own(HEADER.1));
        let (headers, names) = ([header.as_ptr()], [header_name.as_ptr()]);
        let mut program = ptr::null_mut();
        // SAFETY: all texts live until after the call, which copies them, and there is one header
        // with one name.
        let created = unsafe {
            sys::nvrtcCreateProgram(
                &raw mut program,
                text.as_ptr(),
                name.as_ptr(),
                1,
                headers.as_ptr(),
                names.as_ptr(),
            )
        };
        created.result().map(|()| Self(program))
    }

    fn log(&self) -> Option<String> {
        // SAFETY: the program is alive.
        let log = unsafe { result::get_program_log(self.0) }.ok()?;
        let log = bytes(log);
        let log = CStr::from_bytes_until_nul(&log).ok()?;
        Some(log.to_string_lossy().into_owned())
    }

    fn machine_code(&self) -> Result<Vec<u8>, result::NvrtcError> {
        let mut size = 0;
        // SAFETY: the program is alive; the call writes one number.
        unsafe { sys::nvrtcGetCUBINSize(self.0, &raw mut size) }.result()?;
        let mut code = vec![0u8; size];
        // SAFETY: there is room for as many bytes as were announced.
        unsafe { sys::nvrtcGetCUBIN(self.0, code.as_mut_ptr().cast::<c_char>()) }.result()?;
        Ok(code)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: the program is alive, and nothing else has it. There is nothing to do about an
        // error.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

fn bytes(characters: Vec<c_char>) -> Vec<u8> {
    characters.into_iter().map(|character| character as u8).collect()
}
