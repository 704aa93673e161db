//! What is set for functions beside their versions.

use quern_types::{Name, SettingKey};

use super::operation::Operation;
use crate::{
    errors::Code,
    settings::{ConfigPatch, ConfigReply, ConfigRequest, SecretEntry, SecretList, SecretRequest},
};

const CONFIG: &str = "/v1/functions/{name}/config";
const SECRET: &str = "/v1/functions/{name}/secrets/{key}";
/// What is answered wherever a configuration is read or changed.
const NOW: &str = "What is set now.";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        config(Operation::get(CONFIG, "showConfig", "The configuration of a function")),
        config(Operation::put(CONFIG, "replaceConfig", "Replaces what is set for a function"))
            .takes::<ConfigRequest>()
            .fails(&[Code::SettingTaken, Code::TooManySettings]),
        config(Operation::patch(
            CONFIG,
            "changeConfig",
            "Sets and removes some keys of a function",
        ))
        .takes::<ConfigPatch>()
        .fails(&[Code::SettingTaken, Code::TooManySettings]),
        of_function(Operation::get(
            "/v1/functions/{name}/secrets",
            "listSecrets",
            "The secrets of a function",
        ))
        .replies::<SecretList<'static>>(200, "Their keys, never their values."),
        secret(Operation::put(SECRET, "setSecret", "Gives a secret of a function a value"))
            .takes::<SecretRequest>()
            .replies::<SecretEntry<'static>>(200, "It has another value now.")
            .replies::<SecretEntry<'static>>(201, "There is a new secret.")
            .fails(&[Code::SettingTaken, Code::TooManySettings, Code::SecretsLocked]),
        secret(Operation::delete(SECRET, "removeSecret", "Removes a secret of a function"))
            .replies_nothing(204, "The function has it no more."),
    ]
}

fn config(operation: Operation) -> Operation {
    of_function(operation).replies::<ConfigReply<'static>>(200, NOW)
}

fn secret(operation: Operation) -> Operation {
    of_function(operation).at::<SettingKey>("key", "a", "The key of the secret.")
}

fn of_function(operation: Operation) -> Operation {
    operation.at::<Name>("name", "a", "The name of the function.").fails(&[Code::NotFound])
}
