//! Tokens, as they are made and revoked, and the record of all changes. Secrets are made here and
//! handed to whoever asked; nothing keeps them.

use std::{sync::Arc, time::SystemTime};

use quern_store::{AuditQuery, AuditRecord, Store, TenantLimitsError};
use quern_types::{
    Access, Caller, Credential, Period, Role, TenantId, TenantLimits, Token, TokenId,
};

use crate::{AccessChangeError, Deployer};

/// Longest note on a token, in characters.
const MAX_NOTE: usize = 200;
/// Longest lifetime of a token that has one: ten years.
const MAX_LIFETIME: Period = Period::from_millis(3_653 * 24 * 3_600 * 1_000);

/// What a token is to be.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Whom it acts for.
    pub tenant: TenantId,
    /// What it allows.
    pub role: Role,
    /// What to remember about it.
    pub note: String,
    /// How long it is good for; none: for ever.
    pub lifetime: Option<Period>,
}

/// Makes a token and commits it. What comes with it is its secret, which can't be had again.
pub async fn create_token(
    store: &Store,
    caller: &Caller,
    new: NewToken,
) -> Result<(Token, Credential), AccessChangeError> {
    let NewToken { tenant, role, note, lifetime } = new;
    let length = note.chars().count();
    if length > MAX_NOTE || note.chars().any(char::is_control) {
        return Err(AccessChangeError::Note { length, limit: MAX_NOTE });
    }
    if lifetime.is_some_and(|lifetime| lifetime > MAX_LIFETIME || lifetime.0.is_zero()) {
        return Err(AccessChangeError::Lifetime { limit: MAX_LIFETIME });
    }
    let mut random = [0; Credential::BYTES];
    getrandom::fill(&mut random)
        .map_err(|error| AccessChangeError::Storage { reason: error.to_string().into() })?;
    let credential = Credential::from_random(random);
    let created = SystemTime::now();
    let token = Token {
        id: credential.id(),
        tenant,
        role,
        note,
        hash: credential.hash(),
        created,
        expires: lifetime.map(|lifetime| created + lifetime.0),
    };
    store.catalog().add_token(caller, token.clone()).await?;
    tracing::info!(token = %token.id, tenant = %token.tenant, %role, "token created");
    Ok((token, credential))
}

impl Deployer {
    /// Who is let in now.
    pub fn access(&self) -> Arc<Access> {
        self.store().catalog().access()
    }

    /// Makes a token, as [`create_token`] does.
    pub async fn create_token(
        &self,
        caller: &Caller,
        new: NewToken,
    ) -> Result<(Token, Credential), AccessChangeError> {
        create_token(self.store(), caller, new).await
    }

    /// Takes a token away: once this returns, it lets nobody in.
    pub async fn revoke_token(
        &self,
        caller: &Caller,
        id: TokenId,
    ) -> Result<(), AccessChangeError> {
        self.store().catalog().revoke_token(caller, id).await?;
        tracing::info!(token = %id, "token revoked");
        Ok(())
    }

    /// Says how much a tenant may ask for; it counts from the next request on.
    pub async fn limit_tenant(
        &self,
        caller: &Caller,
        tenant: TenantId,
        limits: TenantLimits,
    ) -> Result<(), TenantLimitsError> {
        self.store().catalog().limit_tenant(caller, tenant.clone(), limits).await?;
        tracing::info!(%tenant, ?limits, "limits of a tenant changed");
        Ok(())
    }

    /// What was changed, and by whom: the newest first.
    pub async fn audit(&self, query: AuditQuery) -> Result<Vec<AuditRecord>, AccessChangeError> {
        let read = self.store().catalog().audit(query).await;
        read.map_err(|error| AccessChangeError::Storage { reason: error.to_string().into() })
    }
}
