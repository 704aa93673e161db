//! The path of a route with its names left out, so that spans of the same operation have one name.

use quern_types::Class;

use super::{Memory, Route, SharingRoute, Subject};

impl Route {
    /// Its path as docs/api.md has it.
    pub(crate) fn template(&self) -> &'static str {
        match self {
            Self::Call(_) => "/f/{name}/{path}",
            Self::Infer(target) => match target.version {
                None => "/v2/models/{name}/infer",
                Some(_) => "/v2/models/{name}/versions/{version}/infer",
            },
            Self::ModelMetadata(_) => "/v2/models/{name}",
            Self::ModelReady(_) => "/v2/models/{name}/ready",
            Self::ServerMetadata => "/v2",
            Self::ModelConfig(_) => "/v2/models/{name}/config",
            Self::Statistics(None) => "/v2/models/stats",
            Self::Statistics(Some(_)) => "/v2/models/{name}/stats",
            Self::RepositoryIndex => "/v2/repository/index",
            Self::LoadModel(_) => "/v2/repository/models/{name}/load",
            Self::UnloadModel(_) => "/v2/repository/models/{name}/unload",
            Self::Settings(subject) | Self::ChangeSettings(subject) => match subject {
                Subject::Trace(None) => "/v2/trace/setting",
                Subject::Trace(Some(_)) => "/v2/models/{name}/trace/setting",
                Subject::Log => "/v2/logging",
            },
            Self::Regions(memory, _) => {
                memory.choose("/v2/systemsharedmemory/status", "/v2/cudasharedmemory/status")
            }
            Self::RegisterRegion(memory, _) => memory.choose(
                "/v2/systemsharedmemory/region/{name}/register",
                "/v2/cudasharedmemory/region/{name}/register",
            ),
            Self::UnregisterRegions(memory, _) => memory
                .choose("/v2/systemsharedmemory/unregister", "/v2/cudasharedmemory/unregister"),
            Self::Live => "/v2/health/live",
            Self::Ready => "/v2/health/ready",
            Self::List(class) => of_class(*class, "/v1/functions", "/v1/models"),
            Self::Deploy(class, _) | Self::Show(class, _) | Self::Delete(class, _) => {
                of_class(*class, "/v1/functions/{name}", "/v1/models/{name}")
            }
            Self::Versions(class, _) => {
                of_class(*class, "/v1/functions/{name}/versions", "/v1/models/{name}/versions")
            }
            Self::DeleteVersion(class, ..) => of_class(
                *class,
                "/v1/functions/{name}/versions/{version}",
                "/v1/models/{name}/versions/{version}",
            ),
            Self::Rollback(class, _) => {
                of_class(*class, "/v1/functions/{name}/rollback", "/v1/models/{name}/rollback")
            }
            Self::Logs(_) => "/v1/functions/{name}/logs",
            Self::FunctionSettings(route) => route.template(),
            Self::Background(route) => route.template(),
            Self::Webhooks(route) => route.template(),
            Self::Batches(route) => route.template(),
            Self::Traffic(class, _, route) => route.template(*class),
            Self::Stats => "/v1/stats",
            Self::Sharing(SharingRoute::Show(class, _) | SharingRoute::Change(class, _)) => {
                of_class(*class, "/v1/functions/{name}/access", "/v1/models/{name}/access")
            }
            Self::Sharing(SharingRoute::Received) => "/v1/shared",
            Self::Tenant(_) => "/v1/tenants/{tenant}/limits",
            Self::Devices => "/v1/devices",
            Self::Tokens | Self::CreateToken => "/v1/tokens",
            Self::RevokeToken(_) => "/v1/tokens/{id}",
            Self::Audit => "/v1/audit",
            Self::Backup => "/v1/backup",
            Self::Healthz => "/healthz",
            Self::Readyz => "/readyz",
            Self::Metrics => "/metrics",
            Self::Description => "/openapi.json",
        }
    }
}

impl Memory {
    fn choose(self, system: &'static str, cuda: &'static str) -> &'static str {
        match self {
            Self::System => system,
            Self::Cuda => cuda,
        }
    }
}

fn of_class(class: Class, function: &'static str, model: &'static str) -> &'static str {
    match class {
        Class::Function => function,
        Class::Model => model,
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn names_are_left_out() {
        for (method, path, template) in [
            (
                Method::POST,
                "/v2/models/m/versions/3/infer",
                "/v2/models/{name}/versions/{version}/infer",
            ),
            (Method::GET, "/f/hello/a/b", "/f/{name}/{path}"),
            (Method::PUT, "/v1/functions/f", "/v1/functions/{name}"),
            (Method::GET, "/v1/models/f", "/v1/models/{name}"),
            (Method::GET, "/v1/tokens", "/v1/tokens"),
        ] {
            assert_eq!(Route::of(&method, path).expect(path).template(), template);
        }
    }
}
