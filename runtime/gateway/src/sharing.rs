//! What tenants share: whose a function or model is that a caller names, if it may be called, and
//! who may, as its owner sees and changes it. What isn't shared is answered as what isn't there.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use http::Request;
use quern_dispatcher::Found;
use quern_types::{
    ByteSize, Caller, Choice, Class, Name, Picked, QualifiedName, Routes, Sharing, TenantId,
    VersionNumber,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{
    Gateway,
    access::AccessError,
    body::{self, Reply, RequestBody},
    errors::{Code, Failure},
    json_body::Form,
    query::{self, Between},
    route::{SharingRoute, Target},
};

/// Why something of another tenant can't be called, or its owner can't share it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ShareError {
    /// It is not there, or not shared with whoever asks, who can't tell which.
    #[error("{name:?} is not deployed, or not shared with tenant {tenant:?}")]
    NotShared {
        /// The name asked for.
        name: QualifiedName,
        /// Whoever asks.
        tenant: TenantId,
    },
    /// More tenants than may be named.
    #[error(
        "tenants has {count} names, {} are allowed: make it public instead",
        Sharing::MOST_TENANTS
    )]
    TooMany {
        /// How many there are.
        count: usize,
    },
}

/// Who is to be able to call something besides its owner.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccessRequest {
    /// Whether anybody may, without a token.
    public: bool,
    /// The tenants that may; it replaces those that might.
    #[schemars(length(max = 100))]
    tenants: BTreeSet<Name>,
}

/// Who may call something besides its owner.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct AccessGrants {
    /// Whether anybody may, without a token.
    public: bool,
    /// The tenants that may.
    tenants: BTreeSet<TenantId>,
}

impl AccessRequest {
    const FORM: Form =
        Form { limit: ByteSize(16 << 10), example: r#"{"public": false, "tenants": ["acme"]}"# };
}

impl From<&Sharing> for AccessGrants {
    fn from(sharing: &Sharing) -> Self {
        Self { public: sharing.public, tenants: sharing.tenants.clone() }
    }
}

/// Which part of what others share is asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SharedQuery {
    /// Only what comes after the place that another part has named as its `next`.
    after: Option<SharedPlace>,
    /// How much of it.
    #[serde(default = "page")]
    limit: Between<1, 1000>,
}

fn page() -> Between<1, 1000> {
    Between::new(100)
}

/// What others share with whoever asks, or a part of it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SharedList {
    /// In the order of tenants and names.
    shared: Vec<SharedEntry>,
    /// What to ask for the next part after; null: this is the last.
    next: Option<SharedPlace>,
}

/// Something that is shared with whoever asks.
#[derive(Debug, Serialize, JsonSchema)]
struct SharedEntry {
    /// Function or model.
    class: Class,
    /// What to call it by.
    name: QualifiedName,
    /// Its kind, such as `http`.
    kind: &'static str,
    /// The live version.
    version: VersionNumber,
}

/// A place in what others share, such as `functions/hello@acme`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct SharedPlace {
    class: Class,
    name: Name,
    owner: TenantId,
}

/// Whose something is that a caller may call, and what was deployed at the moment when that was so.
/// What is called must be found there: later something else may have the name.
pub(crate) struct Reached {
    pub(crate) owner: TenantId,
    pub(crate) routes: Arc<Routes>,
}

impl Gateway {
    /// Whose thing of a class a caller names, if the caller may call it at this moment.
    pub(crate) fn reach(
        &self,
        caller: &Caller,
        class: Class,
        name: &QualifiedName,
    ) -> Result<Reached, Failure> {
        let routes = self.dispatcher.routes();
        Ok(Reached { owner: owner(&routes, caller, class, name)?, routes })
    }

    /// Whose model or inference function a caller names, if the caller may call it at this moment.
    pub(crate) fn reach_target(
        &self,
        caller: &Caller,
        target: &Target,
    ) -> Result<Reached, Failure> {
        let routes = self.dispatcher.routes();
        Ok(Reached { owner: owner_of_target(&routes, caller, &target.name)?, routes })
    }

    /// The version that a caller names, if the caller may call it at this moment.
    pub(crate) fn find(&self, caller: &Caller, target: &Target) -> Result<Found, Failure> {
        let Reached { owner, routes } = self.reach_target(caller, target)?;
        Ok(Found::find(&routes, &owner, &target.name.name, target.version)?)
    }

    /// The same for the version that a request gets.
    pub(crate) fn choose(
        &self,
        caller: &Caller,
        target: &Target,
        choice: &Choice<'_>,
    ) -> Result<(Found, Picked), Failure> {
        let Reached { owner, routes } = self.reach_target(caller, target)?;
        Ok(Found::choose(&routes, &owner, &target.name.name, choice)?)
    }
}

fn owner_of_target(
    routes: &Routes,
    caller: &Caller,
    name: &QualifiedName,
) -> Result<TenantId, Failure> {
    // A model hides an http function of its name here, shared or not.
    let is_model = name.owner.as_ref().is_some_and(|of| routes.model(of, &name.name).is_some());
    let class = if is_model { Class::Model } else { Class::Function };
    owner(routes, caller, class, name)
}

fn owner(
    routes: &Routes,
    caller: &Caller,
    class: Class,
    name: &QualifiedName,
) -> Result<TenantId, Failure> {
    let tenant = &caller.tenant;
    match &name.owner {
        None if !caller.is_anonymous() => Ok(tenant.clone()),
        Some(owner) if owner == tenant || routes.is_shared(owner, class, &name.name, tenant) => {
            Ok(owner.clone())
        }
        _ if caller.is_anonymous() => Err(AccessError::Missing.into()),
        _ => Err(ShareError::NotShared { name: name.clone(), tenant: tenant.clone() }.into()),
    }
}

