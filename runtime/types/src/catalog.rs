//! What is deployed: an immutable snapshot that requests are resolved against.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    time::SystemTime,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Choice, Digest, FunctionSpec, ModelSpec, Name, Picked, Routing, Selector, Sharing, TenantId,
    UnknownVersion, VersionNumber,
};

/// The two classes of things that are deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// A function.
    Function,
    /// A model.
    Model,
}

impl Class {
    /// The word of messages, metrics and the catalog.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Function => "function",
            Self::Model => "model",
        }
    }

    /// The word of the API's paths.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Function => "functions",
            Self::Model => "models",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One immutable version of a function or model.
#[derive(Debug, Clone, PartialEq)]
pub struct Version<Spec> {
    /// Its number.
    pub number: VersionNumber,
    /// Names manifest and content together: the same digest is the same version.
    pub digest: Digest,
    /// Names its content, a component or an ONNX file, among the blobs.
    pub content: Digest,
    /// Everything else about it.
    pub spec: Arc<Spec>,
    /// When it was deployed first.
    pub created: SystemTime,
}

/// A function or model with its kept versions; one of them is live.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployed<Spec> {
    live: Arc<Version<Spec>>,
    versions: BTreeMap<VersionNumber, Arc<Version<Spec>>>,
    /// None for most: then all requests go to the live version, and choosing costs nothing.
    routing: Option<Box<Routing>>,
}

impl<Spec> Deployed<Spec> {
    /// These versions, of which `live` serves; none unless it is among them.
    pub fn new(
        versions: BTreeMap<VersionNumber, Arc<Version<Spec>>>,
        live: VersionNumber,
    ) -> Option<Self> {
        let live = versions.get(&live)?.clone();
        Some(Self { live, versions, routing: None })
    }

    /// The same with what decides where requests go; none if that names a version that is not
    /// among these.
    pub fn with_routing(mut self, routing: Routing) -> Option<Self> {
        let known = routing.versions().all(|version| self.versions.contains_key(&version));
        self.routing = (!routing.is_empty()).then(|| Box::new(routing));
        known.then_some(self)
    }

    /// What decides, beside the live version, where requests go; none if nothing does.
    pub fn routing(&self) -> Option<&Routing> {
        self.routing.as_deref()
    }

    /// The version for a request.
    pub fn pick(&self, name: &Name, choice: &Choice<'_>) -> Result<Picked, UnknownVersion> {
        let live = self.live.number;
        let asked = match (choice.selector, self.routing()) {
            (None, None) => {
                return Ok(Picked { version: live, asked: false, counted: false, shadow: None });
            }
            (None, Some(routing)) => return Ok(routing.choose(live, name, choice)),
            (Some(Selector::Live), _) => live,
            (Some(Selector::Number(number)), _) => *number,
            (Some(Selector::Alias(alias)), routing) => *routing
                .and_then(|routing| routing.aliases.get(alias))
                .ok_or_else(|| UnknownVersion::Alias(alias.clone()))?,
        };
        match self.versions.contains_key(&asked) {
            true => Ok(Picked { version: asked, asked: true, counted: false, shadow: None }),
            false => Err(UnknownVersion::Number(asked)),
        }
    }

    /// Whether a version gets requests, or copies of them, without being asked for.
    pub fn serves(&self, version: VersionNumber) -> bool {
        let traffic = self.routing().map(|routing| &routing.traffic);
        self.live.number == version
            || traffic.is_some_and(|traffic| {
                traffic.shares.as_ref().is_some_and(|shares| shares.has(version))
                    || traffic.shadow.is_some_and(|shadow| shadow.version == version)
            })
    }

    /// The version that serves.
    pub fn live(&self) -> &Arc<Version<Spec>> {
        &self.live
    }

    /// A kept version, the live one where no number is given; the error is a number that is not
    /// kept.
    pub fn version(
        &self,
        number: Option<VersionNumber>,
    ) -> Result<&Arc<Version<Spec>>, VersionNumber> {
        match number {
            None => Ok(&self.live),
            Some(number) => self.versions.get(&number).ok_or(number),
        }
    }

    /// The kept versions, oldest first.
    pub fn versions(&self) -> impl DoubleEndedIterator<Item = &Arc<Version<Spec>>> {
        self.versions.values()
    }
}

/// Everything that is deployed at one moment.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    // Shared, so that a snapshot that differs in one tenant is made without copying all others.
    tenants: HashMap<TenantId, Arc<TenantRoutes>>,
    /// How many things are public.
    public: usize,
}

