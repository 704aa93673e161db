//! Manifests: the TOML that describes a function; unknown keys are errors.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    ByteSize, FunctionKind, FunctionSpec, Grants, LimitRules, Name, PartialLimits, Reuse,
    Signature, TensorSpec,
};

/// Most keys of a function's configuration.
const MAX_CONFIG_KEYS: usize = 256;
/// Longest key of a function's configuration, in bytes.
const MAX_CONFIG_KEY_BYTES: usize = 256;
/// Bytes of a function's configuration, keys and values together.
const MAX_CONFIG_BYTES: usize = 64 << 10;

/// `quern.toml` of a function, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionManifest {
    /// The function's name.
    pub name: Name,
    /// Path of the component below the manifest's folder, for tools that build and deploy.
    pub component: Option<String>,
    /// Everything the server needs to know.
    pub spec: FunctionSpec,
}

/// Why a manifest is refused; the message names the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ManifestError(pub(crate) String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: Name,
    kind: Kind,
    component: Option<String>,
    #[serde(default)]
    limits: PartialLimits,
    #[serde(default)]
    grants: Grants,
    #[serde(default)]
    config: BTreeMap<String, String>,
    reuse: Option<Reuse>,
    inputs: Option<Vec<TensorSpec>>,
    outputs: Option<Vec<TensorSpec>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Http,
    Inference,
}

impl FunctionManifest {
    /// Largest manifest that is read.
    pub const MAX_SIZE: ByteSize = ByteSize::mib(1);

    /// Parses and checks a manifest by the built-in rules on limits.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        Self::parse_within(text, &LimitRules::default())
    }

    /// Parses and checks a manifest by the operator's rules on limits.
    pub fn parse_within(text: &str, rules: &LimitRules) -> Result<Self, ManifestError> {
        let raw: Raw = toml::from_str(text).map_err(|error| parse_error(text, &error))?;
        let kind = match (raw.kind, raw.inputs, raw.outputs) {
            (Kind::Http, None, None) => FunctionKind::Http,
            (Kind::Http, ..) => {
                return Err(ManifestError(
                    "kind \"http\" has no [[inputs]] or [[outputs]]: remove them, or use kind \
                     \"inference\""
                        .into(),
                ));
            }
            (Kind::Inference, Some(inputs), Some(outputs)) => {
                let signature = Signature::new(inputs, outputs).map_err(ManifestError)?;
                FunctionKind::Inference(signature)
            }
            (Kind::Inference, ..) => {
                return Err(ManifestError(
                    "kind \"inference\" needs its signature: at least one [[inputs]] and one \
                     [[outputs]]"
                        .into(),
                ));
            }
        };
        let limits = raw.limits.or(&rules.defaults).within(&rules.ceilings);
        let limits = limits.map_err(ManifestError)?;
        if let Some(gpu) = raw.grants.gpu {
            gpu.within(rules.gpu_memory).map_err(ManifestError)?;
        }
        check_config(&raw.config).map_err(ManifestError)?;
        let reuse = raw.reuse.map(Reuse::checked).transpose().map_err(ManifestError)?;
        let spec = FunctionSpec { kind, limits, grants: raw.grants, config: raw.config, reuse };
        Ok(Self { name: raw.name, component: raw.component, spec })
    }
}

/// Configuration is copied into the guest as a whole, and kept in memory for each function.
fn check_config(config: &BTreeMap<String, String>) -> Result<(), String> {
    if config.len() > MAX_CONFIG_KEYS {
        return Err(format!(
            "[config] has {} keys: at most {MAX_CONFIG_KEYS} are allowed",
            config.len()
        ));
    }
    let key_fits = |key: &str| (1..=MAX_CONFIG_KEY_BYTES).contains(&key.len());
    if let Some(key) = config.keys().find(|key| !key_fits(key)) {
        let shown: String = key.chars().take(40).collect();
        return Err(format!(
            "[config] has a key of {} bytes, {shown:?}: it must have between 1 and \
             {MAX_CONFIG_KEY_BYTES}",
            key.len()
        ));
    }
    let bytes: usize = config.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAX_CONFIG_BYTES {
        let limit = ByteSize(MAX_CONFIG_BYTES as u64);
        return Err(format!(
            "[config] has {bytes} bytes of keys and values: at most {limit} are allowed"
        ));
    }
    Ok(())
}

