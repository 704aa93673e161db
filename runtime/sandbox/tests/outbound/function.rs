//! The guest as a function in a sandbox, with grants, limits and an operator's configuration.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use http::Request;
use http_body_util::{BodyExt, Empty};
use quern_sandbox::{
    Function, HttpFunction, OutboundConfig, OutputStream, Piece, Report, Sandbox, SandboxConfig,
};
use quern_types::{
    Call, Deadline, Digest, FunctionKind, FunctionSpec, InvocationId, Priority, TenantId, Trace,
};
use tempfile::TempDir;

use crate::support::{owner, services};

/// How long a test may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server's functions, all of the same guest.
pub(crate) struct Host {
    sandbox: Sandbox,
    registry: prometheus::Registry,
    component: Vec<u8>,
    _folder: TempDir,
}

/// One function.
pub(crate) struct Guest(Arc<HttpFunction>);

/// What an invocation answered, a line for each request, and what was logged of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) lines: Vec<String>,
    pub(crate) log: String,
    pub(crate) failed: bool,
}

/// A configuration that allows these networks and waits for nothing.
pub(crate) fn allowing(networks: &[&str]) -> OutboundConfig {
    let networks = networks.iter().map(|network| network.parse().expect("a network"));
    OutboundConfig { private_networks: networks.collect(), ..OutboundConfig::default() }
}

/// A specification with these origins granted.
pub(crate) fn granting<S: AsRef<str>>(origins: &[S]) -> FunctionSpec {
    let mut spec = FunctionSpec::new(FunctionKind::Http);
    spec.grants.http =
        origins.iter().map(|origin| origin.as_ref().parse().expect("an origin")).collect();
    spec
}

impl Host {
    pub(crate) fn new(outbound: OutboundConfig) -> Self {
        let guests =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/guests/wasm32-wasip2/release");
        let path = PathBuf::from(guests).join("outbound.wasm");
        let component = std::fs::read(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; `make guests` builds it", path.display()));
        let folder = TempDir::new().expect("a folder");
        let config = SandboxConfig {
            pooling: false,
            instances: 8,
            outbound,
            ..SandboxConfig::new(folder.path().join("artifacts"))
        };
        let registry = prometheus::Registry::new();
        let sandbox = Sandbox::new(config, services(), &registry).expect("a sandbox");
        Self { sandbox, registry, component, _folder: folder }
    }

    pub(crate) fn function(&self, spec: &FunctionSpec) -> Guest {
        let content = Digest::of(&self.component);
        self.sandbox.validate(&self.component, spec).expect("valid");
        self.sandbox.compile(&content, &self.component, spec).expect("compiles");
        let function = self
            .sandbox
            .load(&owner("guest"), &content, spec)
            .expect("loads")
            .expect("was compiled");
        let Function::Http(function) = function else { panic!("serves HTTP") };
        Guest(function)
    }

    /// What sends the server's own requests.
    pub(crate) fn courier(&self) -> Arc<dyn quern_types::Courier> {
        self.sandbox.courier()
    }

    /// A counter of outbound requests.
    pub(crate) fn counter(&self, name: &str, outcome: Option<&str>) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).expect("is registered");
        let counts = family.get_metric().iter().filter(|metric| {
            outcome.is_none_or(|outcome| metric.get_label().iter().any(|l| l.value() == outcome))
        });
        counts.map(|metric| metric.get_counter().get_value() as u64).sum()
    }
}

impl Guest {
    /// Calls the guest with a query, and awaits its end.
    pub(crate) async fn fetch(&self, query: &str) -> Outcome {
        self.fetch_within(PATIENCE, query).await
    }

    /// The same with another deadline.
    pub(crate) async fn fetch_within(&self, patience: Duration, query: &str) -> Outcome {
        let id: InvocationId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().expect("an id");
        let deadline = Deadline::after(Instant::now(), patience);
        let call = Call {
            id,
            tenant: TenantId::default(),
            deadline,
            priority: Priority::default(),
            trace: Trace::default(),
            settings: None,
        };
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let request = Request::get(format!("http://host/?{query}")).body(body).expect("a request");
        let (sender, reported) = tokio::sync::oneshot::channel::<Report>();
        let deliver = move |report| drop(sender.send(report));
        let text = match self.0.call(call, request, deliver).await {
            Ok(response) => match response.into_body().collect().await {
                Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        let report = reported.await.expect("is reported");
        let of_system = |piece: &Piece| match piece {
            Piece::Printed { stream: OutputStream::System, bytes } => {
                Some(String::from_utf8_lossy(bytes).into_owned())
            }
            _ => None,
        };
        let log = report.output.pieces.iter().filter_map(of_system).collect();
        let lines = text.lines().map(str::to_owned).collect();
        Outcome { lines, log, failed: report.failure.is_some() }
    }

    /// The outcome of a single request.
    pub(crate) async fn line(&self, query: &str) -> String {
        let outcome = self.fetch(query).await;
        let [line] = &outcome.lines[..] else { panic!("{outcome:?}") };
        line.clone()
    }
}