/// What one tenant has deployed.
#[derive(Debug, Clone, Default)]
pub struct TenantRoutes {
    /// Functions by name.
    pub functions: BTreeMap<Name, Arc<Deployed<FunctionSpec>>>,
    /// Models by name.
    pub models: BTreeMap<Name, Arc<Deployed<ModelSpec>>>,
    shared_functions: BTreeMap<Name, Arc<Sharing>>,
    shared_models: BTreeMap<Name, Arc<Sharing>>,
}

impl TenantRoutes {
    /// Who else may call something; none if nobody may, or there is no such thing.
    pub fn sharing(&self, class: Class, name: &Name) -> Option<&Arc<Sharing>> {
        match class {
            Class::Function => self.shared_functions.get(name),
            Class::Model => self.shared_models.get(name),
        }
    }

    /// Everything that others may call, by class and name.
    pub fn shared(&self) -> impl Iterator<Item = (Class, &Name, &Arc<Sharing>)> {
        let functions = self.shared_functions.iter();
        let functions = functions.map(|(name, sharing)| (Class::Function, name, sharing));
        let models = self.shared_models.iter();
        functions.chain(models.map(|(name, sharing)| (Class::Model, name, sharing)))
    }
}

impl Routes {
    /// A function.
    pub fn function(&self, tenant: &TenantId, name: &Name) -> Option<&Arc<Deployed<FunctionSpec>>> {
        self.tenants.get(tenant)?.functions.get(name)
    }

    /// A model.
    pub fn model(&self, tenant: &TenantId, name: &Name) -> Option<&Arc<Deployed<ModelSpec>>> {
        self.tenants.get(tenant)?.models.get(name)
    }

    /// Everything of one tenant; none if it has never deployed anything.
    pub fn tenant(&self, tenant: &TenantId) -> Option<&TenantRoutes> {
        self.tenants.get(tenant).map(Arc::as_ref)
    }

    /// Everything of one tenant, to be changed.
    pub fn tenant_mut(&mut self, tenant: &TenantId) -> &mut TenantRoutes {
        Arc::make_mut(self.tenants.entry(tenant.clone()).or_default())
    }

    /// Whether one tenant may call what another has under a name. What isn't shared is looked up as
    /// what isn't there, so that nothing tells the two apart.
    pub fn is_shared(&self, owner: &TenantId, class: Class, name: &Name, with: &TenantId) -> bool {
        let sharing = self.tenants.get(owner).and_then(|tenant| tenant.sharing(class, name));
        sharing.is_some_and(|sharing| sharing.allows(with))
    }

    /// Whether anything at all may be called without a token.
    pub fn has_public(&self) -> bool {
        self.public > 0
    }

    /// Says who else may call something of a tenant.
    pub fn share(&mut self, owner: &TenantId, class: Class, name: &Name, sharing: Sharing) {
        let tenant = self.tenant_mut(owner);
        let shared = match class {
            Class::Function => &mut tenant.shared_functions,
            Class::Model => &mut tenant.shared_models,
        };
        let public = sharing.public;
        let before = match sharing.is_nothing() {
            true => shared.remove(name),
            false => shared.insert(name.clone(), Arc::new(sharing)),
        };
        self.public += usize::from(public);
        self.public -= usize::from(before.is_some_and(|before| before.public));
    }

    /// All tenants and what they have, in no order.
    pub fn tenants(&self) -> impl Iterator<Item = (&TenantId, &TenantRoutes)> {
        self.tenants.iter().map(|(tenant, routes)| (tenant, &**routes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_is_what_was_last_said() {
        let (owner, friend) = (TenantId::new("owner"), TenantId::new("friend"));
        let name: Name = "f".parse().expect("a name");
        let mut routes = Routes::default();
        let shared = |routes: &Routes, class| routes.is_shared(&owner, class, &name, &friend);
        assert!(!shared(&routes, Class::Model) && !routes.has_public());
        let named = Sharing { public: false, tenants: [friend.clone()].into() };
        let public = Sharing { public: true, ..Sharing::default() };
        for (sharing, is_shared, is_public) in [
            (named.clone(), true, false),
            (public.clone(), true, true),
            (public, true, true),
            (named, true, false),
            (Sharing::default(), false, false),
        ] {
            routes.share(&owner, Class::Model, &name, sharing);
            assert_eq!(shared(&routes, Class::Model), is_shared);
            assert_eq!(routes.has_public(), is_public);
            assert!(!shared(&routes, Class::Function), "another class is another thing");
        }
    }
}
