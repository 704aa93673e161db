//! Which operation a method and a path mean. Knows nothing of what is deployed.

use http::Method;
use percent_encoding::percent_decode_str;
use quern_types::{Class, InvalidName, InvalidTokenId, Name, TokenId, VersionNumber};

/// An operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// `ANY /f/{name}/…`
    Call(Name),
    /// `POST /v2/models/{name}[/versions/{version}]/infer`
    Infer(Target),
    /// `GET /v2/models/{name}[/versions/{version}]`
    ModelMetadata(Target),
    /// `GET /v2/models/{name}[/versions/{version}]/ready`
    ModelReady(Target),
    /// `GET /v2`
    ServerMetadata,
    /// `GET /v2/models/{name}[/versions/{version}]/config`
    ModelConfig(Target),
    /// `GET /v2/models[/{name}[/versions/{version}]]/stats`
    Statistics(Option<Target>),
    /// `POST /v2/repository/index`
    RepositoryIndex,
    /// `POST /v2/repository/models/{name}/load`
    LoadModel(Name),
    /// `POST /v2/repository/models/{name}/unload`
    UnloadModel(Name),
    /// `GET` of the settings of something
    Settings(Subject),
    /// `POST` to the settings of something
    ChangeSettings(Subject),
    /// `GET /v2/{system,cuda}sharedmemory[/region/{region}]/status`
    Regions(Memory, Option<String>),
    /// `POST /v2/{system,cuda}sharedmemory/region/{region}/register`
    RegisterRegion(Memory, String),
    /// `POST /v2/{system,cuda}sharedmemory[/region/{region}]/unregister`
    UnregisterRegions(Memory, Option<String>),
    /// `GET /v2/health/live`
    Live,
    /// `GET /v2/health/ready`
    Ready,
    /// `PUT /v1/{class}/{name}`
    Deploy(Class, Name),
    /// `GET /v1/{class}`
    List(Class),
    /// `GET /v1/{class}/{name}`
    Show(Class, Name),
    /// `DELETE /v1/{class}/{name}`
    Delete(Class, Name),
    /// `GET /v1/{class}/{name}/versions`
    Versions(Class, Name),
    /// `POST /v1/{class}/{name}/rollback`
    Rollback(Class, Name),
    /// `GET /v1/functions/{name}/logs`
    Logs(Name),
    /// `GET /v1/devices`
    Devices,
    /// `GET /v1/tokens`
    Tokens,
    /// `POST /v1/tokens`
    CreateToken,
    /// `DELETE /v1/tokens/{id}`
    RevokeToken(TokenId),
    /// `GET /v1/audit`
    Audit,
    /// `GET /healthz`
    Healthz,
    /// `GET /readyz`
    Readyz,
    /// `GET /metrics`
    Metrics,
}

/// A model or an inference function, and the version asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) name: Name,
    /// None: the live one.
    pub(crate) version: Option<VersionNumber>,
}

impl Target {
    /// What a name and a version mean that were given on their own; an empty version is none.
    pub(crate) fn parse(name: &str, version: &str) -> Result<Self, RouteError> {
        let version = Some(version).filter(|version| !version.is_empty());
        let version = version.map(parse_version).transpose()?;
        Ok(Self { name: name.parse()?, version })
    }
}

/// What has settings in the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    /// `/v2[/models/{name}]/trace/setting`
    Trace(Option<Name>),
    /// `/v2/logging`
    Log,
}

/// The memory that a region is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// The machine's.
    System,
    /// A device's.
    Cuda,
}

/// Why a method and a path mean nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RouteError {
    /// There is no such path.
    #[error("nothing answers at {path:?}: see docs/api.md for what does")]
    NotFound {
        /// The path.
        path: String,
    },
    /// The path takes other methods.
    #[error("{path:?} does not take {method}, but {allow}")]
    MethodNotAllowed {
        /// The path.
        path: String,
        /// The method asked for.
        method: Method,
        /// The methods that it takes.
        allow: &'static str,
    },
    /// The request is none of gRPC's, at an address that is for nothing else.
    #[error("only gRPC is answered at this address")]
    GrpcOnly,
    /// A name in the path is malformed.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A name in the path is percent-encoded.
    #[error("name {name:?} is percent-encoded: names consist of characters that need no encoding")]
    EncodedName {
        /// The name.
        name: String,
    },
    /// What should name a token doesn't.
    #[error(transparent)]
    Token(#[from] InvalidTokenId),
    /// A region's name in the path is no text.
    #[error("name of the region {name:?} is not UTF-8 once it is decoded")]
    RegionName {
        /// The name as it came.
        name: String,
    },
    /// A version in the path is no number.
    #[error("version {version:?} is not a number: versions are 1, 2, …")]
    Version {
        /// What stands in its place.
        version: String,
    },
}

