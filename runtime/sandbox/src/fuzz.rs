//! What fuzzing drives of the sandbox, and the tests that replay its seeds. Never part of a
//! program.

use quern_types::{FunctionKind, FunctionSpec};

use crate::component;

/// Validates a component by its outside, as every upload is before anything else looks at it.
pub fn component(content: &[u8]) {
    // Refused or accepted: either is right, as long as it is said.
    if let Err(error) = component::validate(content, &FunctionSpec::new(FunctionKind::Http)) {
        assert!(!error.to_string().is_empty());
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_seeds_of_components_are_handled() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/component");
        let seeds: Vec<_> = std::fs::read_dir(folder).expect("seeds").collect();
        assert!(!seeds.is_empty());
        for seed in seeds {
            super::component(&std::fs::read(seed.expect("a seed").path()).expect("a file"));
        }
    }
}
