//! The catalog against a simple model in memory: any sequence of operations has the same outcomes,
//! shows the same routes, and leaves the same blobs.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::SystemTime,
};

use proptest::{collection::vec, option, prelude::*};
use quern_store::{CommitError, DeleteError, NewVersion, RollbackError, Store};
use quern_types::{Class, Deployed, Digest, Name, Routes, TenantId, VersionNumber};

use crate::common::{blob_files, caller, http, inference, keep, model, name, open};

const KEEP: u32 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Http,
    Inference,
    Model,
}

#[derive(Debug, Clone)]
enum Step {
    Commit { tenant: u8, name: u8, kind: Kind, content: u8 },
    RollBack { tenant: u8, name: u8, model: bool, to: Option<u32> },
    Delete { tenant: u8, name: u8, model: bool },
    Reopen,
}

type Key = (u8, u8, bool);

/// What a catalog is, in the fewest words.
#[derive(Debug, Default)]
struct Model {
    names: BTreeMap<Key, Versions>,
    last: BTreeMap<Key, u32>,
}

#[derive(Debug, Clone, PartialEq)]
struct Versions {
    live: u32,
    kept: BTreeMap<u32, (Kind, u8)>,
}

impl Model {
    fn commit(&mut self, key: Key, kind: Kind, content: u8) -> Result<(u32, bool), &'static str> {
        let (tenant, name, is_model) = key;
        let shares =
            |versions: &Versions| versions.kept.values().any(|(kind, _)| *kind != Kind::Http);
        if kind != Kind::Http && self.names.get(&(tenant, name, !is_model)).is_some_and(shares) {
            return Err("taken");
        }
        let versions = self.names.entry(key).or_insert(Versions { live: 0, kept: BTreeMap::new() });
        let known = versions.kept.iter().find(|(_, version)| **version == (kind, content));
        let (number, created) = match known {
            Some((number, _)) => (*number, false),
            None => {
                let last = self.last.entry(key).or_default();
                *last += 1;
                (*last, true)
            }
        };
        versions.kept.insert(number, (kind, content));
        versions.live = number;
        let newest: Vec<u32> = versions.kept.keys().rev().take(KEEP as usize).copied().collect();
        versions.kept.retain(|kept, _| newest.contains(kept) || *kept == number);
        Ok((number, created))
    }

    fn roll_back(&mut self, key: Key, to: Option<u32>) -> Result<u32, &'static str> {
        let versions = self.names.get_mut(&key).ok_or("name")?;
        let target = match to {
            Some(to) => versions.kept.contains_key(&to).then_some(to).ok_or("version")?,
            None => *versions.kept.range(..versions.live).next_back().ok_or("previous")?.0,
        };
        versions.live = target;
        Ok(target)
    }

    fn contents(&self) -> BTreeSet<u8> {
        let kept = self.names.values().flat_map(|versions| versions.kept.values());
        kept.map(|(_, content)| *content).collect()
    }
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![Just(Kind::Http), Just(Kind::Inference), Just(Kind::Model)];
    prop_oneof![
        8 => (0..2u8, 0..2u8, kind, 0..4u8)
            .prop_map(|(tenant, name, kind, content)| Step::Commit { tenant, name, kind, content }),
        3 => (0..2u8, 0..2u8, any::<bool>(), option::of(1..5u32))
            .prop_map(|(tenant, name, model, to)| Step::RollBack { tenant, name, model, to }),
        2 => (0..2u8, 0..2u8, any::<bool>())
            .prop_map(|(tenant, name, model)| Step::Delete { tenant, name, model }),
        1 => Just(Step::Reopen),
    ]
}

fn class(model: bool) -> Class {
    if model { Class::Model } else { Class::Function }
}

fn tenant_of(tenant: u8) -> TenantId {
    TenantId::new(&format!("t{tenant}"))
}

fn name_of(index: u8) -> Name {
    name(&format!("n{index}"))
}

fn digest_of(kind: Kind, content: u8) -> Digest {
    Digest::of(format!("{kind:?} {content}").as_bytes())
}

async fn commit(
    store: &Store,
    tenant: u8,
    name: u8,
    (kind, byte): (Kind, u8),
) -> Result<(u32, bool, Vec<Digest>), &'static str> {
    let content = keep(store, &[byte]).await;
    macro_rules! new {
        ($spec:expr) => {
            NewVersion {
                caller: caller(&tenant_of(tenant)),
                name: name_of(name),
                digest: digest_of(kind, byte),
                content,
                spec: $spec,
                created: SystemTime::now(),
                live: true,
            }
        };
    }
    let committed = match kind {
        Kind::Http => store.catalog().commit_function(new!(http())).await,
        Kind::Inference => store.catalog().commit_function(new!(inference())).await,
        Kind::Model => store.catalog().commit_model(new!(model())).await,
    };
    match committed {
        Ok(done) => Ok((done.version.get(), done.created, done.removed.contents)),
        Err(CommitError::NameTaken { .. }) => Err("taken"),
        Err(error) => panic!("{error}"),
    }
}

