//! Tokens and the audit log.

use quern_types::TokenId;

use super::operation::Operation;
use crate::{
    errors::Code,
    tokens::{AuditFilter, AuditPage, CreatedToken, TokenList, TokenRequest},
};

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/v1/tokens", "listTokens", "The tokens that there are")
            .replies::<TokenList>(200, "The oldest first, without their secrets."),
        Operation::post("/v1/tokens", "createToken", "Makes a token")
            .takes::<TokenRequest>()
            .replies::<CreatedToken>(201, "The token, with its secret.")
            .fails(&[Code::TooManyTokens]),
        Operation::delete("/v1/tokens/{id}", "revokeToken", "Revokes a token")
            .at::<TokenId>("id", "0123456789abcdef", "The name of the token.")
            .replies_nothing(204, "It lets nobody in any more.")
            .fails(&[Code::NotFound]),
        Operation::get("/v1/audit", "readAudit", "Who changed what")
            .query::<AuditFilter>()
            .replies::<AuditPage>(200, "The newest first."),
    ]
}
