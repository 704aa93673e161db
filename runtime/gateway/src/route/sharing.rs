//! What there is to sharing functions and models with other tenants.

use quern_types::{Class, Name};

use super::{Route, methods::Methods};
use crate::{access::Needs, metrics::Traffic};

/// An operation on what is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SharingRoute {
    /// `GET /v1/{class}/{name}/access`
    Show(Class, Name),
    /// `PUT /v1/{class}/{name}/access`
    Change(Class, Name),
    /// `GET /v1/shared`
    Received,
}

impl SharingRoute {
    /// `/v1/{class}/{name}/access`
    pub(super) fn of(class: Class, name: Name) -> Methods {
        Methods::get(Route::Sharing(Self::Show(class, name.clone())))
            .and_put(Route::Sharing(Self::Change(class, name)))
    }

    pub(super) fn needs(&self) -> Needs {
        match self {
            Self::Show(..) | Self::Change(..) => Needs::DEPLOYER,
            Self::Received => Needs::INVOKER,
        }
    }

    pub(super) fn traffic(&self) -> Traffic {
        match self {
            Self::Change(..) => Traffic::Change,
            Self::Show(..) | Self::Received => Traffic::Inspect,
        }
    }
}
