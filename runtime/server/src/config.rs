//! A server's configuration: defaults, overridden by a file, overridden by flags. Whatever is
//! wrong is named with its file, line and key. It builds nothing of a server.

use std::{net::SocketAddr, path::PathBuf};

use quern_gateway::KeyPrefix;
use quern_types::{LimitRules, Limits, PartialLimits};
use serde::Deserialize;

mod quantity;
mod reference;
mod reload;
mod sections;
mod source;
mod tracing;

pub(crate) use self::tracing::Tracing;
use self::tracing::TracingFlags;
use quantity::{Count, DAY, Size, TIB, Time, Written as _};
use reference::{OptionText, Section};
use sections::{
    Background, Batches, Deploy, Gpu, Http, KeyValue, Logs, Outbound, Sandbox, Secrets,
    SharedMemory, Tenants, Traffic, Webhooks,
};
pub(crate) use sections::{Cuda, Devices, LogFormat, ModelProcess, Models, Server, Tls};
pub(crate) use source::ConfigError;
use source::Source;

/// What the limits of functions are for, as the reference says it.
const ABOUT_DEFAULTS: &str = "Limits of functions whose manifests don't say. What is not set is as \
     built in, or the ceiling where that is lower.";
const ABOUT_CEILINGS: &str = "What no function can exceed. A manifest that asks for more is \
     refused; a function that was deployed under higher ceilings runs within these.";

/// Every option.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Options {
    pub(crate) server: Server,
    pub(crate) tls: Tls,
    pub(crate) http: Http,
    pub(crate) tenants: Tenants,
    pub(crate) shared_memory: SharedMemory,
    limits: LimitOptions,
    pub(crate) sandbox: Sandbox,
    pub(crate) outbound: Outbound,
    pub(crate) gpu: Gpu,
    pub(crate) keyvalue: KeyValue,
    pub(crate) secrets: Secrets,
    pub(crate) models: Models,
    pub(crate) devices: Devices,
    pub(crate) traffic: Traffic,
    pub(crate) batches: Batches,
    pub(crate) deploy: Deploy,
    pub(crate) logs: Logs,
    #[serde(rename = "async")]
    pub(crate) background: Background,
    pub(crate) webhooks: Webhooks,
    pub(crate) tracing: Tracing,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitOptions {
    defaults: PartialLimits,
    ceilings: PartialLimits,
}

/// What a server is configured by, all of it checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    pub(crate) options: Options,
    /// The limits of functions, from the options for them.
    pub(crate) limits: LimitRules,
}

/// The flags that override a configuration file.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Flags {
    /// Configuration file, which flags override; `quern config` prints one with every option
    #[arg(long, env = "QUERN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Address and port to listen on; port 0 takes a free one [default: 127.0.0.1:7700]
    #[arg(long, env = "QUERN_LISTEN", value_name = "ADDR")]
    listen: Option<SocketAddr>,

    /// Address and port to answer gRPC on, beside the one for everything, which does so as well;
    /// port 0 takes a free one [default: none]
    #[arg(long, value_name = "ADDR")]
    grpc_listen: Option<SocketAddr>,

    /// Folder for everything that is deployed; created if it is missing [default: quern-data]
    #[arg(long, env = "QUERN_DATA", value_name = "DIR")]
    data: Option<PathBuf>,

    /// File of the key that the secrets of functions are sealed with, which others must not be able
    /// to read; QUERN_SECRETS_KEY may have the key itself instead [default: none]
    #[arg(long, value_name = "FILE")]
    secrets_key_file: Option<PathBuf>,

    /// ONNX Runtime's shared library [default: the one in .quern/ort, which `make ort` fills, of
    /// the working directory or of a folder above the program; without one, models run on tract]
    #[arg(long, env = "ORT_DYLIB_PATH", value_name = "PATH")]
    ort_library: Option<PathBuf>,

    /// Let in only requests with a token, which `quern token create` makes
    #[arg(long)]
    authenticate: bool,

    /// Listen on other addresses than loopback although requests need no token
    #[arg(long)]
    insecure: bool,

    /// Listen on other addresses than loopback without TLS although requests show tokens, as
    /// behind a proxy that speaks TLS
    #[arg(long)]
    plain_http: bool,

    /// Certificate in PEM, with those that lead to a root: from then on the server speaks TLS. Read
    /// again when it changes
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,

    /// Private key of the certificate, in PEM
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,

    /// Let clients register POSIX shared memory objects whose names begin so, such as /triton-, and
    /// pass tensors in them; whoever calls the server can read and write those [default: none]
    #[arg(long, value_name = "PREFIX")]
    allow_shared_memory: Option<KeyPrefix>,

    /// Versions that are kept of each function and model; the live one always is [default: 10]
    #[arg(long, value_name = "COUNT")]
    keep_versions: Option<Count<1, { u32::MAX }>>,

    /// Log records that are kept of each function [default: 10000]
    #[arg(long, value_name = "COUNT")]
    keep_logs: Option<Count<1, { u32::MAX }>>,

    /// Largest component or model that can be deployed, with its unit [default: 256MiB]
    #[arg(long, value_name = "SIZE")]
    max_upload: Option<Size<1, TIB>>,

    /// Batches that the CPU computes at the same time [default: the number of cores]
    #[arg(long, value_name = "COUNT")]
    lanes: Option<Count<1, 1_024>>,

    /// Memory for the code of loaded functions, with its unit; where it is short, those that were
    /// called least recently are unloaded until their next call [default: 1GiB]
    #[arg(long, value_name = "SIZE")]
    code_memory: Option<Size<1, TIB>>,

    /// How logs are written [default: text]
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,

    /// Time that requests get to finish when the server is stopped, with its unit [default: 30s]
    #[arg(long, value_name = "TIME")]
    drain_timeout: Option<Time<0, DAY>>,

    #[command(flatten)]
    tracing: TracingFlags,
}

