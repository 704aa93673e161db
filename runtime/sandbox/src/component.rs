//! Validation of uploaded components by their outside: what they are, import and export. Nothing
//! is compiled here.

use std::collections::BTreeSet;

use quern_types::{FunctionKind, FunctionSpec, StorageFailure};
use wasmparser::{Encoding, Parser, Payload, Validator, WasmFeatures};

use crate::imports;

/// Why a component is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComponentError {
    /// It is a core module, or no WebAssembly at all.
    #[error("the upload is not a WebAssembly component: {reason}")]
    NotAComponent {
        /// What it is.
        reason: String,
    },
    /// It does not validate.
    #[error("the component is not valid: {reason}")]
    Invalid {
        /// What is wrong.
        reason: String,
    },
    /// It imports something that does not exist here.
    #[error("the component imports {import}, which this server does not offer")]
    UnknownImport {
        /// The import.
        import: String,
    },
    /// It imports something that its manifest does not grant.
    #[error("the component imports {import}: grant it in the manifest with {grant}")]
    MissingGrant {
        /// The import.
        import: String,
        /// What the manifest lacks.
        grant: &'static str,
    },
    /// It lacks the export that its kind is called by.
    #[error("the component does not export {export}, which kind {kind:?} needs")]
    MissingExport {
        /// The export.
        export: &'static str,
        /// The kind.
        kind: &'static str,
    },
    /// The compiler refuses it.
    #[error("the component can't be compiled: {reason}")]
    Compile {
        /// What it said.
        reason: String,
    },
    /// The compiled code can't be kept.
    #[error("the compiled code can't be stored: {reason}")]
    Artifact {
        /// What failed.
        reason: StorageFailure,
    },
}

/// What a component serves HTTP by, in 0.2 and in 0.3.
pub(crate) const INCOMING_HANDLER: &str = "wasi:http/incoming-handler@0.2.";
pub(crate) const HANDLER: &str = "wasi:http/handler@0.3.";
/// The standard packages whose 0.2 and 0.3 interfaces are linked.
const WASI_PACKAGES: [&str; 7] = [
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:http/",
    "wasi:io/",
    "wasi:random/",
    "wasi:sockets/",
];
/// Components and modules inside of each other. The compiler's memory grows with the square of this;
/// tools that compose components need a handful.
const MAX_DEPTH: usize = 64;
/// Local variables of all functions together. A few bytes declare thousands, and the compiler takes
/// its time for each. The JavaScript engine of functions/hello-js, a component of 13 MB, has 52,128.
const MAX_LOCALS: u64 = 10_000_000;
/// Interfaces of `quern:ml` that need no grant: types alone.
const TYPES_ONLY: &str = "quern:ml/tensors";
const MODELS: &str = "quern:ml/models";
const GPU: &str = "quern:ml/gpu";
/// These take what is granted to the interfaces whose types they show.
const OF_GPU: [&str; 2] = ["quern:ml/gpu-models", "quern:ml/gpu-offers"];

/// Checks a component against the manifest's kind and grants.
pub(crate) fn validate(component: &[u8], spec: &FunctionSpec) -> Result<(), ComponentError> {
    let outside = Outside::of(component)?;
    for import in &outside.imports {
        check_import(import, spec)?;
    }
    let (exports, export): (&[&str], _) = match spec.kind {
        FunctionKind::Http => (
            &[INCOMING_HANDLER, HANDLER],
            "wasi:http/incoming-handler@0.2 or wasi:http/handler@0.3",
        ),
        FunctionKind::Inference(_) => (&["quern:ml/inference@"], "quern:ml/inference"),
    };
    let is_entry = |name: &String| exports.iter().any(|export| name.starts_with(export));
    if !outside.exports.iter().any(is_entry) {
        return Err(ComponentError::MissingExport { export, kind: spec.kind.as_str() });
    }
    Ok(())
}

