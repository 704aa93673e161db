//! What tenants share, and what they may ask for.

use quern_types::{Name, TenantLimits};

use super::operation::Operation;
use crate::{
    errors::Code,
    sharing::{AccessGrants, AccessRequest, SharedList, SharedQuery},
    tenants::LimitsOfTenant,
};

pub(super) fn operations() -> Vec<Operation> {
    let mut all = vec![
        Operation::get("/v1/shared", "listShared", "What other tenants share with the caller's")
            .query::<SharedQuery>()
            .replies::<SharedList>(200, "What is shared by name; what is public is not among it."),
        tenant(Operation::get(
            "/v1/tenants/{tenant}/limits",
            "showTenantLimits",
            "How much a tenant may ask for",
        )),
        tenant(Operation::put(
            "/v1/tenants/{tenant}/limits",
            "limitTenant",
            "Says how much a tenant may ask for",
        ))
        .takes::<TenantLimits>()
        .fails(&[Code::TooManyTenants]),
    ];
    for (path, show, change) in [
        ("/v1/functions/{name}/access", "showFunctionAccess", "changeFunctionAccess"),
        ("/v1/models/{name}/access", "showModelAccess", "changeModelAccess"),
    ] {
        all.push(access(Operation::get(path, show, "Who may call it besides its owner")));
        let change = Operation::put(path, change, "Says who may call it besides its owner");
        all.push(access(change).takes::<AccessRequest>());
    }
    all
}

fn access(operation: Operation) -> Operation {
    operation
        .at::<Name>("name", "hello", "Its name.")
        .replies::<AccessGrants>(200, "Who may call it.")
        .fails(&[Code::NotFound])
}

fn tenant(operation: Operation) -> Operation {
    operation
        .at::<Name>("tenant", "acme", "The tenant; it need not have anything yet.")
        .replies::<LimitsOfTenant>(200, "What counts from the next request on.")
}