pub(crate) fn parse_error(text: &str, error: &toml::de::Error) -> ManifestError {
    let message = error.message().trim_end();
    match error.span() {
        Some(span) => {
            let before = text.get(..span.start).unwrap_or(text);
            let line = before.matches('\n').count() + 1;
            ManifestError(format!("line {line}: {message}"))
        }
        None => ManifestError(message.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;

    #[test]
    fn defaults_fill_a_short_manifest() {
        let manifest = FunctionManifest::parse("name = 'a'\nkind = 'http'").expect("valid");
        assert_eq!(manifest.spec.kind, FunctionKind::Http);
        assert_eq!(manifest.spec.limits, Limits::default());
        assert!(manifest.spec.grants.models.is_empty());
    }

    #[test]
    fn the_operator_rules_on_limits() {
        let rules = LimitRules {
            defaults: Limits { memory: ByteSize::mib(8), ..Limits::default() },
            ceilings: Limits { memory: ByteSize::mib(16), ..Limits::CEILING },
            gpu_memory: ByteSize::mib(4),
        };
        let parse = |limits: &str| {
            let text = format!("name = 'a'\nkind = 'http'\n[limits]\n{limits}");
            FunctionManifest::parse_within(&text, &rules)
        };
        assert_eq!(parse("").expect("valid").spec.limits, rules.defaults);
        let given = parse("memory = '16MiB'").expect("valid").spec.limits;
        assert_eq!(given.memory, ByteSize::mib(16));
        let error = parse("memory = '17MiB'").expect_err("above the ceiling").to_string();
        assert_eq!(error, "limits.memory is above this server's ceiling of 16.0 MiB");
        let gpu = |memory: &str| parse(&format!("[grants]\ngpu = {{ memory = '{memory}' }}"));
        assert!(gpu("4MiB").expect("valid").spec.grants.gpu.is_some());
        let error = gpu("5MiB").expect_err("above the ceiling").to_string();
        assert_eq!(error, "grants.gpu.memory is above this server's ceiling of 4.0 MiB");
    }

    #[test]
    fn configuration_has_limits() {
        let parse = |pairs: &[(String, usize)]| {
            let lines =
                pairs.iter().map(|(key, length)| format!("'{key}' = '{}'\n", "v".repeat(*length)));
            let text =
                format!("name = 'a'\nkind = 'http'\n[config]\n{}", lines.collect::<String>());
            FunctionManifest::parse(&text).map(|manifest| manifest.spec.config)
        };
        let several = |count: usize| Vec::from_iter((0..count).map(|i| (format!("k{i}"), 1)));
        let key = |length: usize| "k".repeat(length);
        assert_eq!(parse(&several(256)).expect("just fits").len(), 256);
        assert_eq!(parse(&[(key(256), 65_280)]).expect("just fits").len(), 1);
        let cases = [
            (several(257), "[config] has 257 keys: at most 256 are allowed"),
            (vec![(key(257), 1)], "[config] has a key of 257 bytes, \"kkkk"),
            (
                vec![(String::new(), 1)],
                "[config] has a key of 0 bytes, \"\": it must have between 1",
            ),
            (
                vec![(key(256), 65_281)],
                "[config] has 65537 bytes of keys and values: at most 64.0 KiB",
            ),
        ];
        for (pairs, expected) in cases {
            let error = parse(&pairs).expect_err(expected).to_string();
            assert!(error.starts_with(expected), "{error:?} should begin with {expected:?}");
        }
    }

    #[test]
    fn an_inference_function_has_a_signature() {
        let text = "name = 'digits'\nkind = 'inference'\n[limits]\nmemory = '32MiB'\n\
                    [grants]\nmodels = ['digits-mlp']\n\
                    [[inputs]]\nname = 'image'\ndtype = 'FP32'\nshape = [-1, 64]\nrange = [0, 16]\n\
                    [[outputs]]\nname = 'label'\ndtype = 'INT64'\nshape = [-1]";
        let spec = FunctionManifest::parse(text).expect("valid").spec;
        assert_eq!(spec.limits.memory, ByteSize::mib(32));
        let signature = spec.kind.signature().expect("an inference function");
        assert_eq!(&*signature.inputs()[0].name, "image");
        let json = serde_json::to_string(&spec).expect("serialises");
        assert_eq!(serde_json::from_str::<FunctionSpec>(&json).expect("parses"), spec);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("name = 'a'\nkind = 'http'\nmemroy = 1", "line 3: unknown field `memroy`"),
            ("name = 'a'\nkind = 'http'\n[limits]\nram = '1MiB'", "unknown field `ram`"),
            ("name = 'a'\nkind = 'http'\n[limits]\nmemory = '1PiB'", "limits.memory is above"),
            (
                "name = 'a'\nkind = 'http'\n[limits]\ntimeout = '9 apples'",
                "\"9 apples\" is not a time",
            ),
            ("name = 'a'\nkind = 'http'\n[grants]\nsockets = ['*']", "unknown field `sockets`"),
            ("name = 'a'\nkind = 'http'\n[grants]\nhttp = ['a.com']", "\"a.com\" is not an origin"),
            ("name = 'a'\nkind = 'http'\n[grants]\ngpu = {}", "missing field `memory`"),
            (
                "name = 'a'\nkind = 'http'\n[grants]\ngpu = { memory = '0B' }",
                "grants.gpu.memory is zero",
            ),
            (
                "name = 'a'\nkind = 'http'\n[grants]\ngpu = { memory = '1MiB', share = 2 }",
                "2 is no share of a device",
            ),
            (
                "name = 'a'\nkind = 'http'\n[grants]\ngpu = { memory = '1MiB', lanes = 2 }",
                "unknown field `lanes`",
            ),
            ("name = 'a'\nkind = 'http'\nreuse = { requests = 0, idle = '1s' }", "reuse.requests"),
            ("name = 'a'\nkind = 'http'\nreuse = { requests = 1 }", "missing field `idle`"),
            ("name = 'A B'\nkind = 'http'", "name \"A B\" is not valid"),
            ("name = 'a'\nkind = 'cron'", "unknown variant `cron`"),
            ("name = 'a'\nkind = 'inference'", "needs its signature"),
            (
                "name = 'a'\nkind = 'http'\n[[inputs]]\nname='x'\ndtype='FP32'\nshape=[1]",
                "has no [[inputs]]",
            ),
            ("kind = 'http'", "missing field `name`"),
            ("name = ", "line 1:"),
        ];
        for (text, expected) in cases {
            let error = FunctionManifest::parse(text).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error:?} should contain {expected:?}");
        }
    }
}
