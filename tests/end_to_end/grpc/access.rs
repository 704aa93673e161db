//! Tokens over gRPC: the same as over HTTP, in metadata.

use quern_gateway::protocol::{ServerLiveRequest, ServerLiveResponse};
use tonic::{Code, Request};

use super::Client;
use crate::access::{Guarded, ROLES};

/// Every call, with the least role that may make it; none: anybody may.
const CALLS: &[(&str, Option<&str>)] = &[
    ("ServerLive", None),
    ("ServerReady", None),
    ("ModelReady", Some("invoker")),
    ("ServerMetadata", Some("invoker")),
    ("ModelMetadata", Some("invoker")),
    ("ModelInfer", Some("invoker")),
    ("ModelStreamInfer", Some("invoker")),
    ("ModelConfig", Some("invoker")),
    ("ModelStatistics", Some("invoker")),
    ("RepositoryIndex", Some("invoker")),
    ("TraceSetting", Some("invoker")),
    ("LogSettings", Some("invoker")),
    ("RepositoryModelLoad", Some("deployer")),
    ("RepositoryModelUnload", Some("deployer")),
    ("SystemSharedMemoryStatus", Some("admin")),
    ("SystemSharedMemoryRegister", Some("admin")),
    ("SystemSharedMemoryUnregister", Some("admin")),
    ("CudaSharedMemoryStatus", Some("admin")),
    ("CudaSharedMemoryRegister", Some("admin")),
    ("CudaSharedMemoryUnregister", Some("admin")),
];

#[tokio::test]
async fn calls_take_tokens_as_requests_do() {
    let guarded = Guarded::start();
    let client = Client::new(guarded.server.url());
    let mut tokens = Vec::new();
    for role in ROLES {
        tokens.push(guarded.token("acme", role).await);
    }
    // An empty message is one of every kind; what is answered to it doesn't matter here.
    let code = async |call: &str, authorization: Option<String>| {
        let mut request = Request::new(ServerLiveRequest {});
        if let Some(text) = authorization {
            request.metadata_mut().insert("authorization", text.parse().expect("a value"));
        }
        let sent = client.send::<_, ServerLiveResponse>(call, request).await;
        sent.map_or_else(|status| status.code(), |_| Code::Ok)
    };
    let unknown = format!("Bearer quern_{}_{}", "0".repeat(16), "0".repeat(64));
    for (call, least) in CALLS {
        let Some(least) = least else {
            assert_eq!(code(call, None).await, Code::Ok, "{call}");
            continue;
        };
        assert_eq!(code(call, None).await, Code::Unauthenticated, "{call}");
        assert_eq!(code(call, Some(unknown.clone())).await, Code::Unauthenticated, "{call}");
        for (role, token) in ROLES.iter().zip(&tokens) {
            let rank = |role: &str| ROLES.iter().position(|other| *other == role);
            let code = code(call, Some(format!("Bearer {token}"))).await;
            let is_forbidden = code == Code::PermissionDenied;
            assert_eq!(is_forbidden, rank(role) < rank(least), "{call} as {role}: {code}");
            assert_ne!(code, Code::Unauthenticated, "{call} as {role}");
        }
    }
}
