//! Who changed what: a row for each change of the catalog, written in the same commit. Never
//! knows whether a change was allowed.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use quern_types::{Caller, TenantId, TokenId};
use rusqlite::{Connection, Row, params};
use serde_json::Value;

use crate::rows;

/// Newest records that are kept of each tenant.
pub(crate) const KEPT: i64 = 10_000;

const OF_ALL: &str = "SELECT sequence, time_us, tenant, token, action, subject, detail FROM audit
     WHERE sequence < ?1 ORDER BY sequence DESC LIMIT ?2";
// A statement of its own: one that also stood for all tenants would find no use for the index.
const OF_TENANT: &str =
    "SELECT sequence, time_us, tenant, token, action, subject, detail FROM audit
     WHERE sequence < ?1 AND tenant = ?3 ORDER BY sequence DESC LIMIT ?2";

const FORGET: &str = "DELETE FROM audit WHERE sequence IN
     (SELECT sequence FROM audit WHERE tenant = ?1 ORDER BY sequence LIMIT ?2)";

/// A change, as it is told afterwards.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditRecord {
    /// Its place among all records; only grows.
    pub sequence: u64,
    /// When it was committed.
    pub time: SystemTime,
    /// Whoever made it acted for this tenant.
    pub tenant: TenantId,
    /// And showed this token; none where nobody is asked for one.
    pub token: Option<TokenId>,
    /// What was done: `deploy`, `rollback`, `delete`, `version.delete`, `share`, `traffic.set`,
    /// `alias.…`, `canary.…`, `token.create`, `token.revoke`, `tenant.limit`, `config.change`,
    /// `secret.set`, `secret.unset`, `secrets.rotate`, `schedule.put`, `schedule.delete`,
    /// `webhook.put`, `webhook.rotate`, `webhook.delete`, `backup`.
    pub action: String,
    /// What it was done to, such as `function hello`.
    pub subject: String,
    /// What else there is to say, an object.
    pub detail: Value,
}

/// Which records to read.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// Those of this tenant; none: of all.
    pub tenant: Option<TenantId>,
    /// Those before this place; none: the newest.
    pub before: Option<u64>,
    /// How many at most.
    pub limit: usize,
}

/// Why the audit log can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the audit log can't be read: {reason}")]
pub struct AuditError {
    /// What failed.
    pub reason: String,
}

/// What an operation has to say of itself.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) action: &'static str,
    pub(crate) subject: String,
    pub(crate) detail: Value,
}

/// Adds a record; the oldest ones of its tenant beyond what is kept go.
pub(crate) fn insert(connection: &Connection, entry: &Entry<'_>) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO audit (time_us, tenant, token, action, subject, detail)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            rows::microseconds(SystemTime::now()),
            entry.caller.tenant.as_str(),
            entry.caller.token.map(|token| token.to_string()),
            entry.action,
            entry.subject,
            entry.detail.to_string(),
        ])?;
    let tenant = entry.caller.tenant.as_str();
    let records: i64 = connection
        .prepare_cached(
            "INSERT INTO audit_counts (tenant, records) VALUES (?1, 1)
             ON CONFLICT (tenant) DO UPDATE SET records = records + 1 RETURNING records",
        )?
        .query_row([tenant], |row| row.get(0))?;
    if records > KEPT {
        forget(connection, tenant, records - KEPT)?;
    }
    Ok(())
}

/// Removes so many of a tenant's oldest records.
fn forget(connection: &Connection, tenant: &str, records: i64) -> rusqlite::Result<()> {
    connection.prepare_cached(FORGET)?.execute(params![tenant, records])?;
    connection
        .prepare_cached("UPDATE audit_counts SET records = records - ?2 WHERE tenant = ?1")?
        .execute(params![tenant, records])
        .map(drop)
}

/// Reads beside the writer.
#[derive(Debug)]
pub(crate) struct AuditReader(Arc<Mutex<Connection>>);

impl AuditReader {
    pub(crate) fn new(connection: Connection) -> Self {
        Self(Arc::new(Mutex::new(connection)))
    }

