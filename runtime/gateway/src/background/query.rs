//! Which calls a list is to have, as its query says.

use quern_jobs::CallQuery;
use quern_types::{CallState, InvocationId, Name, TenantId};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::query::Between;

/// Which asynchronous calls are asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallFilter {
    /// Only those in this state.
    state: Option<CallState>,
    /// Only those of this function or model.
    target: Option<Name>,
    /// Only those that came before this one.
    before: Option<InvocationId>,
    /// How many, the newest ones.
    #[serde(default = "page")]
    limit: Between<1, 1000>,
}

/// Which dead letters are asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadLetterFilter {
    /// Only those of this function or model.
    target: Option<Name>,
    /// Only those that came before this one.
    before: Option<InvocationId>,
    /// How many, the newest ones.
    #[serde(default = "page")]
    limit: Between<1, 1000>,
}

fn page() -> Between<1, 1000> {
    Between::new(100)
}

impl CallFilter {
    pub(super) fn of(self, tenant: &TenantId) -> CallQuery {
        let Self { state, target, before, limit } = self;
        CallQuery { tenant: tenant.clone(), state, target, before, limit: limit.get() }
    }
}

impl DeadLetterFilter {
    pub(super) fn of(self, tenant: &TenantId) -> CallQuery {
        let Self { target, before, limit } = self;
        CallFilter { state: Some(CallState::Dead), target, before, limit }.of(tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::parse;

    #[test]
    fn a_query_says_which_calls() {
        let tenant = TenantId::default();
        let id = "01936a5e-0000-7000-8000-0123456789ab";
        let query = format!("state=failed&target=hello&before={id}&limit=3");
        let parsed = parse::<CallFilter>(Some(&query)).expect("a query").of(&tenant);
        assert_eq!((parsed.state, parsed.limit), (Some(CallState::Failed), 3));
        assert_eq!(parsed.target, Some("hello".parse().expect("a name")));
        assert_eq!(parsed.before.map(|id| id.to_string()).as_deref(), Some(id));
        let dead = parse::<DeadLetterFilter>(None).expect("none").of(&tenant);
        assert_eq!((dead.state, dead.limit), (Some(CallState::Dead), 100));
        for query in ["state=lost", "target=A", "before=x", "limit=0", "limit=1001", "since=1"] {
            assert!(parse::<CallFilter>(Some(query)).is_err(), "{query}");
        }
        assert!(parse::<DeadLetterFilter>(Some("state=dead")).is_err(), "it has one");
    }
}
