//! ONNX Runtime, from a shared library that is found at run time. Nothing of `ort` is touched
//! unless that library is loaded: it would panic, or go and look for one of its own.

mod texts;

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use half::{bf16, f16};
use ort::{
    environment::Environment,
    logging::LogLevel,
    session::{Session, SessionInputValue, builder::GraphOptimizationLevel},
    value::{DynValue, PrimitiveTensorElementType, TensorElementType, TensorRef, ValueType},
};
use quern_types::DataType;

use super::{Input, Output, Program, guarded};

/// The one library that this process has loaded, if any. It stays until the process ends: `ort`
/// makes one environment in a process and never another.
static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

/// A loaded library.
#[derive(Clone)]
pub(crate) struct Runtime {
    library: PathBuf,
    environment: Environment,
    pub(crate) version: String,
}

/// Why there is no ONNX Runtime.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// The library does not load.
    Load(String),
    /// Another one is loaded already.
    Another(PathBuf),
}

impl Runtime {
    /// Loads the library, or takes the one that is loaded if it is the same file.
    pub(crate) fn open(library: &Path) -> Result<Self, OpenError> {
        let library = library.canonicalize().map_err(|error| OpenError::Load(error.to_string()))?;
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*loaded {
            let same = runtime.library == library;
            return same
                .then(|| runtime.clone())
                .ok_or(OpenError::Another(runtime.library.clone()));
        }
        let environment = guarded(|| environment(&library)).map_err(OpenError::Load)?;
        let version = version(&library);
        Ok(loaded.insert(Self { library, environment, version }).clone())
    }

    /// Loads a model: a session, with weights of its own, for each lane, since a session runs
    /// once at a time.
    pub(crate) fn load(&self, onnx: &[u8], lanes: usize) -> Result<Vec<Box<dyn Program>>, String> {
        let session = || {
            // Lanes are the parallelism; a thread pool in each session would compete with them.
            // Planning memory ahead helps only inputs that always have the same shape.
            Session::builder(&self.environment)?
                .with_intra_threads(1)?
                .with_inter_threads(1)?
                .with_memory_pattern(false)?
                .with_optimization_level(GraphOptimizationLevel::All)?
                .with_log_level(LogLevel::Warning)?
                .commit_from_memory(onnx)
        };
        let lane = |_| Ok(Box::new(Lane { session: session().map_err(describe)? }) as _);
        (0..lanes).map(lane).collect()
    }
}

fn environment(library: &Path) -> Result<Environment, String> {
    let log = |level: LogLevel, _: &str, _: &str, _: &str, message: &str| match level {
        LogLevel::Verbose | LogLevel::Info => tracing::debug!(target: "onnxruntime", "{message}"),
        LogLevel::Warning => tracing::warn!(target: "onnxruntime", "{message}"),
        LogLevel::Error | LogLevel::Fatal => tracing::error!(target: "onnxruntime", "{message}"),
    };
    let environment = ort::init_from(library)
        .map_err(|error| error.to_string())?
        .with_name("quern")
        .with_telemetry(false)
        .with_logger(Arc::new(log))
        .build()
        .map_err(describe)?;
    environment.set_log_level(LogLevel::Warning);
    Ok(environment)
}

/// The version stands in the file's name; the build's description has no number.
fn version(library: &Path) -> String {
    let name = library.file_name().unwrap_or_default().to_string_lossy();
    match name.split_once(".so.") {
        Some((_, version)) => version.to_owned(),
        None => ort::info().to_owned(),
    }
}

struct Lane {
    session: Session,
}

impl Program for Lane {
    fn run(&mut self, inputs: &[Input]) -> Result<Vec<Output>, String> {
        let buffers: Vec<Buffer> = inputs.iter().map(Buffer::new).collect();
        let mut values = Vec::with_capacity(inputs.len());
        for (input, buffer) in inputs.iter().zip(&buffers) {
            values.push((Cow::Borrowed(&*input.name), value(input, buffer)?));
        }
        let outputs = self.session.run(values).map_err(describe)?;
        outputs.values().map(|value| output(&value)).collect()
    }
}

/// The bytes of an input, aligned for any element type.
enum Buffer {
    Shared(Bytes),
    Joined(Vec<u64>, usize),
}

impl Buffer {
    /// Takes the buffer of a single call as it is where it lies aligned, and copies otherwise.
    fn new(input: &Input) -> Self {
        // Texts are copied one by one, into memory of the engine.
        if input.dtype == DataType::Bytes {
            return Self::Joined(vec![], 0);
        }
        if let [part] = &*input.parts
            && part.as_ptr().cast::<u64>().is_aligned()
        {
            return Self::Shared(part.clone());
        }
        let length = input.byte_length();
        let mut words = vec![0u64; length.div_ceil(size_of::<u64>())];
        input.copy_to(&mut bytemuck::cast_slice_mut(&mut words)[..length]);
        Self::Joined(words, length)
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Joined(words, length) => &bytemuck::cast_slice(words)[..*length],
        }
    }
}

