//! The guest as a function in a sandbox, with a grant and a device.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty};
use quern_sandbox::{Function, HttpFunction, Report, Sandbox, SandboxConfig, Services};
use quern_types::{
    ByteSize, Call, Deadline, Digest, FunctionKind, FunctionSpec, GpuGrant, InvocationId,
    InvokeError, Limits, Period,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    kernels::{Kernels, Patience},
    support::{owner, services},
};

/// How long a test may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// The guest on a device.
pub(crate) struct Guest {
    function: Arc<HttpFunction>,
    pub(crate) kernels: Arc<Kernels>,
    pub(crate) sandbox: Sandbox,
    pub(crate) component: Vec<u8>,
    _folder: TempDir,
}

/// A specification with so much memory of a device.
pub(crate) fn granting(memory: ByteSize) -> FunctionSpec {
    let mut spec = FunctionSpec::new(FunctionKind::Http);
    spec.limits = Limits { cpu: Period::from_millis(60_000), ..spec.limits };
    spec.grants.gpu = Some(GpuGrant { memory, share: Default::default(), device: None });
    spec
}

impl Guest {
    pub(crate) fn new() -> Self {
        Self::with(&granting(ByteSize::mib(16)), GpuGrant::CEILING, Patience::Prompt)
    }

    /// A guest of this specification, on a node whose operator allows so much of the device.
    pub(crate) fn with(spec: &FunctionSpec, ceiling: ByteSize, patience: Patience) -> Self {
        Self::of("guests/wasm32-wasip2/release/tensors.wasm", spec, ceiling, patience)
    }

    /// Another component, by its file in the folder of what is built.
    pub(crate) fn built(file: &str) -> Self {
        Self::of(file, &granting(ByteSize::mib(64)), GpuGrant::CEILING, Patience::Prompt)
    }

    fn of(file: &str, spec: &FunctionSpec, ceiling: ByteSize, patience: Patience) -> Self {
        let target = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target");
        let path = PathBuf::from(target).join(file);
        let component = std::fs::read(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; `make guests` builds it", path.display()));
        let folder = TempDir::new().expect("a folder");
        let config = SandboxConfig {
            pooling: false,
            instances: 8,
            gpu_memory: ceiling,
            ..SandboxConfig::new(folder.path().join("artifacts"))
        };
        let kernels = Kernels::new(patience);
        let services = Services { kernels: Some(kernels.clone()), ..services() };
        let sandbox =
            Sandbox::new(config, services, &prometheus::Registry::new()).expect("a sandbox");
        let content = Digest::of(&component);
        sandbox.validate(&component, spec).expect("valid");
        sandbox.compile(&content, &component, spec).expect("compiles");
        let function = sandbox.load(&owner("guest"), &content, spec).expect("loads");
        let Some(Function::Http(function)) = function else { panic!("serves HTTP") };
        Self { function, kernels, sandbox, component, _folder: folder }
    }

    /// What the guest answers, and how it went.
    pub(crate) async fn call(&self, path: &str) -> (Result<Value, InvokeError>, Report) {
        self.call_within(PATIENCE, path).await
    }

    /// The same with another deadline.
    pub(crate) async fn call_within(
        &self,
        patience: Duration,
        path: &str,
    ) -> (Result<Value, InvokeError>, Report) {
        let (answer, report) = self.send(Method::GET, patience, path).await;
        let json = |answer: Response<Bytes>| serde_json::from_slice(answer.body()).expect("JSON");
        (answer.map(json), report)
    }

    /// The whole answer to a request of another method.
    pub(crate) async fn post(&self, path: &str) -> Response<Bytes> {
        self.send(Method::POST, PATIENCE, path).await.0.expect(path)
    }

    async fn send(
        &self,
        method: Method,
        patience: Duration,
        path: &str,
    ) -> (Result<Response<Bytes>, InvokeError>, Report) {
        let id: InvocationId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().expect("an id");
        let deadline = Deadline::after(Instant::now(), patience);
        let (tenant, priority, trace) = Default::default();
        let call = Call { id, tenant, deadline, priority, trace, settings: None };
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let request = Request::builder().method(method).uri(format!("http://host/{path}"));
        let request = request.body(body).expect("a request");
        let (sender, reported) = tokio::sync::oneshot::channel::<Report>();
        let deliver = move |report| drop(sender.send(report));
        let answer = match self.function.call(call, request, deliver).await {
            Ok(response) => {
                let (head, body) = response.into_parts();
                let body = body.collect().await.expect("all of it").to_bytes();
                Ok(Response::from_parts(head, body))
            }
            Err(error) => Err(error),
        };
        (answer, reported.await.expect("is reported"))
    }

    /// What the guest says went well.
    pub(crate) async fn ok(&self, path: &str) -> Value {
        let answer = self.call(path).await.0.expect(path);
        answer.get("ok").unwrap_or_else(|| panic!("{path}: {answer}")).clone()
    }

    /// The kind and the message of an error that the guest was given.
    pub(crate) async fn refused(&self, path: &str) -> (String, String) {
        let answer = self.call(path).await.0.expect(path);
        let text = |part: &str| answer["error"][part].as_str().map(str::to_owned);
        match (text("kind"), text("message")) {
            (Some(kind), Some(message)) => (kind, message),
            _ => panic!("{path}: {answer}"),
        }
    }
}
