//! The table of tokens and what changes it. Never sees a secret.

use std::time::{Duration, SystemTime};

use quern_types::{
    Access, Caller, Hesitation, SecretHash, StorageFailure, TenantId, Token, TokenId,
};
use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};
use serde_json::json;
use tokio::sync::oneshot;

use crate::{
    Removed,
    audit::Entry,
    operation::{Effects, Operation, Subject, failure},
    rows,
};

/// Why a token was not made or revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There is no such token.
    #[error("token {id} is not known: it may have been revoked already")]
    NotFound {
        /// What names it.
        id: TokenId,
    },
    /// As many as there may be.
    #[error("there are {limit} tokens, as many as there may be: revoke some")]
    TooMany {
        /// The limit.
        limit: u32,
    },
    /// The database failed; nothing changed.
    #[error("catalog can't be written: {reason}")]
    Storage {
        /// What failed.
        reason: StorageFailure,
    },
}

/// Most tokens of a server, which are all kept in memory.
pub(crate) const MOST: u32 = 100_000;
/// How long an expired token is kept, so that it is told from one that never was.
const GRACE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Adds a token.
#[derive(Debug)]
pub(crate) struct AddToken {
    caller: Caller,
    token: Token,
    /// Tokens that it found expired for long.
    expired: Vec<TokenId>,
    outcome: Option<Result<(), TokenError>>,
    reply: oneshot::Sender<Result<(), TokenError>>,
}

/// Takes a token away.
#[derive(Debug)]
pub(crate) struct RevokeToken {
    caller: Caller,
    id: TokenId,
    outcome: Option<Result<(), TokenError>>,
    reply: oneshot::Sender<Result<(), TokenError>>,
}

impl AddToken {
    pub(crate) fn new(
        caller: Caller,
        token: Token,
        reply: oneshot::Sender<Result<(), TokenError>>,
    ) -> Self {
        Self { caller, token, expired: Vec::new(), outcome: None, reply }
    }
}

impl Operation for AddToken {
    fn subject(&self) -> Subject<'_> {
        Subject::Access
    }

    fn apply(&mut self, connection: &Connection, _: u32) -> rusqlite::Result<Effects> {
        self.expired = sweep(connection, SystemTime::now())?;
        let outcome = match count(connection)? {
            count if count < MOST => Ok(insert(connection, &self.token)?),
            _ => Err(TokenError::TooMany { limit: MOST }),
        };
        let changed = outcome.is_ok();
        self.outcome = Some(outcome);
        Ok(Effects::of(changed))
    }

    fn show(&self, access: &mut Access) {
        self.expired.iter().for_each(|id| access.remove(*id));
        access.add(self.token.clone());
    }

    fn entry(&self) -> Entry<'_> {
        let Token { id, tenant, role, note, expires, .. } = &self.token;
        let expires = expires.map(rows::microseconds);
        let detail = json!({ "tenant": tenant, "role": role, "note": note, "expires_us": expires });
        let subject = format!("token {id}");
        Entry { caller: &self.caller, action: "token.create", subject, detail }
    }

    fn answer(self: Box<Self>, group: Result<Removed, StorageFailure>) {
        let _ = self.reply.send(answer(group, self.outcome));
    }
}

impl RevokeToken {
    pub(crate) fn new(
        caller: Caller,
        id: TokenId,
        reply: oneshot::Sender<Result<(), TokenError>>,
    ) -> Self {
        Self { caller, id, outcome: None, reply }
    }
}

impl Operation for RevokeToken {
    fn subject(&self) -> Subject<'_> {
        Subject::Access
    }

    fn apply(&mut self, connection: &Connection, _: u32) -> rusqlite::Result<Effects> {
        let id = self.id;
        let removed = connection
            .prepare_cached("DELETE FROM tokens WHERE id = ?1")?
            .execute([id.to_string()])?;
        let changed = removed > 0;
        self.outcome = Some(if changed { Ok(()) } else { Err(TokenError::NotFound { id }) });
        Ok(Effects::of(changed))
    }

    fn show(&self, access: &mut Access) {
        access.remove(self.id);
    }

    fn entry(&self) -> Entry<'_> {
        let subject = format!("token {}", self.id);
        Entry { caller: &self.caller, action: "token.revoke", subject, detail: json!({}) }
    }

    fn answer(self: Box<Self>, group: Result<Removed, StorageFailure>) {
        let _ = self.reply.send(answer(group, self.outcome));
    }
}

fn answer(
    group: Result<Removed, StorageFailure>,
    outcome: Option<Result<(), TokenError>>,
) -> Result<(), TokenError> {
    match (group, outcome) {
        (Ok(_), Some(outcome)) => outcome,
        (group, _) => Err(TokenError::Storage { reason: failure(group) }),
    }
}

fn count(connection: &Connection) -> rusqlite::Result<u32> {
    connection.prepare_cached("SELECT count(*) FROM tokens")?.query_row([], |row| row.get(0))
}

fn insert(connection: &Connection, token: &Token) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO tokens (id, tenant, role, note, hash, created_us, expires_us)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            token.id.to_string(),
            token.tenant.as_str(),
            token.role.as_str(),
            token.note,
            token.hash.to_hex(),
            rows::microseconds(token.created),
            token.expires.map(rows::microseconds),
        ])
        .map(drop)
}

/// Removes the tokens that have been expired for long. Nobody is let in or kept out by that, so that
/// no record is made of it. The clock may be far ahead by mistake, so that a token must have expired
/// before the last change that was recorded, also not counting those of the last minutes.
pub(crate) fn sweep(connection: &Connection, now: SystemTime) -> rusqlite::Result<Vec<TokenId>> {
    let earlier = |by| now.checked_sub(by).map_or(0, rows::microseconds);
    let recorded: Option<i64> = connection
        .prepare_cached(
            "SELECT time_us FROM audit WHERE time_us <= ?1 ORDER BY sequence DESC LIMIT 1",
        )?
        .query_row([earlier(Hesitation::SPAN)], |row| row.get(0))
        .optional()?;
    let before = earlier(GRACE).min(recorded.unwrap_or(0));
    connection
        .prepare_cached("DELETE FROM tokens WHERE expires_us < ?1 RETURNING id")?
        .query_map([before], |row| rows::parsed(row, 0))?
        .collect()
}

/// Adds everyone who is let in.
pub(crate) fn load(connection: &Connection, access: &mut Access) -> rusqlite::Result<()> {
    let mut statement = connection
        .prepare("SELECT id, tenant, role, note, hash, created_us, expires_us FROM tokens")?;
    for token in statement.query_map([], token)? {
        access.add(token?);
    }
    Ok(())
}

fn token(row: &Row<'_>) -> rusqlite::Result<Token> {
    let hash: String = row.get(4)?;
    let unknown = || rusqlite::Error::InvalidColumnType(4, "hash".into(), Type::Text);
    Ok(Token {
        id: rows::parsed(row, 0)?,
        tenant: TenantId::new(&row.get::<_, String>(1)?),
        role: rows::parsed(row, 2)?,
        note: row.get(3)?,
        hash: SecretHash::from_hex(&hash).ok_or_else(unknown)?,
        created: rows::time(row.get(5)?),
        expires: row.get::<_, Option<i64>>(6)?.map(rows::time),
    })
}
