//! Whom functions and models are shared with, as their owners change it.

use quern_store::SharingError;
use quern_types::{Caller, Class, Name, Sharing};

use crate::Deployer;

impl Deployer {
    /// Says who else may call something of the caller's tenant; it counts from the next request on.
    pub async fn share(
        &self,
        caller: &Caller,
        class: Class,
        name: &Name,
        sharing: Sharing,
    ) -> Result<(), SharingError> {
        let (public, tenants) = (sharing.public, sharing.tenants.len());
        self.store().catalog().share(caller, class, name, sharing).await?;
        tracing::info!(tenant = %caller.tenant, %class, %name, public, tenants, "sharing changed");
        Ok(())
    }
}