impl Flags {
    /// The configuration that a server with these flags has.
    pub(crate) fn load(self) -> Result<Config, ConfigError> {
        let source = self.config.as_deref().map(Source::read).transpose()?.unwrap_or_default();
        let mut options = source.parse()?;
        self.override_options(&mut options);
        Config::new(options, &source)
    }

    /// Has the server listen there, whatever else says where.
    pub(crate) fn listen_at(&mut self, everything: SocketAddr, grpc: Option<SocketAddr>) {
        self.listen = Some(everything);
        self.grpc_listen = grpc.or(self.grpc_listen);
    }

    fn override_options(self, options: &mut Options) {
        fn set<T>(option: &mut T, flag: Option<T>) {
            if let Some(value) = flag {
                *option = value;
            }
        }
        let Options {
            server,
            tls,
            shared_memory,
            sandbox,
            secrets,
            models,
            deploy,
            logs,
            tracing,
            ..
        } = options;
        self.tracing.override_options(tracing);
        set(&mut server.listen, self.listen);
        set(&mut server.grpc_listen, self.grpc_listen.map(Some));
        set(&mut server.data, self.data);
        server.authenticate |= self.authenticate;
        server.insecure |= self.insecure;
        server.plain_http |= self.plain_http;
        set(&mut tls.certificate, self.tls_cert.map(Some));
        set(&mut tls.key, self.tls_key.map(Some));
        set(&mut shared_memory.prefix, self.allow_shared_memory.map(Some));
        set(&mut server.log_format, self.log_format);
        set(&mut server.drain_timeout, self.drain_timeout);
        set(&mut secrets.key_file, self.secrets_key_file.map(Some));
        set(&mut sandbox.code_memory, self.code_memory);
        set(&mut models.lanes, self.lanes.map(Some));
        set(&mut models.ort_library, self.ort_library.map(Some));
        set(&mut deploy.max_upload, self.max_upload);
        set(&mut deploy.keep_versions, self.keep_versions);
        set(&mut logs.keep_records, self.keep_logs);
    }
}

impl Config {
    /// Checks what no option can check by itself.
    fn new(options: Options, source: &Source) -> Result<Self, ConfigError> {
        let limits = limits(&options, source)?;
        let Http { max_json_body, body_memory, .. } = &options.http;
        if max_json_body.0 > body_memory.0 {
            let (json, memory) = (max_json_body.0.exact(), body_memory.0.exact());
            let given =
                if source.has("http.body_memory") { "body_memory" } else { "max_json_body" };
            return Err(source.refuse(
                &format!("http.{given}"),
                format!(
                    "one body of max_json_body ({json}) finds no room in body_memory ({memory}): \
                     raise body_memory, or lower max_json_body"
                ),
            ));
        }
        let Background { attempts, max_attempts, age, max_age, .. } = &options.background;
        if attempts.0 > max_attempts.0 {
            let reason =
                format!("{} is above async.max_attempts of {}", attempts.0, max_attempts.0);
            return Err(source.refuse("async.attempts", reason));
        }
        if age.0 > max_age.0 {
            let reason = format!("{} is above async.max_age of {}", age.0, max_age.0);
            return Err(source.refuse("async.age", reason));
        }
        if options.server.authenticate && options.shared_memory.prefix.is_some() {
            let reason = "regions of shared memory belong to no tenant, so that any token could \
                          read and write them: leave it out where requests need tokens";
            return Err(source.refuse("shared_memory.prefix", reason.into()));
        }
        let (missing, given) = match &options.tls {
            Tls { certificate: Some(_), key: None, .. } => ("tls.key", "certificate"),
            Tls { certificate: None, key: Some(_), .. } => ("tls.certificate", "key"),
            _ => return Ok(Self { options, limits }),
        };
        Err(source.refuse(missing, format!("is not set although tls.{given} is: TLS takes both")))
    }