fn value<'a>(input: &'a Input, buffer: &'a Buffer) -> Result<SessionInputValue<'a>, String> {
    fn view<'a, T>(input: &'a Input, elements: &'a [T]) -> Result<SessionInputValue<'a>, String>
    where
        T: PrimitiveTensorElementType + Clone + std::fmt::Debug + 'static,
    {
        let tensor = TensorRef::from_array_view((&*input.shape, elements)).map_err(describe)?;
        Ok(tensor.into())
    }
    macro_rules! view {
        ($type:ty) => {
            match bytemuck::checked::try_cast_slice::<u8, $type>(buffer.bytes()) {
                Ok(elements) => view(input, elements),
                Err(error) => Err(format!("input {:?}: {error}", input.name)),
            }
        };
    }
    match input.dtype {
        DataType::Bool => view!(bool),
        DataType::Uint8 => view!(u8),
        DataType::Uint16 => view!(u16),
        DataType::Uint32 => view!(u32),
        DataType::Uint64 => view!(u64),
        DataType::Int8 => view!(i8),
        DataType::Int16 => view!(i16),
        DataType::Int32 => view!(i32),
        DataType::Int64 => view!(i64),
        DataType::Fp16 => view!(f16),
        DataType::Bf16 => view!(bf16),
        DataType::Fp32 => view!(f32),
        DataType::Fp64 => view!(f64),
        DataType::Bytes => texts::value(input).map(Into::into),
    }
}

/// Copies an output: it lies in memory of the session, which must not outlive the model.
fn output(value: &DynValue) -> Result<Output, String> {
    let ValueType::Tensor { ty, shape, .. } = value.dtype() else {
        return Err(format!("an output is {}, not a tensor", value.dtype()));
    };
    macro_rules! copy {
        ($type:ty, $dtype:expr) => {{
            let (shape, elements) = value.try_extract_tensor::<$type>().map_err(describe)?;
            let shape = shape.iter().map(|&dim| dim as u64).collect();
            let data = Bytes::copy_from_slice(bytemuck::cast_slice(elements));
            Ok(Output { dtype: $dtype, shape, data })
        }};
    }
    match ty {
        TensorElementType::Bool => copy!(bool, DataType::Bool),
        TensorElementType::Uint8 => copy!(u8, DataType::Uint8),
        TensorElementType::Uint16 => copy!(u16, DataType::Uint16),
        TensorElementType::Uint32 => copy!(u32, DataType::Uint32),
        TensorElementType::Uint64 => copy!(u64, DataType::Uint64),
        TensorElementType::Int8 => copy!(i8, DataType::Int8),
        TensorElementType::Int16 => copy!(i16, DataType::Int16),
        TensorElementType::Int32 => copy!(i32, DataType::Int32),
        TensorElementType::Int64 => copy!(i64, DataType::Int64),
        TensorElementType::Float16 => copy!(f16, DataType::Fp16),
        TensorElementType::Bfloat16 => copy!(bf16, DataType::Bf16),
        TensorElementType::Float32 => copy!(f32, DataType::Fp32),
        TensorElementType::Float64 => copy!(f64, DataType::Fp64),
        TensorElementType::String => texts::output(value, shape),
        other => Err(format!("an output has the element type {other}")),
    }
}

fn describe<T>(error: ort::Error<T>) -> String {
    without_places(&error.to_string())
}

/// What ONNX Runtime says, without where in its source it says so: a path, a line and a function
/// with all of its types.
fn without_places(text: &str) -> String {
    let mut parts = text.split("/onnxruntime_src/");
    let mut said = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut rest = part;
        // Up to the end of the function's parameters, of which a call operator seems to have two.
        while let Some(end) = closing(rest) {
            rest = &rest[end..];
            if !rest.starts_with('(') {
                break;
            }
        }
        rest = rest.strip_prefix(" const").unwrap_or(rest).trim_start();
        if let Some((_, behind)) =
            rest.strip_prefix("[with ").and_then(|with| with.split_once("] "))
        {
            rest = behind;
        }
        said.push_str(rest);
    }
    said.trim_end().to_owned()
}

/// Where the first parentheses are closed, with all of those inside them.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    text.char_indices().find_map(|(at, character)| match character {
        '(' => {
            depth += 1;
            None
        }
        ')' => {
            depth = depth.saturating_sub(1);
            (depth == 0).then_some(at + 1)
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_what_is_wrong_and_not_where_in_the_source() {
        let cases = [
            ("no kernel for Foo(1)\n", "no kernel for Foo(1)"),
            (
                "Load failed: /onnxruntime_src/core/graph/x.h:46 void a::B(const std::map<int>&, \
                 std::function<int()>) Opset 27 is new (as yet).",
                "Load failed: Opset 27 is new (as yet).",
            ),
            (
                "/onnxruntime_src/a.cc:1 auto a::B::operator()(int) const (dim == 1) was false",
                "(dim == 1) was false",
            ),
            (
                "/onnxruntime_src/a.h:48 RNN<T>::RNN(int) [with T = float] layout == 0 was false",
                "layout == 0 was false",
            ),
            ("two /onnxruntime_src/a.h:1 f() a, /onnxruntime_src/b.h:2 g() b", "two a, b"),
            ("/onnxruntime_src/a.cc:12", "a.cc:12"),
        ];
        for (text, expected) in cases {
            assert_eq!(without_places(text), expected);
        }
    }
}
