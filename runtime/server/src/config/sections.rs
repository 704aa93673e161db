//! Every option of a server: its key, meaning, bounds and default, in one list. What the options
//! become is decided by whoever builds the server.

use std::{io, net::SocketAddr, path::PathBuf};

use quern_dispatcher::{FunctionsConfig, ModelsConfig, ShadowConfig};
use quern_gateway::{EdgeLimits, HandshakeLimits, KeyPrefix, SharedMemoryConfig};
use quern_parquet::ReaderConfig;
use quern_sandbox::OutboundConfig;
use quern_scoring::ScoringConfig;
use quern_store::StoreConfig;
use quern_types::{ByteSize, GpuGrant, Period};
use serde::Deserialize;

use super::{
    quantity::{Count, DAY, Network, Size, TIB, Time, Written},
    reference::{OptionText, Section},
};
use crate::{certificates::CertificateFiles, logging::LogFilter, machine};

/// Makes a section of the file and its description from one list. The text of a field is what
/// `quern config` and the documentation say of it.
macro_rules! section {
    ($(#[doc = $about:literal])* $name:ident in $path:literal {
        $($(#[doc = $doc:literal])* $field:ident: $type:ty = $default:expr;)*
    }) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, PartialEq, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(crate) struct $name {
            $($(#[doc = $doc])* pub(crate) $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $name {
            pub(crate) fn section(&self) -> Section {
                let default = Self::default();
                let options = vec![$(OptionText {
                    key: stringify!($field),
                    meaning: concat!($($doc),*).trim(),
                    default: default.$field.written(),
                    value: self.$field.written(),
                },)*];
                Section { path: $path, about: concat!($($about),*).trim(), options }
            }
        }
    };
}

pub(super) use section;

mod background;
mod devices;
mod tenants;
pub(crate) use background::{Background, Webhooks};
pub(crate) use devices::{Cuda, Devices};
pub(crate) use tenants::Tenants;

section! {
    /// The process: where it listens and keeps what is deployed, and how it ends.
    Server in "server" {
        /// Address and port to listen on; port 0 takes a free one. Flag: --listen.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7700));
        /// Address and port to answer gRPC on, beside the one for everything, which does so as well;
        /// port 0 takes a free one. Not set: none. Flag: --grpc-listen.
        grpc_listen: Option<SocketAddr> = None;
        /// Folder for everything that is deployed, created if it is missing; relative to the
        /// working directory. Flag: --data.
        data: PathBuf = "quern-data".into();
        /// Whether requests need a token, which `quern token create` makes. Flag: --authenticate.
        authenticate: bool = false;
        /// Whether to listen on other addresses than loopback although requests need no token.
        /// Flag: --insecure.
        insecure: bool = false;
        /// Whether to listen on other addresses than loopback without TLS although requests show
        /// tokens, as behind a proxy that speaks TLS. Flag: --plain-http.
        plain_http: bool = false;
        /// What is logged: a level, and others for parts of the server, such as
        /// "warn,quern_gateway=debug". The variable QUERN_LOG has precedence.
        log_filter: LogFilter = LogFilter::default();
        /// How logs are written: "text" or "json". Flag: --log-format.
        log_format: LogFormat = LogFormat::Text;
        /// Time that requests get to finish when the server is stopped. Flag: --drain-timeout.
        drain_timeout: Time<0, DAY> = Time(Period::from_millis(30_000));
    }
}

section! {
    /// TLS, on all addresses that the server listens on. The files are read again when they change,
    /// and at SIGHUP; what can't be used leaves the certificate before in use.
    Tls in "tls" {
        /// The server's certificate in PEM, followed by those that lead to a root. Not set: no TLS.
        /// Flag: --tls-cert.
        certificate: Option<PathBuf> = None;
        /// The private key of the certificate, in PEM, which nobody else should be able to read.
        /// Flag: --tls-key.
        key: Option<PathBuf> = None;
        /// Longest time for a handshake.
        handshake_timeout: Time<100, DAY> = Time(Period::from_millis(10_000));
        /// Handshakes at a time. With one more, the one that has taken longest is ended.
        max_handshakes: Count<1, 1_000_000> = Count(512);
    }
}

section! {
    /// The edge: what one client, and all clients together, can take up.
    Http in "http" {
        /// Connections at a time; more wait to be accepted.
        max_connections: Count<1, 1_000_000> = Count(4_096);
        /// Requests at a time on one HTTP/2 connection.
        max_streams: Count<1, 65_536> = Count(256);
        /// Requests of one gRPC stream that are under way at a time; the next waits to be read.
        max_stream_requests: Count<1, 4_096> = Count(16);
        /// Bytes of the head of a request.
        max_head: Size<8_192, 16_777_216> = Size(ByteSize(64 << 10));
        /// Longest time for the head of a request. A connection without a request is closed after
        /// as long; over HTTP/2 it may take twice as long.
        head_timeout: Time<100, DAY> = Time(Period::from_millis(30_000));
        /// Bytes of the body of an inference request, compressed or not.
        max_json_body: Size<1, TIB> = Size(ByteSize::mib(64));
        /// Bytes that all bodies which are read as a whole have together; requests that find no
        /// room are refused.
        body_memory: Size<65_536, TIB> = Size(ByteSize::mib(512));
        /// Longest time between two parts of a request's body.
        body_stall: Time<100, DAY> = Time(Period::from_millis(60_000));
        /// Longest time for all of a body that is read as a whole.
        body_timeout: Time<100, DAY> = Time(Period::from_millis(300_000));
        /// Longest time that a client may take for 16 KiB of an answer, or for all of what waits for
        /// it if that is less. Over HTTP/2 it is a connection's, whose stream to blame is reset.
        write_stall: Time<100, DAY> = Time(Period::from_millis(30_000));
    }
}

section! {
    /// Shared memory of this machine, by which clients on it may pass tensors instead of sending
    /// them. The server reads and writes what a client registers, so that names are allowed by how
    /// they begin, and none without a beginning.
    SharedMemory in "shared_memory" {
        /// Beginning of the names of the POSIX shared memory objects that clients may register,
        /// such as "/triton-": a slash and at least one character more. Not set: shared memory is
        /// not allowed. Flag: --allow-shared-memory.
        prefix: Option<KeyPrefix> = None;
        /// Regions that are registered at a time, each of which is an open file.
        max_regions: Count<1, 65_536> = Count(64);
        /// Bytes of one region. What a request copies out of regions has the limit of a body, and
        /// takes its room from the memory for bodies.
        max_region: Size<1, TIB> = Size(ByteSize::mib(1024));
    }
}

section! {
    /// Instances of functions.
    Sandbox in "sandbox" {
        /// Whether instances come from a pool that is reserved once, which is faster. Where the
        /// address space is too short for it, instances are made on demand.
        pooling: bool = true;
        /// Instances that the pool has. No function's limits.concurrency can exceed it.
        instances: Count<1, 100_000> = Count(1_000);
        /// Memory that the instances of all functions have together, for linear memories and
        /// tables. Each function can have half of it, which lowers its limits.memory; requests that
        /// find none are refused. Not set: half of the machine's or the container's memory, without
        /// a bound where the system does not tell that.
        memory: Option<Size<1_048_576, TIB>> = None;
        /// Memory for the code of loaded functions. Where it is short, those that were called least
        /// recently are unloaded until their next call. Flag: --code-memory.
        code_memory: Size<1, TIB> = Size(ByteSize::mib(1024));
    }
}

section! {
    /// HTTP requests that functions send. A manifest grants origins; which addresses those may have
    /// is decided here.
    Outbound in "outbound" {
        /// Networks that are not public, and may be reached all the same: loopback, private and
        /// link-local addresses are refused otherwise.
        private_networks: Vec<Network> = Vec::new();
        /// Servers that resolve names, as address and port; empty: those of the system.
        nameservers: Vec<SocketAddr> = Vec::new();
        /// Longest wait for a connection, TLS included; half of it for resolving the name.
        connect_timeout: Time<1, DAY> = Time(Period::from_millis(10_000));
        /// Longest wait for the head of a response, and for each next piece of its body.
        head_timeout: Time<1, DAY> = Time(Period::from_millis(60_000));
        /// How long a connection that is not in use is kept.
        idle_timeout: Time<0, DAY> = Time(Period::from_millis(30_000));
    }
}

section! {
    /// Device tensors of functions.
    Gpu in "gpu" {
        /// Most memory of a device that a manifest may ask for, with grants.gpu; a function that was
        /// deployed with more has so much.
        max_memory: Size<65_536, TIB> = Size(GpuGrant::CEILING);
    }
}

section! {
    /// The key-value store of functions.
    KeyValue in "keyvalue" {
        /// Bytes that the keys and values of one bucket have together, with 64 for each pair;
        /// writes beyond it are refused.
        bucket_size: Size<65_536, TIB> = Size(StoreConfig::DEFAULT_BUCKET_BYTES);
    }
}

section! {
    /// Secrets of functions.
    Secrets in "secrets" {
        /// File of the key that they are sealed with, which others must not be able to read. Not
        /// set: the key in the variable QUERN_SECRETS_KEY, or none, and then none can be set or
        /// opened. Flag: --secrets-key-file.
        key_file: Option<PathBuf> = None;
    }
}

section! {
    /// Models and the devices that compute them.
    Models in "models" {
        /// Batches that the CPU computes at the same time. Not set: the number of cores. Flag:
        /// --lanes.
        lanes: Option<Count<1, 1_024>> = None;
        /// ONNX Runtime's shared library. Not set: the one in .quern/ort, which `make ort` fills,
        /// of the working directory or of a folder above the program; without one, models run on
        /// tract. Flag: --ort-library.
        ort_library: Option<PathBuf> = None;
        /// The process that loads and computes models: "in-process" is the server itself;
        /// "worker" is a process of its own, without files, network and other programs, which
        /// costs a run some tens of microseconds. A model that crashes, hangs or attacks it can do no
        /// more harm than that its calls are lost and it is started anew.
        process: ModelProcess = ModelProcess::InProcess;
        /// Memory that the worker may have beside the tensors of its runs; a model that asks for
        /// more ends it. Not set: no limit but the machine's.
        worker_memory: Option<Size<268_435_456, TIB>> = None;
        /// Longest time for one run in the worker, which is ended if it takes longer.
        worker_run_timeout: Time<100, DAY> = Time(Period::from_millis(60_000));
        /// The same for loading a model.
        worker_load_timeout: Time<100, DAY> = Time(Period::from_millis(300_000));
        /// Rows in one run of a model whose manifest does not say.
        max_batch: Count<1, 65_536> = Count(64);
        /// Calls that wait for one model; more are refused.
        max_waiting: Count<1, 1_000_000> = Count(4_096);
        /// Bytes that the inputs of the calls which wait for one model have together; calls beyond
        /// it are refused.
        waiting_memory: Size<65_536, TIB> = Size(ByteSize::mib(256));
        /// How long a call of a model may take that names no time of its own.
        timeout: Time<1, DAY> = Time(Period::from_millis(30_000));
    }
}

section! {
    /// Traffic between versions.
    Traffic in "traffic" {
        /// Copies of requests for shadows that are under way at a time, of functions and of models
        /// each; more are dropped.
        shadow_calls: Count<1, 65_536> = Count(16);
        /// Bytes that these copies have together, with the answers that they are compared with.
        shadow_memory: Size<65_536, TIB> = Size(ByteSize::mib(64));
    }
}

section! {
    /// Files of rows that are scored in the background.
    Batches in "batches" {
        /// Batches that run at a time; more wait for their turn.
        running: Count<1, 64> = Count(2);
        /// Batches that one tenant has, ended ones included; more are refused.
        max_batches: Count<1, 10_000> = Count(1_000);
        /// Largest file of rows.
        max_input: Size<1, TIB> = Size(ByteSize::mib(4 << 10));
        /// Bytes that the files and the results of one tenant's batches have together; what exceeds
        /// it is refused, and a batch that runs fails.
        storage: Size<1, TIB> = Size(ByteSize::mib(16 << 10));
        /// How long a batch that has ended is kept, with its results.
        keep: Time<1_000, { 365 * DAY }> = Time(Period::from_millis(7 * DAY));
        /// How long a call of a batch is tried again that finds no room, before the batch fails.
        patience: Time<0, { 7 * DAY }> = Time(Period::from_millis(3_600_000));
        /// Memory of the process that reads a file of Parquet; one that needs more can't be read.
        parquet_memory: Size<67_108_864, TIB> = Size(ByteSize::mib(1 << 10));
    }
}

section! {
    /// Deployments.
    Deploy in "deploy" {
        /// Largest component or model. Flag: --max-upload.
        max_upload: Size<1, TIB> = Size(ByteSize::mib(256));
        /// Versions that are kept of each function and model; the live one always is. Flag:
        /// --keep-versions.
        keep_versions: Count<1, { u32::MAX }> = Count(10);
    }
}

section! {
    /// What functions print. The newest records of each function are kept, up to both limits.
    Logs in "logs" {
        /// Records that are kept of each function. Flag: --keep-logs.
        keep_records: Count<1, { u32::MAX }> = Count(10_000);
        /// Bytes of text that the kept records of one function have together.
        keep_bytes: Size<65_536, TIB> = Size(ByteSize::mib(16));
    }
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl Written for LogFormat {
    fn written(&self) -> Option<String> {
        match self {
            Self::Text => "text".written(),
            Self::Json => "json".written(),
        }
    }
}

/// Where models are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ModelProcess {
    InProcess,
    Worker,
}

impl Written for ModelProcess {
    fn written(&self) -> Option<String> {
        match self {
            Self::InProcess => "in-process".written(),
            Self::Worker => "worker".written(),
        }
    }
}

impl Server {
    /// Whether only this machine can reach it.
    pub(crate) fn is_private(&self) -> bool {
        self.public_address().is_none()
    }

    /// An address that others than this machine may reach.
    pub(crate) fn public_address(&self) -> Option<SocketAddr> {
        let is_loopback = |address: &SocketAddr| address.ip().to_canonical().is_loopback();
        [self.listen].into_iter().chain(self.grpc_listen).find(|address| !is_loopback(address))
    }
}

impl Tls {
    /// Where certificate and key lie, if there is TLS.
    pub(crate) fn files(&self) -> Option<CertificateFiles> {
        let (certificate, key) = (self.certificate.clone()?, self.key.clone()?);
        Some(CertificateFiles { certificate, key })
    }

    pub(crate) fn limits(&self) -> HandshakeLimits {
        HandshakeLimits {
            timeout: self.handshake_timeout.0.0,
            most: usize::try_from(self.max_handshakes.0).unwrap_or(usize::MAX),
        }
    }
}

impl Http {
    pub(crate) fn limits(&self) -> EdgeLimits {
        EdgeLimits {
            connections: usize::try_from(self.max_connections.0).unwrap_or(usize::MAX),
            streams: self.max_streams.0,
            stream_requests: usize::try_from(self.max_stream_requests.0).unwrap_or(usize::MAX),
            head: self.max_head.0,
            head_timeout: self.head_timeout.0.0,
            json_body: self.max_json_body.0,
            body_memory: self.body_memory.0,
            body_stall: self.body_stall.0.0,
            body_timeout: self.body_timeout.0.0,
            write_stall: self.write_stall.0.0,
        }
    }
}

impl SharedMemory {
    pub(crate) fn config(&self) -> SharedMemoryConfig {
        SharedMemoryConfig {
            prefix: self.prefix.clone(),
            regions: usize::try_from(self.max_regions.0).unwrap_or(usize::MAX),
            region_bytes: self.max_region.0,
        }
    }
}

impl Sandbox {
    /// Linear memory for all instances: as given, or half of what there is.
    pub(crate) fn memory(&self) -> ByteSize {
        let half = || machine::memory().map_or(u64::MAX, |memory| memory.0 / 2);
        self.memory.map_or_else(|| ByteSize(half()), |size| size.0)
    }

    pub(crate) fn functions(&self) -> FunctionsConfig {
        FunctionsConfig { code_memory: self.code_memory.0, ..FunctionsConfig::default() }
    }
}

impl Outbound {
    pub(crate) fn config(&self) -> OutboundConfig {
        OutboundConfig {
            private_networks: self.private_networks.iter().map(|network| network.0).collect(),
            nameservers: self.nameservers.clone(),
            connect_timeout: self.connect_timeout.0.0,
            head_timeout: self.head_timeout.0.0,
            idle_timeout: self.idle_timeout.0.0,
        }
    }
}

impl Traffic {
    pub(crate) fn shadow(&self) -> ShadowConfig {
        ShadowConfig { calls: self.shadow_calls.0, memory: self.shadow_memory.0 }
    }
}

impl Batches {
    pub(crate) fn config(&self, directory: PathBuf) -> ScoringConfig {
        let usual = ScoringConfig::new(directory);
        let reader = ReaderConfig { memory_bytes: self.parquet_memory.0.0, ..usual.reader };
        ScoringConfig {
            directory: usual.directory,
            running: self.running.0,
            most: self.max_batches.0,
            upload: self.max_input.0,
            storage: self.storage.0,
            keep: self.keep.0.0,
            patience: self.patience.0.0,
            reader,
        }
    }
}

impl Models {
    /// Lanes of the CPU: as given, or one for each core.
    pub(crate) fn lanes(&self) -> io::Result<usize> {
        match self.lanes {
            Some(Count(lanes)) => Ok(usize::try_from(lanes).unwrap_or(usize::MAX)),
            None => Ok(std::thread::available_parallelism()?.get()),
        }
    }

    pub(crate) fn limits(&self) -> ModelsConfig {
        ModelsConfig {
            max_waiting: self.max_waiting.0,
            waiting_memory: self.waiting_memory.0,
            timeout: self.timeout.0.0,
            ..ModelsConfig::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use quern_gateway::CallerLimits;
    use quern_sandbox::SandboxConfig;

    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_parts() {
        assert_eq!(Http::default().limits(), EdgeLimits::default());
        assert_eq!(Tenants::default().limits(), CallerLimits::default());
        assert_eq!(Tls::default().limits(), HandshakeLimits::default());
        assert_eq!(SharedMemory::default().config(), SharedMemoryConfig::default());
        assert_eq!(Models::default().limits(), ModelsConfig::default());
        assert_eq!(Traffic::default().shadow(), ShadowConfig::default());
        let jobs = Background::default().config(&Webhooks::default());
        assert_eq!(jobs, quern_jobs::JobsConfig::default());
        assert_eq!(Sandbox::default().functions(), FunctionsConfig::default());
        let batches = Batches::default().config(PathBuf::new());
        assert_eq!(batches, ScoringConfig::new(PathBuf::new()));
        assert_eq!(Outbound::default().config(), OutboundConfig::default());
        let (section, sandbox) = (Sandbox::default(), SandboxConfig::new(PathBuf::new()));
        assert_eq!((section.pooling, section.instances.0), (sandbox.pooling, sandbox.instances));
    }
}
