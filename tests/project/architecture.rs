//! Holds the table of docs/architecture.md against `cargo metadata`. Never knows an edge itself:
//! the table does.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{assert_none, metadata, root};

/// Crates that one crate alone may use, by prefix, so that it can be exchanged with them.
const EXCLUSIVE: [(&str, &str); 6] = [
    ("wasmtime", "quern-sandbox"),
    ("rusqlite", "quern-store"),
    ("object_store", "quern-store"),
    ("ort", "quern-host-gpu"),
    ("parquet", "quern-parquet"),
    ("tract", "quern-host-gpu"),
];

/// One row of the table.
struct Row {
    path: String,
    may_import: BTreeSet<String>,
}

/// The table, by crate.
fn table() -> BTreeMap<String, Row> {
    let path = root().join("docs/architecture.md");
    let text = std::fs::read_to_string(path).expect("docs/architecture.md");
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [path, name, _, imports] = cells[..] else {
            panic!("not a row of four columns: {line}");
        };
        let may_import = imports
            .split(',')
            .map(str::trim)
            .filter(|import| *import != "–")
            .map(|import| format!("quern-{import}"))
            .collect();
        let row = Row { path: path.trim_matches('`').to_owned(), may_import };
        let twice = rows.insert(name.trim_matches('`').to_owned(), row);
        assert!(twice.is_none(), "{name} has two rows");
    }
    rows
}

/// The crates of the workspace as cargo sees them, by name.
fn crates() -> BTreeMap<String, Value> {
    let mut metadata = metadata(".", &["--no-deps"]);
    let Value::Array(packages) = metadata["packages"].take() else {
        panic!("cargo metadata lists no packages");
    };
    packages
        .into_iter()
        .map(|package| (package["name"].as_str().expect("a name").to_owned(), package))
        .collect()
}

/// Names of a crate's dependencies; those for tests only where asked for.
fn dependencies(package: &Value, with_tests: bool) -> impl Iterator<Item = &str> {
    let all = package["dependencies"].as_array().expect("dependencies");
    all.iter()
        .filter(move |dependency| with_tests || dependency["kind"] != "dev")
        .map(|dependency| dependency["name"].as_str().expect("a name"))
}

#[test]
fn every_crate_has_a_row_and_every_row_a_crate() {
    let (table, crates) = (table(), crates());
    let rows: Vec<_> = table.keys().collect();
    let names: Vec<_> = crates.keys().collect();
    assert_eq!(rows, names, "rows of docs/architecture.md (left), crates (right)");
}

#[test]
fn every_crate_is_where_its_row_says() {
    let (table, crates) = (table(), crates());
    for (name, row) in &table {
        let folder = root().join(&row.path);
        assert!(folder.is_dir(), "{} of {name} is not a folder", row.path);
        let targets = crates[name]["targets"].as_array().expect("targets");
        let inside = targets.iter().any(|target| {
            let source = target["src_path"].as_str().expect("a path");
            std::path::Path::new(source).starts_with(&folder)
        });
        assert!(inside, "no target of {name} is in {}", row.path);
    }
}

#[test]
fn crates_import_only_what_their_row_allows() {
    let (table, crates) = (table(), crates());
    let mut forbidden = Vec::new();
    for (name, package) in &crates {
        let allowed = &table.get(name).expect("a row for every crate").may_import;
        for import in dependencies(package, false) {
            if import.starts_with("quern-") && !allowed.contains(import) {
                forbidden.push(format!("{name} imports {import}"));
            }
        }
    }
    assert_none("not in the table of docs/architecture.md", &forbidden);
}

#[test]
fn rows_allow_only_crates_that_exist() {
    let table = table();
    let unknown: Vec<_> = table
        .iter()
        .flat_map(|(name, row)| row.may_import.iter().map(move |import| (name, import)))
        .filter(|(_, import)| !table.contains_key(*import))
        .map(|(name, import)| format!("{name} may import {import}"))
        .collect();
    assert_none("no such crate", &unknown);
}

#[test]
fn what_one_crate_wraps_no_other_uses() {
    let crates = crates();
    let mut forbidden = Vec::new();
    for (prefix, owner) in EXCLUSIVE {
        let matches = |name: &str| {
            name.strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
        };
        for (name, package) in crates.iter().filter(|(name, _)| *name != owner) {
            // The root package's tests and benches are no part of the program.
            let with_tests = name != "quern";
            let found = dependencies(package, with_tests).filter(|name| matches(name));
            forbidden
                .extend(found.map(|found| format!("{name} uses {found}, as only {owner} may")));
        }
        let used = dependencies(&crates[owner], false).any(matches);
        assert!(used, "{owner} does not use {prefix}: remove it from this test");
    }
    assert_none("hidden behind one crate", &forbidden);
}

#[test]
fn the_scheduler_depends_on_nothing_that_could_do_anything() {
    let crates = crates();
    let found: Vec<_> = dependencies(&crates["quern-scheduler"], false)
        .filter(|name| *name != "quern-types")
        .collect();
    assert!(found.is_empty(), "decisions are pure, but use {found:?}");
}