/// What a path takes, with the route of each method.
enum Methods {
    Get(Route),
    Post(Route),
    /// Tokens: get and post.
    Tokens,
    /// One token: delete.
    Token(TokenId),
    /// Settings: get and post.
    Settings(Subject),
    /// A name of a class: get, put and delete.
    Name(Class, Name),
}

/// Most segments of a path outside of `/f`.
const MAX_SEGMENTS: usize = 6;

impl Route {
    /// The route of a method and a path.
    pub(crate) fn of(method: &Method, path: &str) -> Result<Self, RouteError> {
        if let Some(rest) = path.strip_prefix("/f/") {
            let name = rest.split_once('/').map_or(rest, |(name, _)| name);
            return parse_name(name, path).map(Self::Call);
        }
        let not_allowed = |allow| RouteError::MethodNotAllowed {
            path: shorten(path),
            method: method.clone(),
            allow,
        };
        match (find(path)?, method) {
            (Methods::Get(route), &Method::GET | &Method::HEAD) => Ok(route),
            (Methods::Post(route), &Method::POST) => Ok(route),
            (Methods::Settings(subject), &Method::GET | &Method::HEAD) => {
                Ok(Self::Settings(subject))
            }
            (Methods::Settings(subject), &Method::POST) => Ok(Self::ChangeSettings(subject)),
            (Methods::Name(class, name), &Method::GET | &Method::HEAD) => {
                Ok(Self::Show(class, name))
            }
            (Methods::Name(class, name), &Method::PUT) => Ok(Self::Deploy(class, name)),
            (Methods::Name(class, name), &Method::DELETE) => Ok(Self::Delete(class, name)),
            (Methods::Tokens, &Method::GET | &Method::HEAD) => Ok(Self::Tokens),
            (Methods::Tokens, &Method::POST) => Ok(Self::CreateToken),
            (Methods::Token(id), &Method::DELETE) => Ok(Self::RevokeToken(id)),
            (Methods::Token(_), _) => Err(not_allowed("DELETE")),
            (Methods::Get(_), _) => Err(not_allowed("GET, HEAD")),
            (Methods::Post(_), _) => Err(not_allowed("POST")),
            (Methods::Settings(_) | Methods::Tokens, _) => Err(not_allowed("GET, HEAD, POST")),
            (Methods::Name(..), _) => Err(not_allowed("GET, HEAD, PUT, DELETE")),
        }
    }
}

fn find(path: &str) -> Result<Methods, RouteError> {
    use Methods::{Get, Post};

    let not_found = || RouteError::NotFound { path: shorten(path) };
    let mut segments = [""; MAX_SEGMENTS];
    let mut count = 0;
    for segment in path.strip_prefix('/').ok_or_else(not_found)?.split('/') {
        *segments.get_mut(count).ok_or_else(not_found)? = segment;
        count += 1;
    }
    let name = |name| parse_name(name, path);
    Ok(match segments[..count] {
        ["v2", ref rest @ ..] => find_v2(rest, path)?,
        ["v1", "tokens"] => Methods::Tokens,
        ["v1", "tokens", id] => Methods::Token(id.parse()?),
        ["v1", "audit"] => Get(Route::Audit),
        ["v1", "devices"] => Get(Route::Devices),
        ["v1", "functions", function, "logs"] => Get(Route::Logs(name(function)?)),
        ["v1", plural, ref rest @ ..] => {
            let class = match plural {
                "functions" => Class::Function,
                "models" => Class::Model,
                _ => return Err(not_found()),
            };
            match *rest {
                [] => Get(Route::List(class)),
                [deployed] => Methods::Name(class, name(deployed)?),
                [deployed, "versions"] => Get(Route::Versions(class, name(deployed)?)),
                [deployed, "rollback"] => Post(Route::Rollback(class, name(deployed)?)),
                _ => return Err(not_found()),
            }
        }
        ["healthz"] => Get(Route::Healthz),
        ["readyz"] => Get(Route::Readyz),
        ["metrics"] => Get(Route::Metrics),
        _ => return Err(not_found()),
    })
}

