//! What is called by others than its owner: how they name it, and who may. Never knows what is
//! deployed.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{InvalidName, Name, TenantId};

/// The name of a function or a model wherever it may be another tenant's: `name` for one of one's
/// own, `name@tenant` for a tenant's. No name has an `@` in it.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QualifiedName {
    /// What its owner calls it.
    pub name: Name,
    /// Whose it is; none: the caller's.
    pub owner: Option<TenantId>,
}

impl QualifiedName {
    /// Whether this is the text of it.
    pub fn is(&self, text: &str) -> bool {
        match &self.owner {
            None => text == self.name.as_str(),
            Some(owner) => text.split_once('@') == Some((self.name.as_str(), owner.as_str())),
        }
    }
}

impl From<Name> for QualifiedName {
    fn from(name: Name) -> Self {
        Self { name, owner: None }
    }
}

impl FromStr for QualifiedName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (name, owner) = match text.split_once('@') {
            Some((name, owner)) => (name, Some(owner.parse()?)),
            None => (text, None),
        };
        Ok(Self { name: name.parse()?, owner: owner.as_ref().map(TenantId::from) })
    }
}

impl TryFrom<String> for QualifiedName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<QualifiedName> for String {
    fn from(name: QualifiedName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            None => self.name.fmt(f),
            Some(owner) => write!(f, "{}@{owner}", self.name),
        }
    }
}

impl fmt::Debug for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Who may call a function or a model besides its owner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sharing {
    /// Whether anybody may, without a token.
    pub public: bool,
    /// The tenants that may.
    pub tenants: BTreeSet<TenantId>,
}

impl Sharing {
    /// Most tenants that one thing is shared with by name.
    pub const MOST_TENANTS: usize = 100;

    /// Whether a tenant may call what is shared so.
    pub fn allows(&self, tenant: &TenantId) -> bool {
        self.public || self.tenants.contains(tenant)
    }

    /// Whether nobody but the owner may.
    pub fn is_nothing(&self) -> bool {
        !self.public && self.tenants.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_say_whose_it_is() {
        let own: QualifiedName = "digits".parse().expect("a name");
        assert_eq!((own.name.as_str(), &own.owner), ("digits", &None));
        let other: QualifiedName = "digits@acme".parse().expect("a name");
        assert_eq!(other.owner, Some(TenantId::new("acme")));
        for (name, text, is) in [
            (&own, "digits", true),
            (&own, "digits@acme", false),
            (&other, "digits@acme", true),
            (&other, "digits", false),
            (&other, "digits@acme@b", false),
        ] {
            assert_eq!(name.is(text), is, "{name:?} and {text:?}");
        }
        for text in ["digits", "digits@acme"] {
            assert_eq!(text.parse::<QualifiedName>().expect(text).to_string(), text);
        }
        for bad in ["", "@", "a@", "@b", "a@b@c", "a@B", "A@b", "a @b", "a@*"] {
            assert!(bad.parse::<QualifiedName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_public_is_everybodys() {
        let (acme, other) = (TenantId::new("acme"), TenantId::new("other"));
        let named = Sharing { public: false, tenants: [acme.clone()].into() };
        assert!(named.allows(&acme) && !named.allows(&other) && !named.is_nothing());
        let public = Sharing { public: true, ..Sharing::default() };
        assert!(public.allows(&other) && !public.is_nothing());
        assert!(Sharing::default().is_nothing());
    }
}
