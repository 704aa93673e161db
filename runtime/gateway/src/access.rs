//! Who calls, and whether they may: tokens of requests become callers here, before anything else
//! is read. Nothing behind it asks again whether something is allowed.

use std::{net::IpAddr, time::SystemTime};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, GetAll},
};
use quern_types::{
    Caller, Credential, CredentialError, InvalidName, Name, Role, TenantId, TokenId,
};

use crate::{
    Gateway,
    errors::Failure,
    limiter::{Charge, LimitError, Permit, Refusal},
};

/// The tenant that an admin acts for in a request, if not its own.
const TENANT: HeaderName = HeaderName::from_static("quern-tenant");

/// What a request takes of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing: anybody may ask whether the server is alive.
    Nothing,
    /// A token with this role, or one above it.
    Role(Role),
    /// A token with any role, or none at all where what is named turns out to be public.
    Open,
}

impl Needs {
    pub(crate) const INVOKER: Self = Self::Role(Role::Invoker);
    pub(crate) const DEPLOYER: Self = Self::Role(Role::Deployer);
    pub(crate) const ADMIN: Self = Self::Role(Role::Admin);
}

/// Why a request is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AccessError {
    /// It shows nothing.
    #[error("a token is needed: send it as \"Authorization: Bearer {}…\"", Credential::PREFIX)]
    Missing,
    /// What it shows is no token.
    #[error(
        "the Authorization header is none of this server's: send one \"Bearer {}…\"",
        Credential::PREFIX
    )]
    Malformed,
    /// The token lets nobody in.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The token allows less.
    #[error("this takes the role {needed}: token {token} has the role {role}")]
    Role {
        /// The role that it takes.
        needed: Role,
        /// The token.
        token: TokenId,
        /// Its role.
        role: Role,
    },
    /// The header that names a tenant doesn't.
    #[error("header {TENANT}: {0}")]
    TenantName(#[from] InvalidName),
    /// The header that names a tenant is given more than once, or is no text.
    #[error("header {TENANT} is not one name")]
    TenantHeader,
    /// Another tenant's.
    #[error("token {token} acts for tenant {own:?} alone: only an admin's acts for another")]
    Tenant {
        /// The token.
        token: TokenId,
        /// Its tenant.
        own: TenantId,
    },
}

impl AccessError {
    /// What it is counted as, and whether it may have been a guess.
    fn refusal(&self) -> (Refusal, bool) {
        match self {
            Self::Missing => (Refusal::Missing, true),
            Self::Malformed => (Refusal::Malformed, true),
            Self::Credential(CredentialError::Unknown) => (Refusal::Unknown, true),
            Self::Credential(CredentialError::Expired { .. }) => (Refusal::Expired, true),
            Self::Role { .. } => (Refusal::Role, false),
            Self::Tenant { .. } | Self::TenantName(_) | Self::TenantHeader => {
                (Refusal::Tenant, false)
            }
        }
    }
}

impl Gateway {
    /// Whoever sends these headers from an address, if that is enough for what it asks.
    pub(crate) fn admit(
        &self,
        headers: &HeaderMap,
        needs: Needs,
        address: IpAddr,
    ) -> Result<Caller, Failure> {
        if !self.config.authenticate {
            return Ok(self.unasked.clone());
        }
        self.identify(headers, needs).map_err(|error| self.refuse(error, address))
    }

    /// Charges a caller with a request, which is under way until the permit is dropped. Servers that
    /// ask for no tokens know no tenants, and so no limits of theirs.
    pub(crate) fn charge(
        &self,
        caller: &Caller,
        charge: Charge,
        address: IpAddr,
    ) -> Result<Permit, LimitError> {
        if !self.config.authenticate || charge == Charge::Nothing {
            return Ok(Permit::NONE);
        }
        if caller.is_anonymous() {
            let permit = self.limiter.anonymous(&caller.tenant, address)?;
            // A stream is no call: each of its requests is.
            return Ok(if charge == Charge::Call { permit } else { Permit::NONE });
        }
        match charge {
            Charge::Call => {
                let own = self.deployer.access().limits(&caller.tenant);
                self.limiter.call(&caller.tenant, own)
            }
            // Whoever runs the server can always reach it.
            _ if caller.role == Role::Admin => Ok(Permit::NONE),
            _ => self.limiter.control(&caller.tenant).map(|()| Permit::NONE),
        }
    }

    /// Whether a caller's token still lets it in.
    pub(crate) fn still_admits(&self, caller: &Caller) -> Result<(), AccessError> {
        let token = caller.token.filter(|_| self.config.authenticate);
        match token {
            Some(token) if !self.deployer.access().holds(token, SystemTime::now()) => {
                Err(CredentialError::Unknown.into())
            }
            _ => Ok(()),
        }
    }

