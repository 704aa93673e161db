//! Changes of what is set for a function. What they say of themselves, to the audit log or to a
//! debugger, has keys in it and no values.

use std::{collections::BTreeMap, fmt};

use quern_types::{Caller, Class, Name, SettingKey, Settings, StorageFailure};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::json;
use tokio::sync::oneshot;

use super::{ConfigChange, SettingError, config, find, now_us};
use crate::{
    Removed, SecretsKeyId,
    audit::Entry,
    operation::{Effects, Operation, Subject, failure},
    rows::Key,
};

type Outcome<T> = Option<Result<T, SettingError>>;
type Reply<T> = oneshot::Sender<Result<T, SettingError>>;

/// Changes the configuration of a function.
pub(crate) struct ChangeConfig {
    caller: Caller,
    function: Key,
    change: ConfigChange,
    outcome: Outcome<()>,
    /// The keys that it gave values to, and those that it took them from.
    changed: (Vec<SettingKey>, Vec<SettingKey>),
    reply: Reply<()>,
}

/// A value on its way into the tables.
#[derive(Debug)]
pub(crate) struct SealedSecret {
    pub(crate) key: SettingKey,
    pub(crate) sealed_with: SecretsKeyId,
    pub(crate) sealed: Vec<u8>,
}

/// Gives a secret a value; says whether it is a new one.
#[derive(Debug)]
pub(crate) struct SetSecret {
    caller: Caller,
    function: Key,
    secret: SealedSecret,
    outcome: Outcome<bool>,
    reply: Reply<bool>,
}

/// Removes a secret.
#[derive(Debug)]
pub(crate) struct UnsetSecret {
    caller: Caller,
    function: Key,
    key: SettingKey,
    outcome: Outcome<()>,
    reply: Reply<()>,
}

/// The key of a caller's function.
pub(crate) fn function_of(caller: &Caller, name: &Name) -> Key {
    Key { tenant: caller.tenant.clone(), class: Class::Function, name: name.clone() }
}

impl ChangeConfig {
    pub(crate) fn new(caller: Caller, name: &Name, change: ConfigChange, reply: Reply<()>) -> Self {
        let function = function_of(&caller, name);
        Self { caller, function, change, outcome: None, changed: Default::default(), reply }
    }

    /// What the configuration becomes, unless that is refused.
    fn outcome(
        &self,
        connection: &Connection,
        id: i64,
    ) -> rusqlite::Result<Result<Values, SettingError>> {
        let function = || self.function.name.clone();
        let values =
            self.applied_to(config(connection, id)?.into_iter().map(|(key, set)| (key, set.value)));
        let count = values.len();
        if count > Settings::MAX_CONFIG_KEYS {
            let (function, limit) = (function(), Settings::MAX_CONFIG_KEYS);
            return Ok(Err(SettingError::TooManyKeys { function, count, limit }));
        }
        let bytes: usize = values.iter().map(|(key, value)| key.as_str().len() + value.len()).sum();
        if bytes as u64 > Settings::MAX_CONFIG_SIZE.0 {
            let (function, limit) = (function(), Settings::MAX_CONFIG_SIZE);
            return Ok(Err(SettingError::TooLarge { function, bytes, limit }));
        }
        for key in values.keys() {
            if has_secret(connection, id, key)? {
                return Ok(Err(SettingError::IsSecret { function: function(), key: key.clone() }));
            }
        }
        Ok(Ok(values))
    }

    fn applied_to(&self, before: impl Iterator<Item = (SettingKey, String)>) -> Values {
        match &self.change {
            ConfigChange::Replace(values) => values.clone(),
            ConfigChange::Merge(changes) => {
                let mut values: Values = before.collect();
                for (key, value) in changes {
                    match value {
                        Some(value) => values.insert(key.clone(), value.clone()),
                        None => values.remove(key),
                    };
                }
                values
            }
        }
    }

    /// Writes what differs, so that the time of each value is that of its last change.
    fn write(&mut self, connection: &Connection, id: i64, values: Values) -> rusqlite::Result<()> {
        let before = config(connection, id)?;
        for key in before.keys().filter(|key| !values.contains_key(*key)) {
            connection
                .prepare_cached("DELETE FROM settings WHERE name_id = ?1 AND key = ?2")?
                .execute(params![id, key.as_str()])?;
            self.changed.1.push(key.clone());
        }
        for (key, value) in values {
            if before.get(&key).is_some_and(|set| set.value == value) {
                continue;
            }
            connection
                .prepare_cached(
                    "INSERT INTO settings (name_id, key, value, changed_us) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT DO UPDATE SET value = ?3, changed_us = ?4",
                )?
                .execute(params![id, key.as_str(), value, now_us()])?;
            self.changed.0.push(key);
        }
        Ok(())
    }
}

type Values = BTreeMap<SettingKey, String>;

impl Operation for ChangeConfig {
    fn subject(&self) -> Subject<'_> {
        Subject::Settings(&self.function)
    }

    fn apply(&mut self, connection: &Connection, _: u32) -> rusqlite::Result<Effects> {
        let outcome = match find(connection, &self.function)? {
            Ok(id) => match self.outcome(connection, id)? {
                Ok(values) => Ok(self.write(connection, id, values)?),
                Err(refusal) => Err(refusal),
            },
            Err(refusal) => Err(refusal),
        };
        self.outcome = Some(outcome);
        let (set, unset) = &self.changed;
        Ok(Effects::of(!set.is_empty() || !unset.is_empty()))
    }

    fn entry(&self) -> Entry<'_> {
        let (set, unset) = &self.changed;
        let detail = json!({ "set": set, "unset": unset });
        let subject = self.function.to_string();
        Entry { caller: &self.caller, action: "config.change", subject, detail }
    }

    fn answer(self: Box<Self>, group: Result<Removed, StorageFailure>) {
        let _ = self.reply.send(answer(group, self.outcome));
    }
}

