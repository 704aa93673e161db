//! What fuzzing drives of the types, and the tests that replay its seeds. Never part of a program.

use crate::{FunctionManifest, FunctionSpec, ModelManifest};

/// Parses a manifest of either kind. What is accepted is kept in the catalog as JSON, and must come
/// back from there as it was.
pub fn manifest(content: &[u8]) {
    let Ok(text) = str::from_utf8(content) else { return };
    if let Ok(manifest) = FunctionManifest::parse(text) {
        let stored = serde_json::to_string(&manifest.spec).expect("specs are plain JSON");
        let read: FunctionSpec = serde_json::from_str(&stored).expect("what was written is read");
        assert_eq!(read, manifest.spec, "{stored}");
    }
    // It is only ever read: that it is refused or accepted without a panic is enough.
    let _ = ModelManifest::parse(text);
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_seeds_of_manifests_are_handled() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/manifest");
        let seeds: Vec<_> = std::fs::read_dir(folder).expect("seeds").collect();
        assert!(!seeds.is_empty());
        for seed in seeds {
            super::manifest(&std::fs::read(seed.expect("a seed").path()).expect("a file"));
        }
    }
}