    /// Counts and tells that a request is not let in. Where too many such come from one address, it
    /// is told that instead of why; a good token is let in from there all the same, or whoever
    /// shares the address, as behind a proxy, would be locked out.
    pub(crate) fn refuse(&self, error: AccessError, address: IpAddr) -> Failure {
        let (refusal, is_guess) = error.refusal();
        if let Err(limited) = self.limiter.refused(refusal, is_guess.then_some(address)) {
            return limited.into();
        }
        if refusal != Refusal::Missing && self.limiter.may_log() {
            tracing::info!(%address, reason = refusal.as_str(), %error, "request not let in");
        }
        error.into()
    }

    fn identify(&self, headers: &HeaderMap, needs: Needs) -> Result<Caller, AccessError> {
        let needed = match needs {
            Needs::Nothing => return Ok(self.anonymous.clone()),
            Needs::Role(needed) => needed,
            Needs::Open if self.takes_anybody(headers) => return Ok(self.anonymous.clone()),
            Needs::Open => Role::Invoker,
        };
        let credential = credential(headers.get_all(AUTHORIZATION))?;
        let access = self.deployer.access();
        let token = access.check(&credential, SystemTime::now())?;
        if token.role < needed {
            return Err(AccessError::Role { needed, token: token.id, role: token.role });
        }
        let mut caller = Caller::from(&**token);
        if let Some(tenant) = tenant(headers.get_all(TENANT))?
            && tenant != caller.tenant
        {
            if token.role < Role::Admin {
                return Err(AccessError::Tenant { token: token.id, own: caller.tenant });
            }
            caller.tenant = tenant;
        }
        Ok(caller)
    }

    /// Whether a request that shows nothing may go on to where it is known what it asks for. On a
    /// server where nothing is public it needn't.
    fn takes_anybody(&self, headers: &HeaderMap) -> bool {
        !headers.contains_key(AUTHORIZATION) && self.dispatcher.routes().has_public()
    }
}

fn credential(headers: GetAll<'_, HeaderValue>) -> Result<Credential, AccessError> {
    let mut headers = headers.iter();
    let header = headers.next().ok_or(AccessError::Missing)?;
    let text = header.to_str().ok().filter(|_| headers.next().is_none());
    let (scheme, token) =
        text.and_then(|text| text.split_once(' ')).ok_or(AccessError::Malformed)?;
    let token = Credential::parse(token.trim()).filter(|_| scheme.eq_ignore_ascii_case("bearer"));
    token.ok_or(AccessError::Malformed)
}

fn tenant(headers: GetAll<'_, HeaderValue>) -> Result<Option<TenantId>, AccessError> {
    let mut headers = headers.iter();
    let Some(header) = headers.next() else { return Ok(None) };
    let name = header.to_str().ok().filter(|_| headers.next().is_none());
    let name: Name = name.ok_or(AccessError::TenantHeader)?.parse()?;
    Ok(Some(TenantId::from(&name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, values: &[&str]) -> HeaderMap {
        let values = values.iter().map(|value| value.parse().expect("a value"));
        values.map(|value| (name.clone(), value)).collect()
    }

    #[test]
    fn a_credential_is_one_bearer_token() {
        let made = Credential::from_random([7; Credential::BYTES]);
        let token = made.reveal();
        let read = |values: &[&str]| {
            credential(headers(AUTHORIZATION, values).get_all(AUTHORIZATION))
                .map(|read| read.hash())
        };
        for scheme in ["Bearer", "bearer", "BEARER", "Bearer "] {
            assert_eq!(read(&[&format!("{scheme} {token}")]), Ok(made.hash()), "{scheme}");
        }
        assert_eq!(read(&[]), Err(AccessError::Missing));
        let bearer = format!("Bearer {token}");
        for values in [
            &[&*token][..],
            &[""],
            &["Bearer"],
            &["Basic dXNlcjpwYXNz"],
            &["Bearer eyJhbGciOiJIUzI1NiJ9.e30.x"],
            &[&bearer, &bearer],
            &[&format!("{bearer}, {bearer}")],
        ] {
            assert_eq!(read(values), Err(AccessError::Malformed), "{values:?}");
        }
    }

    #[test]
    fn a_tenant_is_one_name() {
        let read = |values: &[&str]| tenant(headers(TENANT, values).get_all(TENANT));
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["acme"]), Ok(Some(TenantId::new("acme"))));
        assert_eq!(read(&["acme", "acme"]), Err(AccessError::TenantHeader));
        assert!(matches!(read(&["A/B"]), Err(AccessError::TenantName(_))));
    }
}
