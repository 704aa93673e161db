//! The digest of a version: what it is made of, so that the same upload is the same version.

use quern_types::{Digest, Name};
use serde::Serialize;

/// Everything that makes a version. Its JSON is canonical: fields in this order, maps in the order of their keys.
#[derive(Serialize)]
struct Recipe<'a, Spec> {
    name: &'a Name,
    content: &'a Digest,
    spec: &'a Spec,
}

/// The digest of a version.
pub(crate) fn of_version<Spec: Serialize>(name: &Name, content: &Digest, spec: &Spec) -> Digest {
    let recipe = serde_json::to_vec(&Recipe { name, content, spec });
    Digest::of(&recipe.expect("names, digests and specs are plain JSON"))
}

#[cfg(test)]
mod tests {
    use quern_types::{FunctionKind, FunctionSpec, Grants, Limits, Period};

    use super::*;

    #[test]
    fn a_digest_changes_with_each_ingredient_and_with_nothing_else() {
        let name = |text: &str| text.parse::<Name>().expect("a name");
        let spec = |seconds: u64| FunctionSpec {
            limits: Limits { timeout: Period::from_millis(1_000 * seconds), ..Limits::default() },
            ..FunctionSpec::new(FunctionKind::Http)
        };
        let content = Digest::of(b"component");
        let digest = of_version(&name("f"), &content, &spec(1));
        assert_eq!(of_version(&name("f"), &content, &spec(1)), digest);
        for other in [
            of_version(&name("g"), &content, &spec(1)),
            of_version(&name("f"), &Digest::of(b"other"), &spec(1)),
            of_version(&name("f"), &content, &spec(2)),
        ] {
            assert_ne!(other, digest);
        }
    }

    /// If this changes, every function becomes a new version when it is deployed again.
    #[test]
    fn a_digest_stays_the_same_from_release_to_release() {
        let models = vec!["m".parse().expect("a name")];
        let grants = Grants { models, ..Grants::default() };
        let spec = FunctionSpec { grants, ..FunctionSpec::new(FunctionKind::Http) };
        let name = "f".parse().expect("a name");
        let recipe = Recipe { name: &name, content: &Digest::of(b""), spec: &spec };
        assert_eq!(
            serde_json::to_string(&recipe).expect("JSON"),
            concat!(
                r#"{"name":"f","content":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934"#,
                r#"ca495991b7852b855","spec":{"kind":{"type":"http"},"limits":{"#,
                r#""memory":"67108864B","tables":100000,"instances":100,"handles":2048,"#,
                r#""cpu":"1s","timeout":"30s","request":"16777216B","response":"67108864B","#,
                r#""host_call":"67108864B","log":"65536B","concurrency":256,"connections":16,"#,
                r#""outbound":"67108864B"},"grants":{"models":["m"],"http":[],"keyvalue":[]},"#,
                r#""config":{},"reuse":null}}"#
            )
        );
    }
}
