//! Holds every dependency against deny.toml, in an instant and without a tool to be installed.
//! Knows only the keys of that file that are in use, and refuses to overlook another.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;
use spdx::{Expression, Licensee, ParseMode};

use crate::{assert_none, metadata, root};

/// The workspaces: the program, and what is compiled to WebAssembly, with its target.
const WORKSPACES: [(&str, &str); 3] = [
    (".", "x86_64-unknown-linux-gnu"),
    ("functions", "wasm32-wasip2"),
    ("tests/guests", "wasm32-wasip2"),
];
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The part of cargo-deny's configuration that is checked here.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy {
    #[serde(rename = "graph")]
    _graph: toml::Table,
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Bans {
    wildcards: String,
    allow_wildcard_paths: bool,
    multiple_versions: String,
    deny: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Sources {
    unknown_registry: String,
    unknown_git: String,
}

fn policy() -> Policy {
    let text = std::fs::read_to_string(root().join("deny.toml")).expect("deny.toml");
    toml::from_str(&text).expect("deny.toml has the keys that this test knows")
}

/// Every package that is compiled for one of the workspaces, with the workspace's folder.
fn packages() -> Vec<(&'static str, Value)> {
    let mut all = Vec::new();
    for (folder, target) in WORKSPACES {
        let mut metadata = metadata(folder, &["--locked", "--filter-platform", target]);
        let Value::Array(packages) = metadata["packages"].take() else {
            panic!("cargo metadata lists no packages");
        };
        all.extend(packages.into_iter().map(|package| (folder, package)));
    }
    all
}

fn name(package: &Value) -> &str {
    package["name"].as_str().expect("a name")
}

#[test]
fn every_licence_is_allowed_and_every_allowance_is_needed() {
    let allow = policy().licenses.allow;
    let licensees: Vec<_> = allow
        .iter()
        .map(|licence| Licensee::parse(licence).expect("deny.toml names SPDX licences"))
        .collect();
    let (mut refused, mut needed) = (BTreeSet::new(), BTreeSet::new());
    for (folder, package) in packages() {
        let licence = package["license"].as_str().unwrap_or("none");
        let Ok(expression) = Expression::parse_mode(licence, ParseMode::LAX) else {
            refused.insert(format!("{} ({folder}): {licence:?} is no licence", name(&package)));
            continue;
        };
        let allowed = expression.evaluate(|required| {
            let found = licensees.iter().position(|licensee| licensee.satisfies(required));
            needed.extend(found);
            found.is_some()
        });
        if !allowed {
            refused.insert(format!("{} ({folder}): {licence}", name(&package)));
        }
    }
    assert_none("not allowed by deny.toml", &Vec::from_iter(refused));
    let idle = (0..allow.len()).filter(|index| !needed.contains(index));
    assert_none("allowed, but never needed", &Vec::from_iter(idle.map(|i| allow[i].clone())));
}

#[test]
fn dependencies_come_from_the_registry_alone() {
    let sources = policy().sources;
    assert_eq!((&*sources.unknown_registry, &*sources.unknown_git), ("deny", "deny"));
    let foreign: Vec<_> = packages()
        .iter()
        .filter(|(_, package)| !package["source"].is_null() && package["source"] != REGISTRY)
        .map(|(folder, package)| format!("{} ({folder}): {}", name(package), package["source"]))
        .collect();
    assert_none("not from crates.io", &foreign);
}

#[test]
fn nothing_banned_is_depended_on() {
    let bans = policy().bans;
    assert!(bans.wildcards == "deny" && bans.allow_wildcard_paths);
    assert_eq!(bans.multiple_versions, "allow");
    let mut found = Vec::new();
    for (folder, package) in packages() {
        if bans.deny.iter().any(|banned| banned == name(&package)) {
            found.push(format!("{} ({folder})", name(&package)));
        }
        let ours = package["source"].is_null();
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            if ours && dependency["req"] == "*" && dependency["path"].is_null() {
                found.push(format!("{} of any version, by {}", dependency["name"], name(&package)));
            }
        }
    }
    assert_none("banned by deny.toml", &found);
}