/// Takes one step in both worlds; gives what the store says that it removed.
async fn take(store: &Store, model: &mut Model, step: &Step) -> Vec<Digest> {
    match *step {
        Step::Commit { tenant, name, kind, content } => {
            let expected = model.commit((tenant, name, kind == Kind::Model), kind, content);
            let outcome = commit(store, tenant, name, (kind, content)).await;
            assert_eq!(outcome.as_ref().map(|(n, c, _)| (*n, *c)).map_err(|e| *e), expected);
            outcome.map(|(_, _, removed)| removed).unwrap_or_default()
        }
        Step::RollBack { tenant, name, model: is_model, to } => {
            let expected = model.roll_back((tenant, name, is_model), to);
            let to = to.and_then(VersionNumber::new);
            let (tenant, name) = (tenant_of(tenant), name_of(name));
            let outcome =
                store.catalog().rollback(&caller(&tenant), class(is_model), &name, to).await;
            let outcome = outcome.map(VersionNumber::get).map_err(|error| match error {
                RollbackError::NotFound { .. } => "name",
                RollbackError::VersionNotFound { .. } => "version",
                RollbackError::NoPreviousVersion { .. } => "previous",
                RollbackError::Storage { reason } => panic!("{reason}"),
            });
            assert_eq!(outcome, expected);
            Vec::new()
        }
        Step::Delete { tenant, name, model: is_model } => {
            let expected = model.names.remove(&(tenant, name, is_model)).is_some();
            let (tenant, name) = (tenant_of(tenant), name_of(name));
            let outcome = store.catalog().delete(&caller(&tenant), class(is_model), &name).await;
            match outcome {
                Ok(removed) => {
                    assert!(expected);
                    removed.contents
                }
                Err(DeleteError::NotFound { .. }) if !expected => Vec::new(),
                Err(error) => panic!("{error}"),
            }
        }
        Step::Reopen => unreachable!("taken by the caller"),
    }
}

fn shown(routes: &Routes) -> BTreeMap<Key, (u32, Vec<(u32, Digest)>)> {
    fn versions<Spec>(deployed: &Deployed<Spec>) -> (u32, Vec<(u32, Digest)>) {
        let kept = deployed.versions().map(|version| (version.number.get(), version.digest));
        (deployed.live().number.get(), kept.collect())
    }
    let mut shown = BTreeMap::new();
    for tenant in 0..2 {
        for name in 0..2 {
            if let Some(function) = routes.function(&tenant_of(tenant), &name_of(name)) {
                shown.insert((tenant, name, false), versions(function));
            }
            if let Some(model) = routes.model(&tenant_of(tenant), &name_of(name)) {
                shown.insert((tenant, name, true), versions(model));
            }
        }
    }
    shown
}

fn check(store: &Store, model: &Model, directory: &Path) {
    let digests = |kept: &BTreeMap<u32, (Kind, u8)>| {
        kept.iter().map(|(number, (kind, content))| (*number, digest_of(*kind, *content))).collect()
    };
    let expected: BTreeMap<_, (u32, Vec<_>)> = model
        .names
        .iter()
        .map(|(key, versions)| (*key, (versions.live, digests(&versions.kept))))
        .collect();
    assert_eq!(shown(&store.catalog().routes()), expected);
    let blobs: BTreeSet<_> =
        model.contents().into_iter().map(|content| Digest::of(&[content]).hex()).collect();
    assert_eq!(blob_files(directory), blobs);
}

async fn walk(steps: &[Step]) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = open(folder.path(), KEEP).await;
    let mut model = Model::default();
    for step in steps {
        if let Step::Reopen = step {
            store.close().await;
            drop(store);
            store = open(folder.path(), KEEP).await;
        } else {
            let before = model.contents();
            let mut removed = take(&store, &mut model, step).await;
            removed.sort();
            let gone = before.difference(&model.contents()).map(|c| Digest::of(&[*c])).collect();
            let mut gone: Vec<Digest> = gone;
            gone.sort();
            assert_eq!(removed, gone, "{step:?}");
        }
        check(&store, &model, folder.path());
    }
    store.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_catalog_does_what_its_model_does(steps in vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(walk(&steps));
    }
}