    /// The records that are asked for, the newest first.
    pub(crate) async fn read(&self, query: AuditQuery) -> Result<Vec<AuditRecord>, AuditError> {
        let reader = self.0.clone();
        let read = tokio::task::spawn_blocking(move || {
            read(&reader.lock().unwrap_or_else(PoisonError::into_inner), &query)
        });
        let failed = |reason: String| AuditError { reason };
        read.await
            .map_err(|error| failed(error.to_string()))?
            .map_err(|error| failed(error.to_string()))
    }
}

fn read(connection: &Connection, query: &AuditQuery) -> rusqlite::Result<Vec<AuditRecord>> {
    let before = query.before.map_or(i64::MAX, |before| before.try_into().unwrap_or(i64::MAX));
    let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
    match query.tenant.as_ref().map(TenantId::as_str) {
        Some(tenant) => connection
            .prepare_cached(OF_TENANT)?
            .query_map(params![before, limit, tenant], record)?
            .collect(),
        None => {
            connection.prepare_cached(OF_ALL)?.query_map(params![before, limit], record)?.collect()
        }
    }
}

fn record(row: &Row<'_>) -> rusqlite::Result<AuditRecord> {
    let token = row.get::<_, Option<String>>(3)?.map(|_| rows::parsed(row, 3)).transpose()?;
    Ok(AuditRecord {
        sequence: row.get::<_, i64>(0)?.try_into().unwrap_or(0),
        time: rows::time(row.get(1)?),
        tenant: TenantId::new(&row.get::<_, String>(2)?),
        token,
        action: row.get(4)?,
        subject: row.get(5)?,
        detail: rows::parsed(row, 6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Connection {
        let connection = Connection::open_in_memory().expect("opens");
        connection.execute_batch(&crate::schema::MIGRATIONS.concat()).expect("tables");
        connection
    }

    #[test]
    fn no_page_of_records_takes_a_scan_or_a_sort() {
        let connection = catalog();
        let oldest = FORGET.split_once('(').and_then(|(_, inner)| inner.strip_suffix(')'));
        let oldest = oldest.expect("a statement in brackets");
        for (statement, used) in [
            (OF_ALL, "USING INTEGER PRIMARY KEY"),
            (OF_TENANT, "USING INDEX audit_by_tenant"),
            (oldest, "USING COVERING INDEX audit_by_tenant"),
        ] {
            let plan: Vec<String> = connection
                .prepare(&format!("EXPLAIN QUERY PLAN {statement}"))
                .and_then(|mut plan| plan.raw_query().mapped(|row| row.get(3)).collect())
                .expect("a plan");
            let [step] = &plan[..] else { panic!("more than one step: {plan:?}") };
            assert!(step.contains(used), "{step}");
        }
    }

    #[test]
    fn a_tenants_oldest_record_goes_for_its_newest_and_nobody_elses() {
        let connection = catalog();
        let of = |tenant: &str| Caller { tenant: TenantId::new(tenant), ..Caller::unasked() };
        let (mine, yours) = (of("mine"), of("yours"));
        let add = |caller: &Caller, subject: &str| {
            let (subject, detail) = (subject.into(), Value::Null);
            let entry = Entry { caller, action: "deploy", subject, detail };
            insert(&connection, &entry).expect("inserted");
        };
        add(&yours, "the oldest of all");
        for subject in ["first", "second", "third"] {
            add(&mine, subject);
        }
        // As if those that are kept had come before, and one more.
        connection
            .execute("UPDATE audit_counts SET records = ?1 WHERE tenant = 'mine'", [KEPT + 1])
            .expect("counted");
        add(&mine, "newest");
        let left = read(&connection, &AuditQuery { limit: 9, ..AuditQuery::default() });
        let left = left.expect("readable");
        let left: Vec<_> = left.iter().map(|record| &*record.subject).collect();
        assert_eq!(left, ["newest", "third", "the oldest of all"]);
        let counted: Vec<(String, i64)> = connection
            .prepare("SELECT tenant, records FROM audit_counts ORDER BY tenant")
            .and_then(|mut counted| {
                counted.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
            })
            .expect("readable");
        assert_eq!(counted, [("mine".to_owned(), KEPT), ("yours".to_owned(), 1)]);
    }
}
