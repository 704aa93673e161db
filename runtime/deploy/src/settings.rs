//! What is set for functions beside their versions. Hands on to the store, which seals secrets and
//! checks limits; what is logged of a change has no value in it.

use std::sync::Arc;

use quern_store::{ConfigChange, SettingError};
use quern_types::{Caller, FunctionSpec, Name, SecretValue, SettingKey, Settings, TenantId};

use crate::Deployer;

/// What is set for a function, and what it comes before.
#[derive(Debug, Clone)]
pub struct FunctionSettings {
    /// What is set; none if nothing is.
    pub settings: Option<Arc<Settings>>,
    /// The live version, with what its manifest configures.
    pub live: Arc<FunctionSpec>,
}

impl Deployer {
    /// What is set for a function.
    pub fn settings(
        &self,
        tenant: &TenantId,
        function: &Name,
    ) -> Result<FunctionSettings, SettingError> {
        let routes = self.routes();
        let deployed = routes
            .function(tenant, function)
            .ok_or_else(|| SettingError::NotFound { function: function.clone() })?;
        let settings = self.store().catalog().settings(tenant, function);
        Ok(FunctionSettings { settings, live: deployed.live().spec.clone() })
    }

    /// Changes the configuration of a function.
    pub async fn change_config(
        &self,
        caller: &Caller,
        function: &Name,
        change: ConfigChange,
    ) -> Result<(), SettingError> {
        self.store().catalog().change_config(caller, function, change).await?;
        tracing::info!(tenant = %caller.tenant, %function, "config changed");
        Ok(())
    }

    /// Gives a secret of a function a value; says whether it is a new one.
    pub async fn set_secret(
        &self,
        caller: &Caller,
        function: &Name,
        key: SettingKey,
        value: SecretValue,
    ) -> Result<bool, SettingError> {
        let catalog = self.store().catalog();
        let created = catalog.set_secret(caller, function, key.clone(), value).await?;
        tracing::info!(tenant = %caller.tenant, %function, %key, "secret set");
        Ok(created)
    }

    /// Removes a secret of a function.
    pub async fn unset_secret(
        &self,
        caller: &Caller,
        function: &Name,
        key: SettingKey,
    ) -> Result<(), SettingError> {
        self.store().catalog().unset_secret(caller, function, key.clone()).await?;
        tracing::info!(tenant = %caller.tenant, %function, %key, "secret removed");
        Ok(())
    }
}