/// What the Open Inference Protocol and its extensions have below `/v2`.
fn find_v2(rest: &[&str], path: &str) -> Result<Methods, RouteError> {
    use Methods::{Get, Post, Settings};

    let name = |name| parse_name(name, path);
    let target = |target, version: Option<&str>| {
        let version = version.map(parse_version).transpose()?;
        name(target).map(|name| Target { name, version })
    };
    let of_model = |target: Target, operation: Option<&str>| match operation {
        None => Some(Get(Route::ModelMetadata(target))),
        Some("infer") => Some(Post(Route::Infer(target))),
        Some("ready") => Some(Get(Route::ModelReady(target))),
        Some("config") => Some(Get(Route::ModelConfig(target))),
        Some("stats") => Some(Get(Route::Statistics(Some(target)))),
        Some(_) => None,
    };
    let found = match *rest {
        [] => Some(Get(Route::ServerMetadata)),
        ["health", "live"] => Some(Get(Route::Live)),
        ["health", "ready"] => Some(Get(Route::Ready)),
        // Before the metadata of a model of that name, as the protocol has it.
        ["models", "stats"] => Some(Get(Route::Statistics(None))),
        ["models", model, "trace", "setting"] => Some(Settings(Subject::Trace(Some(name(model)?)))),
        ["models", model, "versions", version, ref operation @ ..] if operation.len() < 2 => {
            of_model(target(model, Some(version))?, operation.first().copied())
        }
        ["models", model, ref operation @ ..] if operation.len() < 2 => {
            of_model(target(model, None)?, operation.first().copied())
        }
        ["trace", "setting"] => Some(Settings(Subject::Trace(None))),
        ["logging"] => Some(Settings(Subject::Log)),
        ["repository", "index"] => Some(Post(Route::RepositoryIndex)),
        ["repository", "models", model, "load"] => Some(Post(Route::LoadModel(name(model)?))),
        ["repository", "models", model, "unload"] => Some(Post(Route::UnloadModel(name(model)?))),
        ["systemsharedmemory", ref rest @ ..] => find_region(Memory::System, rest)?,
        ["cudasharedmemory", ref rest @ ..] => find_region(Memory::Cuda, rest)?,
        _ => None,
    };
    found.ok_or_else(|| RouteError::NotFound { path: shorten(path) })
}

/// What there is to regions of a memory.
fn find_region(memory: Memory, rest: &[&str]) -> Result<Option<Methods>, RouteError> {
    use Methods::{Get, Post};

    Ok(match *rest {
        ["status"] => Some(Get(Route::Regions(memory, None))),
        ["unregister"] => Some(Post(Route::UnregisterRegions(memory, None))),
        ["region", "", _] => None,
        ["region", region, "status"] => {
            Some(Get(Route::Regions(memory, Some(parse_region(region)?))))
        }
        ["region", region, "register"] => {
            Some(Post(Route::RegisterRegion(memory, parse_region(region)?)))
        }
        ["region", region, "unregister"] => {
            Some(Post(Route::UnregisterRegions(memory, Some(parse_region(region)?))))
        }
        _ => None,
    })
}

/// A region's name, which may be any text and is encoded where a path can't have it.
fn parse_region(name: &str) -> Result<String, RouteError> {
    let decoded = percent_decode_str(name).decode_utf8();
    decoded.map(Into::into).map_err(|_| RouteError::RegionName { name: shorten(name) })
}

fn parse_name(name: &str, path: &str) -> Result<Name, RouteError> {
    if name.is_empty() {
        return Err(RouteError::NotFound { path: shorten(path) });
    }
    if name.contains('%') {
        return Err(RouteError::EncodedName { name: shorten(name) });
    }
    Ok(name.parse()?)
}

fn parse_version(version: &str) -> Result<VersionNumber, RouteError> {
    let digits = version.bytes().all(|byte| byte.is_ascii_digit());
    let number = version.parse().ok().filter(|_| digits);
    number.ok_or_else(|| RouteError::Version { version: shorten(version) })
}