/// Answers what there is to sharing.
pub(crate) async fn answer(
    gateway: &Gateway,
    caller: &Caller,
    route: SharingRoute,
    request: Request<RequestBody>,
) -> Result<Reply, Failure> {
    match route {
        SharingRoute::Show(class, name) => show(gateway, caller, class, &name),
        SharingRoute::Change(class, name) => change(gateway, caller, class, &name, request).await,
        SharingRoute::Received => received(gateway, caller, request.uri().query()),
    }
}

fn show(gateway: &Gateway, caller: &Caller, class: Class, name: &Name) -> Result<Reply, Failure> {
    let routes = gateway.deployer.routes();
    let own = routes.tenant(&caller.tenant);
    let is_there = own.is_some_and(|own| match class {
        Class::Function => own.functions.contains_key(name),
        Class::Model => own.models.contains_key(name),
    });
    if !is_there {
        let detail = format!("{class} {name:?} is not deployed");
        return Err(Failure::new(Code::NotFound, detail));
    }
    let sharing = own.and_then(|own| own.sharing(class, name));
    Ok(body::json(&sharing.map_or_else(AccessGrants::default, |sharing| (&**sharing).into())))
}

async fn change(
    gateway: &Gateway,
    caller: &Caller,
    class: Class,
    name: &Name,
    request: Request<RequestBody>,
) -> Result<Reply, Failure> {
    let asked: AccessRequest = AccessRequest::FORM.read(gateway, request.into_body()).await?;
    let AccessRequest { public, tenants } = asked;
    if tenants.len() > Sharing::MOST_TENANTS {
        return Err(ShareError::TooMany { count: tenants.len() }.into());
    }
    let sharing = Sharing { public, tenants: tenants.iter().map(TenantId::from).collect() };
    let grants = AccessGrants::from(&sharing);
    gateway.deployer.share(caller, class, name, sharing).await?;
    Ok(body::json(&grants))
}

/// What others share with the caller by name, in the order of their names; what is public to
/// everybody is not among it, or anybody could fill anybody's list.
fn received(gateway: &Gateway, caller: &Caller, query: Option<&str>) -> Result<Reply, Failure> {
    let SharedQuery { after, limit } = query::parse(query)?;
    let limit = limit.get();
    let routes = gateway.deployer.routes();
    let mut entries = Vec::new();
    for (owner, own) in routes.tenants() {
        for (class, name, sharing) in own.shared() {
            let key = (owner.as_str(), name.as_str(), class.as_str());
            let is_next = after.as_ref().is_none_or(|after| key > after.key());
            if is_next && *owner != caller.tenant && sharing.tenants.contains(&caller.tenant) {
                entries.push((key, owner, class, name));
            }
        }
    }
    entries.sort_unstable_by_key(|(key, ..)| *key);
    let is_cut = entries.len() > limit;
    entries.truncate(limit);
    let last = entries.last().filter(|_| is_cut);
    let next = last.map(|(_, owner, class, name)| SharedPlace {
        class: *class,
        name: (*name).clone(),
        owner: (*owner).clone(),
    });
    let describe = |(_, owner, class, name): &(_, &TenantId, Class, &Name)| {
        describe_received(&routes, owner, *class, name)
    };
    let shared = entries.iter().filter_map(describe).collect();
    Ok(body::json(&SharedList { shared, next }))
}

fn describe_received(
    routes: &Routes,
    owner: &TenantId,
    class: Class,
    name: &Name,
) -> Option<SharedEntry> {
    let (kind, version) = match class {
        Class::Function => {
            let live = routes.function(owner, name)?.live();
            (live.spec.kind.as_str(), live.number)
        }
        Class::Model => ("model", routes.model(owner, name)?.live().number),
    };
    let name = QualifiedName { name: name.clone(), owner: Some(owner.clone()) };
    Some(SharedEntry { class, name, kind, version })
}

impl SharedPlace {
    fn key(&self) -> (&str, &str, &str) {
        (self.owner.as_str(), self.name.as_str(), self.class.as_str())
    }
}

impl TryFrom<String> for SharedPlace {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let parse = || {
            let (plural, name) = text.split_once('/')?;
            let classes = [Class::Function, Class::Model];
            let class = classes.into_iter().find(|class| class.plural() == plural)?;
            let QualifiedName { name, owner } = name.parse().ok()?;
            Some(Self { class, name, owner: owner? })
        };
        parse().ok_or("it is not what \"next\" of another part said")
    }
}

impl From<SharedPlace> for String {
    fn from(place: SharedPlace) -> Self {
        format!("{}/{}@{}", place.class.plural(), place.name, place.owner)
    }
}

impl JsonSchema for SharedPlace {
    fn schema_name() -> Cow<'static, str> {
        "SharedPlace".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(functions|models)/[a-z0-9._-]{1,63}@[a-z0-9._-]{1,63}$",
            "description": "A place in what others share, such as `functions/hello@acme`.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_which_part_of_the_list() {
        for text in ["after=models%2Fm%40acme&limit=3", "limit=3&after=models/m@acme"] {
            let parsed: SharedQuery = query::parse(Some(text)).expect(text);
            let after = parsed.after.expect("a place");
            assert_eq!((after.key(), parsed.limit.get()), (("acme", "m", "model"), 3_usize));
            assert_eq!(String::from(after), "models/m@acme");
        }
        for text in ["after=m", "after=models/m", "after=x/m@a", "limit=0", "limit=1001", "x=1"] {
            assert!(query::parse::<SharedQuery>(Some(text)).is_err(), "{text}");
        }
    }
}
