//! Where requests go: shares, aliases and canaries, as they are set by whoever deploys. Never
//! chooses for a request, and never decides whether a canary goes on.

use quern_store::{TrafficChange, TrafficError};
use quern_types::{
    Caller, Canary, CanaryLimits, CanaryState, Class, InvalidTraffic, Name, Shares, Steps,
    TenantId, Traffic, VersionNumber,
};

use crate::{
    CanaryStatus, Deployer,
    canary::{self, now_us},
    model,
};

/// What a canary is to be.
#[derive(Debug, Clone)]
pub struct NewCanary {
    /// The new version.
    pub version: VersionNumber,
    /// What it is to get, and for how long.
    pub steps: Steps,
    /// What counts as worse.
    pub limits: CanaryLimits,
}

/// How somebody ends a canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CanaryEnd {
    /// The new version gets everything at once.
    Promote,
    /// The old one does.
    Abort,
}

/// Why traffic was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrafficChangeError {
    /// It makes no sense, whatever is deployed.
    #[error(transparent)]
    Invalid(#[from] InvalidTraffic),
    /// A limit of a canary makes no sense.
    #[error("{reason}")]
    Limits {
        /// Which one, and what it may be.
        reason: String,
    },
    /// What is deployed, or set already, does not allow it.
    #[error(transparent)]
    Traffic(#[from] TrafficError),
}

impl Deployer {
    /// Sets the shares of versions, and what goes with them.
    pub async fn set_traffic(
        &self,
        caller: &Caller,
        class: Class,
        name: &Name,
        traffic: Traffic,
    ) -> Result<(), TrafficChangeError> {
        traffic.check()?;
        let shares = traffic.shares.iter().flat_map(Shares::iter).map(|share| share.version);
        let shadow = traffic.shadow.map(|shadow| shadow.version);
        let versions: Vec<_> = shares.chain(shadow).collect();
        self.prepare(caller, class, name, &versions).await;
        self.change(caller, class, name, TrafficChange::Set(traffic)).await?;
        tracing::info!(tenant = %caller.tenant, %class, %name, "traffic set");
        Ok(())
    }

    /// Names a version.
    pub async fn set_alias(
        &self,
        caller: &Caller,
        class: Class,
        name: &Name,
        (alias, version): (Name, VersionNumber),
    ) -> Result<(), TrafficChangeError> {
        let change = TrafficChange::SetAlias { alias: alias.clone(), version };
        self.change(caller, class, name, change).await?;
        tracing::info!(tenant = %caller.tenant, %class, %name, %alias, %version, "alias set");
        Ok(())
    }

    /// Takes a name away from its version.
    pub async fn remove_alias(
        &self,
        caller: &Caller,
        class: Class,
        name: &Name,
        alias: Name,
    ) -> Result<(), TrafficChangeError> {
        let change = TrafficChange::RemoveAlias { alias: alias.clone() };
        self.change(caller, class, name, change).await?;
        tracing::info!(tenant = %caller.tenant, %class, %name, %alias, "alias removed");
        Ok(())
    }

    /// Gives a new version the share of its first step, and goes on from there by itself.
    pub async fn start_canary(
        &self,
        caller: &Caller,
        class: Class,
        name: &Name,
        new: NewCanary,
    ) -> Result<CanaryStatus, TrafficChangeError> {
        let NewCanary { version, steps, limits } = new;
        let limits = limits.checked().map_err(|reason| TrafficChangeError::Limits { reason })?;
        self.prepare(caller, class, name, &[version]).await;
        let started_us = now_us();
        let canary = Canary {
            version,
            // What is live when it starts is what it is compared with; the catalog puts it in.
            from: version,
            steps,
            limits,
            started_us,
            token: caller.token,
            state: CanaryState::Running { step: 0, since_us: started_us },
        };
        self.change(caller, class, name, TrafficChange::StartCanary(canary)).await?;
        tracing::info!(tenant = %caller.tenant, %class, %name, %version, "canary started");
        self.parts.canaries.note(key(&caller.tenant, class, name), &self.parts);
        self.canary(&caller.tenant, class, name)
    }

    /// The last canary of a name.
    pub fn canary(
        &self,
        tenant: &TenantId,
        class: Class,
        name: &Name,
    ) -> Result<CanaryStatus, TrafficChangeError> {
        let (routes, key) = (self.routes(), key(tenant, class, name));
        let canary = canary::find(&routes, &key).ok_or_else(|| {
            let is_deployed = match class {
                Class::Function => routes.function(tenant, name).is_some(),
                Class::Model => routes.model(tenant, name).is_some(),
            };
            let name = name.clone();
            match is_deployed {
                true => TrafficError::NoCanary { class, name },
                false => TrafficError::NotFound { class, name },
            }
        })?;
        Ok(self.parts.canaries.status(&key, canary))
    }

    /// Ends a canary by somebody's word.
    pub async fn end_canary(
        &self,
        caller: &Caller,
        class: Class,
        name: &Name,
        end: CanaryEnd,
    ) -> Result<CanaryStatus, TrafficChangeError> {
        loop {
            let CanaryStatus { canary, .. } = self.canary(&caller.tenant, class, name)?;
            let version = canary.version;
            let at_us = now_us();
            let to = match end {
                CanaryEnd::Promote => {
                    CanaryState::Promoted { at_us, reason: "it was asked for".into() }
                }
                CanaryEnd::Abort => {
                    CanaryState::Aborted { at_us, reason: "it was asked for".into() }
                }
            };
            let was = canary.as_ref().clone();
            let change = TrafficChange::MoveCanary { canary: was, to };
            match self.change(caller, class, name, change).await {
                Ok(()) => {
                    let tenant = &caller.tenant;
                    tracing::info!(%tenant, %class, %name, %version, ?end, "canary ended");
                    match end {
                        CanaryEnd::Promote => self.parts.ended.promoted.inc(),
                        CanaryEnd::Abort => self.parts.ended.aborted.inc(),
                    }
                    self.parts.canaries.note(key(tenant, class, name), &self.parts);
                    return self.canary(tenant, class, name);
                }
                // It went on to its next step meanwhile, which changes nothing about the wish.
                Err(TrafficError::NoCanary { .. })
                    if self.canary(&caller.tenant, class, name)?.canary.step().is_some() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Has versions loaded whose manifests ask for a warm-up, before requests meet them.
    async fn prepare(
        &self,
        caller: &Caller,
        class: Class,
        name: &Name,
        versions: &[VersionNumber],
    ) {
        if class == Class::Model {
            for version in versions {
                model::prepare(&self.parts, &caller.tenant, name, *version).await;
            }
        }
    }

    async fn change(
        &self,
        caller: &Caller,
        class: Class,
        name: &Name,
        change: TrafficChange,
    ) -> Result<(), TrafficError> {
        self.parts.store.catalog().change_traffic(caller, class, name, change).await
    }
}

fn key(tenant: &TenantId, class: Class, name: &Name) -> (TenantId, Class, Name) {
    (tenant.clone(), class, name.clone())
}
