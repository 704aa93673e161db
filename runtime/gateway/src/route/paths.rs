//! What answers at a path: the table of the API.

use percent_encoding::percent_decode_str;
use quern_types::{Class, Name, QualifiedName, VersionNumber};

use super::{
    Memory, Route, RouteError, SharingRoute, Subject, Target, TenantRoute, background, batches,
    methods::Methods, settings, shorten, traffic, webhooks,
};

/// Most segments of a path outside of `/f`.
const MAX_SEGMENTS: usize = 6;

/// What a path takes.
pub(super) fn find(path: &str) -> Result<Methods, RouteError> {
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
        ["v1", "tokens"] => Methods::get(Route::Tokens).and_post(Route::CreateToken),
        ["v1", "tokens", id] => Methods::delete(Route::RevokeToken(id.parse()?)),
        ["v1", area @ ("invocations" | "dead-letters" | "schedules"), ref rest @ ..] => {
            background::find(area, rest)?.ok_or_else(not_found)?
        }
        ["v1", area @ ("webhooks" | "deliveries"), ref rest @ ..] => {
            webhooks::find(area, rest, path)?.ok_or_else(not_found)?
        }
        ["v1", "audit"] => Methods::get(Route::Audit),
        ["v1", "backup"] => Methods::post(Route::Backup),
        ["v1", "tenants", tenant, "limits"] => TenantRoute::limits_of((&name(tenant)?).into()),
        ["v1", "shared"] => Methods::get(Route::Sharing(SharingRoute::Received)),
        ["v1", "stats"] => Methods::get(Route::Stats),
        ["v1", "batches", ref rest @ ..] => batches::find(rest)?.ok_or_else(not_found)?,
        ["v1", "devices"] => Methods::get(Route::Devices),
        ["v1", "functions", function, "logs"] => Methods::get(Route::Logs(name(function)?)),
        ["v1", "functions", function, ref rest @ ..]
            if matches!(rest, ["config" | "secrets", ..]) =>
        {
            settings::find(function, rest, path)?.ok_or_else(not_found)?
        }
        ["v1", plural, ref rest @ ..] => {
            let class = match plural {
                "functions" => Class::Function,
                "models" => Class::Model,
                _ => return Err(not_found()),
            };
            match *rest {
                [] => Methods::get(Route::List(class)),
                [deployed] => {
                    let name = name(deployed)?;
                    Methods::get(Route::Show(class, name.clone()))
                        .and_put(Route::Deploy(class, name.clone()))
                        .and_delete(Route::Delete(class, name))
                }
                [deployed, "versions"] => Methods::get(Route::Versions(class, name(deployed)?)),
                [deployed, "versions", version] => {
                    let (name, version) = (name(deployed)?, parse_version(version)?);
                    Methods::delete(Route::DeleteVersion(class, name, version))
                }
                [deployed, "access"] => SharingRoute::of(class, name(deployed)?),
                [deployed, "rollback"] => Methods::post(Route::Rollback(class, name(deployed)?)),
                [deployed, area @ ("traffic" | "aliases" | "canary"), ref rest @ ..] => {
                    let found = traffic::find(area, rest, path)?;
                    found.ok_or_else(not_found)?.of(class, &name(deployed)?)
                }
                _ => return Err(not_found()),
            }
        }
        ["healthz"] => Methods::get(Route::Healthz),
        ["readyz"] => Methods::get(Route::Readyz),
        ["metrics"] => Methods::get(Route::Metrics),
        ["openapi.json"] => Methods::get(Route::Description),
        _ => return Err(not_found()),
    })
}