/// A caller's text, cut to a length for messages.
fn shorten(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    fn token(text: &str) -> TokenId {
        text.parse().expect("a token's id")
    }

    fn target(text: &str, version: Option<u32>) -> Target {
        Target { name: name(text), version: version.and_then(VersionNumber::new) }
    }

    #[test]
    fn every_call_of_the_api_has_its_route() {
        let (function, model) = (Class::Function, Class::Model);
        let cases = [
            ("GET /f/hello", Route::Call(name("hello"))),
            ("GET /f/hello/", Route::Call(name("hello"))),
            ("PATCH /f/hello/a/b%2f/../c", Route::Call(name("hello"))),
            ("POST /v2/models/m/infer", Route::Infer(target("m", None))),
            ("POST /v2/models/m/versions/3/infer", Route::Infer(target("m", Some(3)))),
            ("POST /v2/models/infer/infer", Route::Infer(target("infer", None))),
            ("GET /v2/models/m", Route::ModelMetadata(target("m", None))),
            ("GET /v2/models/m/versions/1", Route::ModelMetadata(target("m", Some(1)))),
            ("GET /v2/models/m/ready", Route::ModelReady(target("m", None))),
            ("GET /v2/models/m/versions/1/ready", Route::ModelReady(target("m", Some(1)))),
            ("GET /v2", Route::ServerMetadata),
            ("GET /v2/models/m/config", Route::ModelConfig(target("m", None))),
            ("GET /v2/models/m/versions/2/config", Route::ModelConfig(target("m", Some(2)))),
            ("GET /v2/models/stats", Route::Statistics(None)),
            ("GET /v2/models/m/stats", Route::Statistics(Some(target("m", None)))),
            ("GET /v2/models/stats/stats", Route::Statistics(Some(target("stats", None)))),
            ("GET /v2/models/m/versions/2/stats", Route::Statistics(Some(target("m", Some(2))))),
            ("POST /v2/repository/index", Route::RepositoryIndex),
            ("POST /v2/repository/models/m/load", Route::LoadModel(name("m"))),
            ("POST /v2/repository/models/m/unload", Route::UnloadModel(name("m"))),
            ("GET /v2/trace/setting", Route::Settings(Subject::Trace(None))),
            (
                "POST /v2/models/m/trace/setting",
                Route::ChangeSettings(Subject::Trace(Some(name("m")))),
            ),
            ("HEAD /v2/logging", Route::Settings(Subject::Log)),
            ("POST /v2/logging", Route::ChangeSettings(Subject::Log)),
            ("GET /v2/systemsharedmemory/status", Route::Regions(Memory::System, None)),
            (
                "GET /v2/cudasharedmemory/region/a%20%2fb/status",
                Route::Regions(Memory::Cuda, Some("a /b".into())),
            ),
            (
                "POST /v2/systemsharedmemory/region/%C3%A9/register",
                Route::RegisterRegion(Memory::System, "é".into()),
            ),
            ("POST /v2/cudasharedmemory/unregister", Route::UnregisterRegions(Memory::Cuda, None)),
            (
                "POST /v2/systemsharedmemory/region/a/unregister",
                Route::UnregisterRegions(Memory::System, Some("a".into())),
            ),
            ("HEAD /v2/health/live", Route::Live),
            ("GET /v2/health/ready", Route::Ready),
            ("PUT /v1/functions/f", Route::Deploy(function, name("f"))),
            ("PUT /v1/models/m", Route::Deploy(model, name("m"))),
            ("GET /v1/functions", Route::List(function)),
            ("HEAD /v1/models", Route::List(model)),
            ("GET /v1/functions/f", Route::Show(function, name("f"))),
            ("DELETE /v1/models/m", Route::Delete(model, name("m"))),
            ("GET /v1/models/m/versions", Route::Versions(model, name("m"))),
            ("POST /v1/functions/f/rollback", Route::Rollback(function, name("f"))),
            ("GET /v1/functions/f/logs", Route::Logs(name("f"))),
            ("GET /v1/functions/logs", Route::Show(function, name("logs"))),
            ("GET /v1/devices", Route::Devices),
            ("GET /v1/tokens", Route::Tokens),
            ("POST /v1/tokens", Route::CreateToken),
            ("DELETE /v1/tokens/0123456789abcdef", Route::RevokeToken(token("0123456789abcdef"))),
            ("GET /v1/audit", Route::Audit),
            ("GET /healthz", Route::Healthz),
            ("GET /readyz", Route::Readyz),
            ("HEAD /metrics", Route::Metrics),
        ];
        for (call, route) in cases {
            let (method, path) = call.split_once(' ').expect("method and path");
            let method = method.parse().expect("a method");
            assert_eq!(Route::of(&method, path), Ok(route), "{call}");
        }
    }

    #[test]
    fn a_target_is_a_name_and_perhaps_a_version() {
        assert_eq!(Target::parse("m", ""), Ok(target("m", None)));
        assert_eq!(Target::parse("m", "3"), Ok(target("m", Some(3))));
        for (name, version) in [("", ""), ("M", "1"), ("m", "0"), ("m", "one")] {
            assert!(Target::parse(name, version).is_err(), "{name:?} {version:?}");
        }
    }

    #[test]
    fn what_has_no_route_is_named() {
        let nothing =
            |path: &str| format!("nothing answers at {path:?}: see docs/api.md for what does");
        for path in [
            "/",
            "",
            "*",
            "/f",
            "/f/",
            "/f//a",
            "/v1",
            "/v2/",
            "/v2/models",
            "/v1/functions/",
            "/v1/functions/f/",
            "/v1/models/m/logs",
            "/v1/gadgets",
            "/v1/devices/0",
            "/healthz/",
            "/v2/models/m/infer/",
            "/v2/models//infer",
            "/v2/models/m/versions/1/infer/x/y",
            "/v2/models/m/versions",
            "/v2/models/m/explain",
            "/v2/models/m/trace",
            "/v2/systemsharedmemory",
            "/v2/systemsharedmemory/region//status",
            "/v2/systemsharedmemory/region/a",
            "/v2/repository/models/m",
            "/V1/functions",
        ] {
            let error = Route::of(&Method::GET, path).expect_err(path);
            assert_eq!(error.to_string(), nothing(path));
        }
        let cases = [
            ("POST /healthz", "\"/healthz\" does not take POST, but GET, HEAD"),
            ("GET /v2/models/m/infer", "\"/v2/models/m/infer\" does not take GET, but POST"),
            (
                "PATCH /v1/models/m",
                "\"/v1/models/m\" does not take PATCH, but GET, HEAD, PUT, DELETE",
            ),
            ("PUT /v2/logging", "\"/v2/logging\" does not take PUT, but GET, HEAD, POST"),
            ("OPTIONS /v1/models", "\"/v1/models\" does not take OPTIONS, but GET, HEAD"),
            ("PUT /v1/tokens", "\"/v1/tokens\" does not take PUT, but GET, HEAD, POST"),
            (
                "GET /v1/tokens/0123456789abcdef",
                "\"/v1/tokens/0123456789abcdef\" does not take GET, but DELETE",
            ),
            (
                "DELETE /v1/tokens/x",
                "token \"x\" is not valid: it is named by 16 digits of 0-9 and a-f",
            ),
            (
                "GET /f/Hello",
                "name \"Hello\" is not valid: use 1 to 63 of a-z, 0-9, '-', '_' and '.', \
                 beginning and ending with a letter or digit",
            ),
            (
                "PUT /v1/functions/a%20b",
                "name \"a%20b\" is percent-encoded: names consist of characters that need no \
                 encoding",
            ),
            (
                "POST /v2/models/m/versions/latest/infer",
                "version \"latest\" is not a number: versions are 1, 2, …",
            ),
            ("GET /v2/models/m/versions/0", "version \"0\" is not a number: versions are 1, 2, …"),
            (
                "GET /v2/systemsharedmemory/region/%ff/status",
                "name of the region \"%ff\" is not UTF-8 once it is decoded",
            ),
            (
                "GET /v2/models/m/versions/+1",
                "version \"+1\" is not a number: versions are 1, 2, …",
            ),
        ];
        for (call, message) in cases {
            let (method, path) = call.split_once(' ').expect("method and path");
            let method = method.parse().expect("a method");
            let error = Route::of(&method, path).expect_err(call);
            assert_eq!(error.to_string(), message, "{call}");
        }
    }
}
