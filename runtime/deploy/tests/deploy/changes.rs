//! Rollback, removal, retention and logs.

use std::{sync::Arc, time::SystemTime};

use quern_deploy::{DeployError, LogFilter, LogPosition, LogQuery, LogRecord, LogStream};
use quern_types::{Class, Name, VersionNumber};

use crate::common::{Server, caller, component, manifest, name, spec, tenant};

fn record(function: &Name, version: VersionNumber, text: &str) -> LogRecord {
    LogRecord {
        tenant: tenant(),
        function: function.clone(),
        version,
        invocation: quern_types::InvocationId::from_uuid(uuid::Uuid::now_v7()),
        trace: None,
        time: SystemTime::now(),
        stream: LogStream::Stdout,
        text: text.into(),
    }
}

fn newest() -> LogQuery {
    let (from, filter) = (LogPosition::Before(u64::MAX), LogFilter::default());
    LogQuery { oldest: VersionNumber::FIRST, from, limit: 10, filter }
}

#[tokio::test]
async fn a_rollback_goes_back_or_says_why_not() {
    let server = Server::start(10).await;
    let (class, key, owner) = (Class::Function, name("f"), caller());
    let number = |number| VersionNumber::new(number).expect("not zero");
    let back = |to| server.deployer.rollback(&owner, class, &key, to);
    assert_eq!(back(None).await, Err(DeployError::NotFound { class, name: key.clone() }));
    for variant in 1..=2 {
        let deployed = server.deploy_function("f", &manifest("f"), &component(variant)).await;
        deployed.expect("deployed");
    }
    assert_eq!(back(None).await, Ok(number(1)));
    let live = number(1);
    let nothing = DeployError::NoPreviousVersion { class, name: key.clone(), live };
    assert_eq!(back(None).await, Err(nothing));
    assert_eq!(back(Some(number(2))).await, Ok(number(2)));
    let version = number(9);
    let missing = DeployError::VersionNotFound { class, name: key.clone(), version };
    assert_eq!(back(Some(version)).await, Err(missing));
}

#[tokio::test]
async fn what_is_deleted_leaves_no_blob_no_code_and_no_log() {
    let server = Server::start(10).await;
    let key = name("f");
    for variant in 1..=2 {
        let deployed = server.deploy_function("f", &manifest("f"), &component(variant)).await;
        deployed.expect("deployed");
    }
    server.deploy_function("g", &manifest("g"), &component(2)).await.expect("deployed");
    let mut changes = server.deployer.log_changes();
    server.store.logs().append(record(&key, VersionNumber::FIRST, "hello"));
    changes.changed().await.expect("written");
    let logs = server.deployer.logs(&tenant(), &key, newest()).await.expect("deployed").records;
    assert_eq!(logs[0].record.text, "hello");

    server.deployer.delete(&caller(), Class::Function, &key).await.expect("deleted");
    assert_eq!(server.kept(), (1, 1), "what the other function needs");
    assert!(server.is_compiled(&component(2), &spec(&manifest("g"))));
    let missing = DeployError::NotFound { class: Class::Function, name: key.clone() };
    assert_eq!(server.deployer.logs(&tenant(), &key, newest()).await, Err(missing.clone()));
    assert_eq!(server.deployer.delete(&caller(), Class::Function, &key).await, Err(missing));

    let redeployed = server.deploy_function("f", &manifest("f"), &component(1)).await;
    let redeployed = redeployed.expect("deployed");
    let logs = server.deployer.logs(&tenant(), &key, newest()).await.expect("deployed").records;
    assert_eq!(logs, [], "a new function of that name starts with an empty log");

    let late = record(&key, VersionNumber::FIRST, "from an invocation that outlived its function");
    server.store.logs().append(late);
    server.store.logs().append(record(&key, redeployed.version, "new"));
    while *changes.borrow_and_update() < 3 {
        changes.changed().await.expect("written");
    }
    let logs = server.deployer.logs(&tenant(), &key, newest()).await.expect("deployed").records;
    let texts: Vec<_> = logs.iter().map(|stored| stored.record.text.as_str()).collect();
    assert_eq!(texts, ["new"]);
}

#[tokio::test]
async fn old_versions_go_with_their_code() {
    let server = Server::start(2).await;
    for variant in 1..=4 {
        let deployed = server.deploy_function("f", &manifest("f"), &component(variant)).await;
        deployed.expect("deployed");
    }
    assert_eq!(server.kept(), (2, 2));
    for (variant, kept) in [(1, false), (2, false), (3, true), (4, true)] {
        assert_eq!(server.is_compiled(&component(variant), &spec(&manifest("f"))), kept);
    }
}

#[tokio::test]
async fn one_version_goes_with_its_code_unless_it_is_live() {
    let server = Server::start(10).await;
    let (class, key, owner) = (Class::Function, name("f"), caller());
    for variant in 1..=2 {
        let deployed = server.deploy_function("f", &manifest("f"), &component(variant)).await;
        deployed.expect("deployed");
    }
    let delete = |number| {
        let version = VersionNumber::new(number).expect("not zero");
        server.deployer.delete_version(&owner, class, &key, version)
    };
    let live = delete(2).await.expect_err("it is live").to_string();
    assert_eq!(live, "version 2 of function \"f\" is live: give another one all requests first");
    assert_eq!(delete(1).await, Ok(()));
    assert_eq!(server.kept(), (1, 1));
    assert!(!server.is_compiled(&component(1), &spec(&manifest("f"))));
    assert!(server.is_compiled(&component(2), &spec(&manifest("f"))));
}

/// Several deploy and delete the same component; whoever has an answer finds its code.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_deploys_and_deletes_of_one_component_never_lose_its_code() {
    let server = Arc::new(Server::start(1).await);
    let workers = (0..4).map(|worker| {
        let server = server.clone();
        tokio::spawn(async move {
            let function = format!("f{worker}");
            let (manifest, component) = (manifest(&function), component(0));
            for round in 0..10 {
                let deployed = server.deploy_function(&function, &manifest, &component).await;
                deployed.expect("deployed");
                let compiled = server.is_compiled(&component, &spec(&manifest));
                assert!(compiled, "worker {worker}, round {round}");
                let key = name(&function);
                server.deployer.delete(&caller(), Class::Function, &key).await.expect("deleted");
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.expect("no worker fails");
    }
    assert_eq!(server.kept(), (0, 0), "nothing is left behind");
}
