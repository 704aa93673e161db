//! Traffic between versions over HTTP: shares, aliases and canaries. Reads what is asked for and
//! writes how things are; it decides nothing.

mod view;

use http::StatusCode;
use quern_deploy::{CanaryEnd, NewCanary};
use quern_types::{
    ByteSize, Caller, CanaryLimits, Class, Name, Share, Shares, Steps, Sticky, Traffic,
    VersionNumber,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    Gateway,
    body::{self, Reply, ReplyBody, RequestBody},
    errors::Failure,
    json_body::Form,
    route::TrafficRoute,
};
pub(crate) use view::{AliasReply, CanaryReply, TrafficReply};

/// Bytes of what is asked for.
const LIMIT: ByteSize = ByteSize(16 << 10);

/// Which versions requests are to go to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrafficRequest {
    /// The shares, which add up to 100; a version with all of it becomes live.
    #[schemars(length(min = 1, max = 8))]
    versions: Vec<Share>,
    /// What keeps requests together; each goes its own way if it isn't said.
    sticky: Option<Sticky>,
}

impl TrafficRequest {
    const FORM: Form = Form {
        limit: LIMIT,
        example: r#"{"versions": [{"version": 1, "percent": 90}, {"version": 2, "percent": 10}]}"#,
    };
}

/// Which version is to have a name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AliasRequest {
    /// The version.
    version: VersionNumber,
}

impl AliasRequest {
    const FORM: Form = Form { limit: LIMIT, example: r#"{"version": 2}"# };
}

/// What a canary is to be.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CanaryRequest {
    /// The new version.
    version: VersionNumber,
    /// Its growing shares, and how long it has each of them.
    #[serde(default)]
    steps: Steps,
    /// What counts as worse.
    #[serde(default)]
    limits: CanaryLimits,
}

impl CanaryRequest {
    const FORM: Form =
        Form { limit: LIMIT, example: r#"{"version": 2, "steps": "5% 10m, 25% 10m, 100%"}"# };
}

/// Answers what concerns the traffic of a name.
pub(crate) async fn answer(
    gateway: &Gateway,
    caller: &Caller,
    (class, name): (Class, Name),
    route: TrafficRoute,
    body: RequestBody,
) -> Result<Reply, Failure> {
    let deployer = &gateway.deployer;
    match route {
        TrafficRoute::Show => show(gateway, caller, class, &name),
        TrafficRoute::Set => {
            let TrafficRequest { versions, sticky } =
                TrafficRequest::FORM.read(gateway, body).await?;
            let shares = Some(Shares::new(versions)?);
            let traffic = Traffic { shares, sticky, shadow: None };
            deployer.set_traffic(caller, class, &name, traffic).await?;
            show(gateway, caller, class, &name)
        }
        TrafficRoute::SetAlias(alias) => {
            let AliasRequest { version } = AliasRequest::FORM.read(gateway, body).await?;
            deployer.set_alias(caller, class, &name, (alias.clone(), version)).await?;
            Ok(body::json(&AliasReply { alias, version }))
        }
        TrafficRoute::RemoveAlias(alias) => {
            deployer.remove_alias(caller, class, &name, alias).await?;
            let mut reply = Reply::new(ReplyBody::empty());
            *reply.status_mut() = StatusCode::NO_CONTENT;
            Ok(reply)
        }
        TrafficRoute::Canary => {
            let canary = deployer.canary(&caller.tenant, class, &name)?;
            Ok(body::json(&CanaryReply::from(&canary)))
        }
        TrafficRoute::StartCanary => {
            let CanaryRequest { version, steps, limits } =
                CanaryRequest::FORM.read(gateway, body).await?;
            let new = NewCanary { version, steps, limits };
            let started = deployer.start_canary(caller, class, &name, new).await?;
            let mut reply = body::json(&CanaryReply::from(&started));
            *reply.status_mut() = StatusCode::CREATED;
            Ok(reply)
        }
        TrafficRoute::AbortCanary => {
            let ended = deployer.end_canary(caller, class, &name, CanaryEnd::Abort).await?;
            Ok(body::json(&CanaryReply::from(&ended)))
        }
        TrafficRoute::PromoteCanary => {
            let ended = deployer.end_canary(caller, class, &name, CanaryEnd::Promote).await?;
            Ok(body::json(&CanaryReply::from(&ended)))
        }
    }
}

fn show(gateway: &Gateway, caller: &Caller, class: Class, name: &Name) -> Result<Reply, Failure> {
    let traffic = TrafficReply::of(gateway, &caller.tenant, class, name)?;
    Ok(body::json(&traffic))
}