impl fmt::Debug for ChangeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangeConfig").field("function", &self.function).finish_non_exhaustive()
    }
}

impl SetSecret {
    pub(crate) fn new(
        caller: Caller,
        function: Key,
        secret: SealedSecret,
        reply: Reply<bool>,
    ) -> Self {
        Self { caller, function, secret, outcome: None, reply }
    }

    /// Whether it would be a new one, unless it is refused.
    fn outcome(
        &self,
        connection: &Connection,
        id: i64,
    ) -> rusqlite::Result<Result<bool, SettingError>> {
        let (function, key) = (|| self.function.name.clone(), &self.secret.key);
        if config(connection, id)?.contains_key(key) {
            return Ok(Err(SettingError::IsConfig { function: function(), key: key.clone() }));
        }
        if has_secret(connection, id, key)? {
            return Ok(Ok(false));
        }
        let count: u32 = connection
            .prepare_cached("SELECT count(*) FROM secrets WHERE name_id = ?1")?
            .query_row([id], |row| row.get(0))?;
        let limit = Settings::MAX_SECRETS;
        Ok(match (count as usize) < limit {
            true => Ok(true),
            false => Err(SettingError::TooManySecrets { function: function(), limit }),
        })
    }
}

impl Operation for SetSecret {
    fn subject(&self) -> Subject<'_> {
        Subject::Settings(&self.function)
    }

    fn apply(&mut self, connection: &Connection, _: u32) -> rusqlite::Result<Effects> {
        let outcome = match find(connection, &self.function)? {
            Ok(id) => {
                let outcome = self.outcome(connection, id)?;
                if outcome.is_ok() {
                    let SealedSecret { key, sealed_with, sealed } = &self.secret;
                    connection
                        .prepare_cached(
                            "INSERT INTO secrets (name_id, key, sealed_with, sealed, changed_us)
                             VALUES (?1, ?2, ?3, ?4, ?5)
                             ON CONFLICT DO UPDATE SET sealed_with = ?3, sealed = ?4, changed_us = ?5",
                        )?
                        .execute(params![id, key.as_str(), sealed_with.as_str(), sealed, now_us()])?;
                }
                outcome
            }
            Err(refusal) => Err(refusal),
        };
        let changed = outcome.is_ok();
        self.outcome = Some(outcome);
        Ok(Effects::of(changed))
    }

    fn entry(&self) -> Entry<'_> {
        let detail = json!({ "key": self.secret.key });
        let subject = self.function.to_string();
        Entry { caller: &self.caller, action: "secret.set", subject, detail }
    }

    fn answer(self: Box<Self>, group: Result<Removed, StorageFailure>) {
        let _ = self.reply.send(answer(group, self.outcome));
    }
}

impl UnsetSecret {
    pub(crate) fn new(caller: Caller, name: &Name, key: SettingKey, reply: Reply<()>) -> Self {
        let function = function_of(&caller, name);
        Self { caller, function, key, outcome: None, reply }
    }
}

impl Operation for UnsetSecret {
    fn subject(&self) -> Subject<'_> {
        Subject::Settings(&self.function)
    }

    fn apply(&mut self, connection: &Connection, _: u32) -> rusqlite::Result<Effects> {
        let outcome = match find(connection, &self.function)? {
            Ok(id) => {
                let removed = connection
                    .prepare_cached("DELETE FROM secrets WHERE name_id = ?1 AND key = ?2")?
                    .execute(params![id, self.key.as_str()])?;
                let (function, key) = (self.function.name.clone(), self.key.clone());
                if removed > 0 { Ok(()) } else { Err(SettingError::NoSecret { function, key }) }
            }
            Err(refusal) => Err(refusal),
        };
        let changed = outcome.is_ok();
        self.outcome = Some(outcome);
        Ok(Effects::of(changed))
    }

    fn entry(&self) -> Entry<'_> {
        let detail = json!({ "key": self.key });
        let subject = self.function.to_string();
        Entry { caller: &self.caller, action: "secret.unset", subject, detail }
    }

    fn answer(self: Box<Self>, group: Result<Removed, StorageFailure>) {
        let _ = self.reply.send(answer(group, self.outcome));
    }
}

fn has_secret(connection: &Connection, id: i64, key: &SettingKey) -> rusqlite::Result<bool> {
    let found = connection
        .prepare_cached("SELECT 1 FROM secrets WHERE name_id = ?1 AND key = ?2")?
        .query_row(params![id, key.as_str()], |_| Ok(()))
        .optional()?;
    Ok(found.is_some())
}

fn answer<T>(
    group: Result<Removed, StorageFailure>,
    outcome: Outcome<T>,
) -> Result<T, SettingError> {
    match (group, outcome) {
        (Ok(_), Some(outcome)) => outcome,
        (group, _) => Err(SettingError::Storage { reason: failure(group) }),
    }
}
