//! Which calls a list is to have, as its query says.

use quern_jobs::CallQuery;
use quern_types::{CallState, TenantId};

use crate::errors::{Code, Failure};

/// Calls in one answer, unless fewer are asked for.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1_000;

/// What the query of a list says. The state is given where the list is one of a state.
pub(super) fn parse(
    query: Option<&str>,
    tenant: &TenantId,
    state: Option<CallState>,
) -> Result<CallQuery, Failure> {
    let refuse = |key: &str, problem: &str| {
        let key: String = key.chars().take(80).collect();
        Failure::new(Code::InvalidRequest, format!("query parameter {key:?} {problem}"))
    };
    let mut parsed =
        CallQuery { tenant: tenant.clone(), state, target: None, before: None, limit: PAGE };
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key {
            "state" if state.is_none() => {
                parsed.state = Some(value.parse().map_err(|_| {
                    let known = CallState::ALL.map(CallState::as_str).join(", ");
                    refuse(key, &format!("is none of {known}"))
                })?);
            }
            "target" => {
                let name = value.parse();
                parsed.target =
                    Some(name.map_err(|_| refuse(key, "is not the name of a function or model"))?);
            }
            "before" => {
                let id = value.parse();
                parsed.before =
                    Some(id.map_err(|_| refuse(key, "is not the id of an invocation"))?);
            }
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=LARGEST_PAGE).contains(limit));
                parsed.limit = limit.ok_or_else(|| refuse(key, "is not 1 to 1000"))?;
            }
            _ if state.is_none() => {
                return Err(refuse(key, "is not known: use state, target, before and limit"));
            }
            _ => return Err(refuse(key, "is not known: use target, before and limit")),
        }
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_which_calls() {
        let tenant = TenantId::default();
        let id = "01936a5e-0000-7000-8000-0123456789ab";
        let query = format!("state=dead&target=hello&before={id}&limit=3");
        let parsed = parse(Some(&query), &tenant, None).expect("a query");
        assert_eq!((parsed.state, parsed.limit), (Some(CallState::Dead), 3));
        assert_eq!(parsed.target, Some("hello".parse().expect("a name")));
        assert_eq!(parsed.before.map(|id| id.to_string()).as_deref(), Some(id));
        let dead = Some(CallState::Dead);
        assert_eq!(parse(None, &tenant, dead).expect("none").state, dead);
        for query in
            ["state=lost", "target=A", "before=x", "limit=0", "limit=1001", "since=1", "limit"]
        {
            let refused = parse(Some(query), &tenant, None).expect_err(query);
            assert_eq!(refused.status(), 400, "{query}");
        }
        let refused = parse(Some("state=dead"), &tenant, dead).expect_err("it has one");
        assert_eq!(refused.status(), 400);
    }
}