    /// The whole configuration as a commented file.
    pub(crate) fn text(&self) -> String {
        reference::text(&self.sections())
    }

    fn sections(&self) -> Vec<Section> {
        let Options {
            server,
            tls,
            http,
            tenants,
            shared_memory,
            limits: _,
            sandbox,
            outbound,
            gpu,
            ..
        } = &self.options;
        let Options {
            keyvalue,
            secrets,
            models,
            devices,
            traffic,
            batches,
            deploy,
            logs,
            background,
            webhooks,
            tracing,
            ..
        } = &self.options;
        let (set, built_in) = (&self.limits, LimitRules::default());
        vec![
            server.section(),
            tls.section(),
            http.section(),
            tenants.section(),
            shared_memory.section(),
            limits_section("limits.defaults", ABOUT_DEFAULTS, &set.defaults, &built_in.defaults),
            limits_section("limits.ceilings", ABOUT_CEILINGS, &set.ceilings, &built_in.ceilings),
            sandbox.section(),
            outbound.section(),
            gpu.section(),
            keyvalue.section(),
            secrets.section(),
            models.section(),
            devices.section(),
            traffic.section(),
            batches.section(),
            deploy.section(),
            logs.section(),
            background.section(),
            webhooks.section(),
            tracing.section(),
        ]
    }
}

/// The rules on limits. What is given must fit together; what is not given follows.
fn limits(options: &Options, source: &Source) -> Result<LimitRules, ConfigError> {
    let LimitOptions { defaults, ceilings } = &options.limits;
    for (table, limits) in [("defaults", defaults), ("ceilings", ceilings)] {
        if let Some(name) = limits.zero() {
            let key = format!("limits.{table}.{name}");
            return Err(source.refuse(&key, "is zero: nothing could run".into()));
        }
    }
    let refuse = |key: &str, value: Option<String>, most: Option<String>, of: &str| {
        let (value, most) = (value.unwrap_or_default(), most.unwrap_or_default());
        source.refuse(key, format!("{value} is above {of} of {most}"))
    };
    let mut most = Limits::CEILING;
    if let Some((name, value, ceiling)) = ceilings.above(&most) {
        let key = format!("limits.ceilings.{name}");
        return Err(refuse(&key, value.written(), ceiling.written(), "the built-in ceiling"));
    }
    if options.sandbox.pooling {
        most.concurrency = most.concurrency.min(options.sandbox.instances.0);
    }
    if let Some((name, value, instances)) = ceilings.above(&most) {
        let key = format!("limits.ceilings.{name}");
        return Err(refuse(&key, value.written(), instances.written(), "sandbox.instances"));
    }
    let ceilings = ceilings.or(&most);
    if let Some((name, value, ceiling)) = defaults.above(&ceilings) {
        let key = format!("limits.defaults.{name}");
        return Err(refuse(&key, value.written(), ceiling.written(), "its ceiling"));
    }
    let defaults = defaults.or(&Limits::default().capped(&ceilings));
    Ok(LimitRules { defaults, ceilings, gpu_memory: options.gpu.max_memory.0 })
}

fn limits_section(
    path: &'static str,
    about: &'static str,
    limits: &Limits,
    built_in: &Limits,
) -> Section {
    let both = limits.described().into_iter().zip(built_in.described());
    let options = both.map(|(set, built_in)| OptionText {
        key: set.name,
        meaning: set.meaning,
        default: built_in.value.written(),
        value: set.value.written(),
    });
    Section { path, about, options: options.collect() }
}

#[cfg(test)]
mod tests;