/// What the Open Inference Protocol and its extensions have below `/v2`.
fn find_v2(rest: &[&str], path: &str) -> Result<Methods, RouteError> {
    let name = |name| parse_name(name, path);
    let target = |target, version: Option<&str>| {
        let version = version.map(parse_version).transpose()?;
        parse_qualified(target, path).map(|name| Target { name, version })
    };
    let settings = |subject: Subject| {
        Methods::get(Route::Settings(subject.clone())).and_post(Route::ChangeSettings(subject))
    };
    let of_model = |target: Target, operation: Option<&str>| match operation {
        None => Some(Methods::get(Route::ModelMetadata(target))),
        Some("infer") => Some(Methods::post(Route::Infer(target))),
        Some("ready") => Some(Methods::get(Route::ModelReady(target))),
        Some("config") => Some(Methods::get(Route::ModelConfig(target))),
        // What was counted is its owner's alone.
        Some("stats") if target.name.owner.is_some() => None,
        Some("stats") => Some(Methods::get(Route::Statistics(Some(target)))),
        Some(_) => None,
    };
    let found = match *rest {
        [] => Some(Methods::get(Route::ServerMetadata)),
        ["health", "live"] => Some(Methods::get(Route::Live)),
        ["health", "ready"] => Some(Methods::get(Route::Ready)),
        // Before the metadata of a model of that name, as the protocol has it.
        ["models", "stats"] => Some(Methods::get(Route::Statistics(None))),
        ["models", model, "trace", "setting"] => Some(settings(Subject::Trace(Some(name(model)?)))),
        ["models", model, "versions", version, ref operation @ ..] if operation.len() < 2 => {
            of_model(target(model, Some(version))?, operation.first().copied())
        }
        ["models", model, ref operation @ ..] if operation.len() < 2 => {
            of_model(target(model, None)?, operation.first().copied())
        }
        ["trace", "setting"] => Some(settings(Subject::Trace(None))),
        ["logging"] => Some(settings(Subject::Log)),
        ["repository", "index"] => Some(Methods::post(Route::RepositoryIndex)),
        ["repository", "models", model, "load"] => {
            Some(Methods::post(Route::LoadModel(name(model)?)))
        }
        ["repository", "models", model, "unload"] => {
            Some(Methods::post(Route::UnloadModel(name(model)?)))
        }
        ["systemsharedmemory", ref rest @ ..] => find_region(Memory::System, rest)?,
        ["cudasharedmemory", ref rest @ ..] => find_region(Memory::Cuda, rest)?,
        _ => None,
    };
    found.ok_or_else(|| RouteError::NotFound { path: shorten(path) })
}

/// What there is to regions of a memory.
fn find_region(memory: Memory, rest: &[&str]) -> Result<Option<Methods>, RouteError> {
    Ok(match *rest {
        ["status"] => Some(Methods::get(Route::Regions(memory, None))),
        ["unregister"] => Some(Methods::post(Route::UnregisterRegions(memory, None))),
        ["region", "", _] => None,
        ["region", region, "status"] => {
            Some(Methods::get(Route::Regions(memory, Some(parse_region(region)?))))
        }
        ["region", region, "register"] => {
            Some(Methods::post(Route::RegisterRegion(memory, parse_region(region)?)))
        }
        ["region", region, "unregister"] => {
            Some(Methods::post(Route::UnregisterRegions(memory, Some(parse_region(region)?))))
        }
        _ => None,
    })
}

/// A region's name, which may be any text and is encoded where a path can't have it.
fn parse_region(name: &str) -> Result<String, RouteError> {
    let decoded = percent_decode_str(name).decode_utf8();
    decoded.map(Into::into).map_err(|_| RouteError::RegionName { name: shorten(name) })
}

/// A name that stands in a path.
pub(super) fn parse_name(name: &str, path: &str) -> Result<Name, RouteError> {
    if name.is_empty() {
        return Err(RouteError::NotFound { path: shorten(path) });
    }
    if name.contains('%') {
        return Err(RouteError::EncodedName { name: shorten(name) });
    }
    Ok(name.parse()?)
}

/// A name that stands in a path and may be another tenant's. Many clients encode the `@` in it.
pub(super) fn parse_qualified(name: &str, path: &str) -> Result<QualifiedName, RouteError> {
    match name.split_once('@').or_else(|| name.split_once("%40")) {
        None => Ok(parse_name(name, path)?.into()),
        Some((name, owner)) => {
            let (name, owner) = (parse_name(name, path)?, parse_name(owner, path)?);
            Ok(QualifiedName { name, owner: Some((&owner).into()) })
        }
    }
}

/// A version that is a number, and nothing else.
pub(super) fn parse_version(version: &str) -> Result<VersionNumber, RouteError> {
    let digits = version.bytes().all(|byte| byte.is_ascii_digit());
    let number = version.parse().ok().filter(|_| digits);
    number.ok_or_else(|| RouteError::Version { version: shorten(version) })
}
