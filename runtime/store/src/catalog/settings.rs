//! What is set for functions, as the rest of the program sees it. Values of secrets are sealed here,
//! before they are on their way to the tables.

use std::sync::Arc;

use quern_types::{Caller, Name, SecretValue, SettingKey, Settings, TenantId, VersionNumber};

use super::Catalog;
use crate::{
    ConfigChange, Gone, SettingError,
    secrets_key::SealedAs,
    settings::{ChangeConfig, SealedSecret, SetSecret, UnsetSecret, function_of},
};

impl Catalog {
    /// What is set for a function; none if nothing is.
    pub fn settings(&self, tenant: &TenantId, function: &Name) -> Option<Arc<Settings>> {
        self.shown.settings.load().of(tenant, function).cloned()
    }

    /// The same for a request that has been resolved to a version: no version runs without what
    /// was set for its function, only because that was deleted meanwhile.
    pub fn settings_for(
        &self,
        tenant: &TenantId,
        function: &Name,
        version: VersionNumber,
    ) -> Result<Option<Arc<Settings>>, Gone> {
        let all = self.shown.settings.load();
        if !all.is_used() {
            return Ok(None);
        }
        if let Some(settings) = all.of(tenant, function) {
            return Ok(Some(settings.clone()));
        }
        // Read after the settings, which go after the routes: what is still routed has lost none.
        let routes = self.shown.routes.load();
        let is_kept = routes
            .function(tenant, function)
            .is_some_and(|found| found.version(Some(version)).is_ok());
        if is_kept { Ok(None) } else { Err(Gone(version)) }
    }

    /// Changes the configuration of a function: requests that begin once this returns see it.
    pub async fn change_config(
        &self,
        caller: &Caller,
        function: &Name,
        change: ConfigChange,
    ) -> Result<(), SettingError> {
        self.submit(
            |reply| ChangeConfig::new(caller.clone(), function, change, reply),
            |reason| SettingError::Storage { reason },
        )
        .await
    }

    /// Gives a secret of a function a value, likewise; says whether it is a new one.
    pub async fn set_secret(
        &self,
        caller: &Caller,
        function: &Name,
        key: SettingKey,
        value: SecretValue,
    ) -> Result<bool, SettingError> {
        let secrets_key = self.secrets_key.as_ref().ok_or(SettingError::NoKey)?;
        let failed = |reason| SettingError::Storage { reason };
        let function = function_of(caller, function);
        let sealed_as = SealedAs::Setting { function: &function, key: &key };
        let sealed = secrets_key.seal(&sealed_as, value.expose());
        let sealed = sealed.map_err(|error| failed(error.to_string().into()))?;
        let secret = SealedSecret { key, sealed_with: secrets_key.id().clone(), sealed };
        self.submit(|reply| SetSecret::new(caller.clone(), function, secret, reply), failed).await
    }

    /// Removes a secret of a function, likewise; it takes no key to do so.
    pub async fn unset_secret(
        &self,
        caller: &Caller,
        function: &Name,
        key: SettingKey,
    ) -> Result<(), SettingError> {
        self.submit(
            |reply| UnsetSecret::new(caller.clone(), function, key, reply),
            |reason| SettingError::Storage { reason },
        )
        .await
    }
}