fn check_import(import: &str, spec: &FunctionSpec) -> Result<(), ComponentError> {
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    let standard = (version.starts_with("0.2.") || version.starts_with("0.3."))
        && WASI_PACKAGES.iter().any(|package| interface.starts_with(package));
    let ours = version == "0.1.0"
        && ([TYPES_ONLY, MODELS, GPU].contains(&interface) || OF_GPU.contains(&interface));
    if !standard && !ours && !imports::NAMES.contains(&import) {
        return Err(ComponentError::UnknownImport { import: import.to_owned() });
    }
    let grant = match interface {
        MODELS if spec.grants.models.is_empty() => "[grants] models = [\"…\"]",
        GPU if spec.grants.gpu.is_none() => "[grants] gpu = { memory = \"…\" }",
        _ => return Ok(()),
    };
    Err(ComponentError::MissingGrant { import: import.to_owned(), grant })
}

/// Refuses what a few bytes blow up to when it is compiled, before it is looked at any further.
fn check_expansion(component: &[u8]) -> Result<(), ComponentError> {
    let refused = |reason| Err(ComponentError::Invalid { reason });
    let (mut depth, mut locals) = (0_usize, 0_u64);
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(invalid)? {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::CodeSectionEntry(body) => {
                for group in body.get_locals_reader().map_err(invalid)? {
                    locals = locals.saturating_add(group.map_err(invalid)?.0.into());
                }
            }
            _ => {}
        }
        if depth > MAX_DEPTH {
            return refused(format!("components are nested more than {MAX_DEPTH} deep"));
        }
        if locals > MAX_LOCALS {
            return refused(format!("its functions have more than {MAX_LOCALS} local variables"));
        }
    }
    Ok(())
}

fn invalid(error: wasmparser::BinaryReaderError) -> ComponentError {
    ComponentError::Invalid { reason: error.to_string() }
}

/// What a component shows of itself.
#[derive(Debug, Default)]
struct Outside {
    imports: BTreeSet<String>,
    exports: BTreeSet<String>,
}

impl Outside {
    fn of(component: &[u8]) -> Result<Self, ComponentError> {
        if !Parser::is_component(component) {
            let reason = if Parser::is_core_wasm(component) {
                "it is a core module; build for the target wasm32-wasip2, or wrap it with \
                 `wasm-tools component new`"
            } else {
                "it does not begin as WebAssembly does"
            };
            return Err(ComponentError::NotAComponent { reason: reason.into() });
        }
        check_expansion(component)?;
        Validator::new_with_features(WasmFeatures::default())
            .validate_all(component)
            .map_err(invalid)?;
        let mut outside = Self::default();
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(component) {
            match payload.map_err(invalid)? {
                Payload::Version { encoding: Encoding::Component | Encoding::Module, .. } => {
                    depth += 1;
                }
                Payload::End(_) => depth -= 1,
                Payload::ComponentImportSection(imports) if depth == 1 => {
                    for import in imports {
                        outside.imports.insert(import.map_err(invalid)?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(exports) if depth == 1 => {
                    for export in exports {
                        outside.exports.insert(export.map_err(invalid)?.name.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        Ok(outside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Components inside of each other, so many in all.
    fn nested(depth: usize) -> Vec<u8> {
        let text = "(component ".repeat(depth) + &")".repeat(depth);
        wat::parse_str(text).expect("valid text")
    }

    /// A module of so many functions, each with 50,000 local variables: seven bytes of code.
    fn functions(count: u8) -> Vec<u8> {
        let leb = |number: usize| [(number % 128) as u8 | 128, (number / 128) as u8];
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        for (section, entry) in [(3, &[0][..]), (10, &[6, 1, 0xd0, 0x86, 0x03, 0x7f, 0x0b])] {
            let entries = entry.repeat(count.into());
            module.push(section);
            module.extend(leb(entries.len() + 2));
            module.extend(leb(count.into()));
            module.extend(entries);
        }
        module
    }

    #[test]
    fn what_a_few_bytes_expand_to_is_bounded() {
        let refused = |bytes: &[u8]| match check_expansion(bytes) {
            Err(ComponentError::Invalid { reason }) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(check_expansion(&nested(MAX_DEPTH)), Ok(()));
        assert_eq!(refused(&nested(MAX_DEPTH + 1)), "components are nested more than 64 deep");
        assert_eq!(check_expansion(&functions(200)), Ok(()));
        let reason = refused(&functions(201));
        assert_eq!(reason, "its functions have more than 10000000 local variables");
    }
}
