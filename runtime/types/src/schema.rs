//! JSON schemas of what is text on the wire: patterns that say what its parser takes. What is made
//! of fields derives its schema where it is defined.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::{
    ByteSize, DeliveryId, DeviceId, DeviceShare, Digest, HttpGrant, InvocationId, Name, Period,
    QualifiedName, Range, SettingKey, Steps, TenantId, TokenId, TraceId,
};

/// The schema of a type that is written as text, or as something else that is said in full.
macro_rules! schema {
    ($($type:ident $description:literal $schema:tt)*) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let mut schema = json_schema!($schema);
                schema.insert("description".to_owned(), $description.into());
                schema
            }
        }
    )*};
}

schema! {
    Name "The name of a function, a model or a tenant."
        {"type": "string", "pattern": "^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$"}
    TenantId "The name of a tenant."
        {"type": "string", "pattern": "^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$"}
    SettingKey "The key of a setting or a secret."
        {"type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$"}
    QualifiedName "The name of a function or a model; of another tenant's with `@` and its name."
        {"type": "string", "pattern":
            "^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?(@[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?)?$"}
    TokenId "Names a token, and is no secret."
        {"type": "string", "pattern": "^[0-9a-f]{16}$"}
    Digest "The SHA-256 digest of what a version is made of."
        {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
    InvocationId "Names a request, as in the logs."
        {"type": "string", "format": "uuid"}
    DeliveryId "Names a message to a webhook, as its header `webhook-id` does."
        {"type": "string", "format": "uuid"}
    TraceId "Names a trace, as W3C Trace Context has it."
        {"type": "string", "pattern": "^[0-9a-f]{32}$", "not": {"pattern": "^0+$"}}
    DeviceId "A device: its kind and its number."
        {"type": "string", "pattern": "^(cpu|cuda):[0-9]+$"}
    DeviceShare "How a function counts where several take turns on a device."
        {"type": "number", "minimum": 0.001, "maximum": 1}
    ByteSize "A number of bytes with a unit, such as `64MiB`."
        {"type": "string"}
    Period "A length of time with a unit, such as `500ms`."
        {"type": "string", "format": "period"}
    Steps "Growing shares with their times, such as `5% 10m, 25% 10m, 100%`."
        {"type": "string", "format": "steps"}
    HttpGrant "An origin, such as `https://api.example.com`."
        {"type": "string"}
    Range "The smallest and the largest value."
        {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
}

/// The fields of cron, as far as a pattern can say what they are.
pub(crate) fn cron(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "format": "cron",
        "maxLength": 256,
        "pattern": r"^\s*[0-9A-Za-z*?,/#+-]+(\s+[0-9A-Za-z*?,/#+-]+){4}\s*$",
        "examples": ["0 4 * * *", "*/15 9-17 * * MON-FRI"],
    })
}

/// A name of the IANA database of time zones.
pub(crate) fn time_zone(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "format": "time-zone",
        "pattern": "^[!-~]{1,63}$",
        "examples": ["Europe/Berlin"],
    })
}

/// A method of HTTP (RFC 9110, section 9.1).
pub(crate) fn method(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": TOKEN})
}

/// The path of a call or an inference, with its query.
pub(crate) fn called_path(_: &mut SchemaGenerator) -> Schema {
    const NAME: &str = "[a-z0-9][a-z0-9._-]{0,62}";
    json_schema!({
        "type": "string",
        "format": "called-path",
        "maxLength": 65_534,
        "pattern": format!(
            "^/(f/{NAME}([/?].*)?|v2/models/{NAME}(/versions/[0-9]+)?/infer([?].*)?)$"
        ),
        "examples": ["/f/report/", "/v2/models/digits/infer"],
    })
}

/// Headers by name (RFC 9110, section 5).
pub(crate) fn headers(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "propertyNames": {"pattern": TOKEN, "maxLength": 4_096},
        "additionalProperties": {
            "type": "string",
            "maxLength": 4_096,
            "pattern": r"^[^\x00-\x08\x0a-\x1f\x7f]*$",
        },
    })
}

/// What names and methods are made of (RFC 9110, section 5.6.2).
const TOKEN: &str = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$";

#[cfg(test)]
mod tests {
    use schemars::schema_for;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_has_its_pattern_and_says_what_it_is() {
        let schema = schema_for!(TokenId);
        assert_eq!(schema.get("pattern"), Some(&json!("^[0-9a-f]{16}$")));
        assert_eq!(schema.get("title"), Some(&json!("TokenId")));
        assert!(schema.get("description").is_some());
    }
}
