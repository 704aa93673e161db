//! Sandboxes on their own: what is accepted, what is kept on disk, and what a guest can't exceed.
//! Guests are written out in the text format here, so that each test shows its own.

mod support;

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use quern_sandbox::{
    ComponentError, Function, InferenceFunction, Owner, Report, Sandbox, SandboxConfig,
};
use quern_types::{
    ByteSize, Call, DataType, Deadline, Digest, Exceeded, FunctionKind, FunctionSpec, InvocationId,
    InvokeError, Limits, Period, Reuse, Signature, Tensor, TensorSpec,
};
use support::{owner, services};
use tempfile::TempDir;

fn sandbox(folder: &Path, pooling: bool) -> Sandbox {
    let config =
        SandboxConfig { pooling, instances: 8, ..SandboxConfig::new(folder.join("artifacts")) };
    Sandbox::new(config, services(), &prometheus::Registry::new()).expect("a sandbox")
}

fn spec(kind: FunctionKind) -> FunctionSpec {
    let limits = Limits {
        memory: ByteSize::mib(1),
        cpu: Period::from_millis(30),
        timeout: Period::from_millis(1_000),
        ..Limits::default()
    };
    FunctionSpec { limits, ..FunctionSpec::new(kind) }
}

fn inference() -> FunctionSpec {
    let tensor = |name: &str| TensorSpec {
        name: name.into(),
        dtype: DataType::Uint8,
        shape: vec![-1],
        range: None,
    };
    let signature = Signature::new(vec![tensor("x")], vec![tensor("x")]).expect("a signature");
    spec(FunctionKind::Inference(signature))
}

/// An inference function whose `infer` has this body; it is given the pointer and count of its
/// inputs, and returns a pointer to its result.
fn guest(body: &str) -> Vec<u8> {
    let text = format!(
        "(module
            (memory (export \"memory\") 1)
            (global $free (mut i32) (i32.const 1024))
            (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                (local.set $at
                    (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
                (global.set $free (i32.add (local.get $at) (local.get 3)))
                (local.get $at))
            (func $deep (param i32) (result i32)
                (i32.add (call $deep (local.get 0)) (i32.const 1)))
            (func $infer (export \"quern:ml/inference@0.1.0#infer\")
                (param $inputs i32) (param $count i32) (result i32)
                {body}))"
    );
    let mut module = wat::parse_str(&text).expect("valid text");
    let mut resolve = wit_parser::Resolve::default();
    let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit");
    let (package, _) = resolve.push_dir(wit).expect("the contract");
    let world = resolve.select_world(&[package], Some("inference-function")).expect("its world");
    let encoding = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut module, &resolve, world, encoding)
        .expect("metadata");
    let mut encoder = wit_component::ComponentEncoder::default().module(&module).expect("a module");
    encoder.encode().expect("a component")
}

/// Answers with its inputs: the result lies at 0, its discriminant, then the list.
const ECHO: &str = "(i32.store (i32.const 0) (i32.const 0))
    (i32.store (i32.const 4) (local.get $inputs))
    (i32.store (i32.const 8) (local.get $count))
    (i32.const 0)";

fn call() -> Call {
    let id: InvocationId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().expect("an id");
    let deadline = Deadline::after(Instant::now(), Duration::from_millis(1_000));
    let (tenant, priority, trace) = Default::default();
    Call { id, tenant, deadline, priority, trace, settings: None }
}

/// Deploys a guest, calls it once, and returns its answer and the report.
async fn run(
    sandbox: &Sandbox,
    component: &[u8],
    spec: &FunctionSpec,
) -> (Result<Vec<Tensor>, InvokeError>, Report) {
    let content = Digest::of(component);
    sandbox.validate(component, spec).expect("valid");
    sandbox.compile(&content, component, spec).expect("compiles");
    let function =
        sandbox.load(&owner("guest"), &content, spec).expect("loads").expect("was compiled");
    let Function::Inference(function) = function else { panic!("an inference function") };
    let input = Tensor::new("x", DataType::Uint8, vec![3], vec![1, 2, 3]).expect("a tensor");
    let (sender, report) = mpsc::channel();
    let answer = function
        .infer(call(), vec![input], move |report| sender.send(report).expect("is awaited"))
        .await;
    (answer, report.recv().expect("is reported"))
}

#[tokio::test]
async fn a_guest_answers_with_and_without_the_pool() {
    for pooling in [true, false] {
        let folder = TempDir::new().expect("a folder");
        let sandbox = sandbox(folder.path(), pooling);
        let (answer, report) = run(&sandbox, &guest(ECHO), &inference()).await;
        let outputs = answer.expect("an answer");
        assert_eq!(outputs[0].data()[..], [1, 2, 3]);
        assert!(report.failure.is_none());
        assert_eq!(report.memory_bytes, 65_536);
    }
}

/// Answers with how many requests its instance has seen, in the first byte of its input.
const COUNT: &str = "(i32.store (i32.const 512) (i32.add (i32.load (i32.const 512)) (i32.const 1)))
    (i32.store8 (i32.load offset=20 (local.get $inputs)) (i32.load8_u (i32.const 512)))
    (i32.store (i32.const 0) (i32.const 0))
    (i32.store (i32.const 4) (local.get $inputs))
    (i32.store (i32.const 8) (local.get $count))
    (i32.const 0)";

/// A function that counts, ready to be called.
fn counter(sandbox: &Sandbox, spec: &FunctionSpec) -> Arc<InferenceFunction> {
    counter_of(&owner("guest"), sandbox, spec)
}

fn counter_of(owner: &Owner, sandbox: &Sandbox, spec: &FunctionSpec) -> Arc<InferenceFunction> {
    let component = guest(COUNT);
    let content = Digest::of(&component);
    sandbox.compile(&content, &component, spec).expect("compiles");
    match sandbox.load(owner, &content, spec).expect("loads").expect("was compiled") {
        Function::Inference(function) => function,
        Function::Http(_) => panic!("an inference function"),
    }
}

#[test]
fn only_a_pool_lowers_the_concurrency_of_a_function() {
    let folder = TempDir::new().expect("a folder");
    let component = guest(ECHO);
    let content = Digest::of(&component);
    let limits = Limits { concurrency: 100, ..inference().limits };
    let spec = FunctionSpec { limits, ..inference() };
    // The pool has two memories for each of its eight instances.
    for (pooling, concurrency) in [(true, 8), (false, 100)] {
        let sandbox = sandbox(folder.path(), pooling);
        sandbox.compile(&content, &component, &spec).expect("compiles");
        let function = sandbox.load(&owner("guest"), &content, &spec).expect("loads");
        assert_eq!(function.expect("was compiled").concurrency(), concurrency);
    }
}

/// Bytes of the memory of an instance that counts.
const COUNTER_BYTES: u64 = 65_536;

#[tokio::test]
async fn versions_of_a_function_share_its_memory_and_their_idle_instances_give_way() {
    let folder = TempDir::new().expect("a folder");
    let config = SandboxConfig {
        pooling: false,
        memory: ByteSize(2 * COUNTER_BYTES),
        ..SandboxConfig::new(folder.path().join("artifacts"))
    };
    let registry = prometheus::Registry::new();
    let sandbox = Sandbox::new(config, services(), &registry).expect("a sandbox");
    let reuse = Some(Reuse { requests: 100, idle: Period::from_millis(60_000) });
    let spec = FunctionSpec { reuse, ..inference() };
    assert_eq!(sandbox.limits(&spec).memory, ByteSize(COUNTER_BYTES), "more can never be had");
    let [old, new] = [(); 2].map(|()| counter(&sandbox, &spec));
    let other = counter_of(&owner("other"), &sandbox, &spec);
    assert_eq!((count(&old).await, count(&old).await), (Ok(1), Ok(2)));
    assert_eq!(count(&other).await, Ok(1));
    // There is room for one instance of a function, whichever version it is of.
    assert_eq!((count(&new).await, count(&new).await), (Ok(1), Ok(2)));
    assert_eq!(count(&other).await, Ok(2), "another's gave no way");
    assert_eq!(count(&old).await, Ok(1));
}

async fn count(function: &Arc<InferenceFunction>) -> Result<u8, InvokeError> {
    let input = Tensor::new("x", DataType::Uint8, vec![1], vec![0]).expect("a tensor");
    let outputs = function.infer(call(), vec![input], drop).await?;
    Ok(outputs[0].data()[0])
}

#[tokio::test]
async fn instances_are_reused_only_if_the_manifest_asks_for_it() {
    let folder = TempDir::new().expect("a folder");
    let sandbox = sandbox(folder.path(), true);
    let never = counter(&sandbox, &inference());
    let reuse = Some(Reuse { requests: 2, idle: Period::from_millis(60_000) });
    let twice = counter(&sandbox, &FunctionSpec { reuse, ..inference() });
    for expected in [1, 2, 1, 2] {
        assert_eq!(count(&twice).await, Ok(expected));
        assert_eq!(count(&never).await, Ok(1));
    }
}

#[tokio::test]
async fn idle_instances_give_way_before_a_request_is_refused() {
    let folder = TempDir::new().expect("a folder");
    let config = SandboxConfig { instances: 1, ..SandboxConfig::new(folder.path().join("a")) };
    let sandbox = Sandbox::new(config, services(), &prometheus::Registry::new());
    let sandbox = sandbox.expect("a sandbox");
    let reuse = Some(Reuse { requests: 100, idle: Period::from_millis(60_000) });
    let spec = FunctionSpec { reuse, ..inference() };
    let (one, other) = (counter(&sandbox, &spec), counter(&sandbox, &spec));
    assert_eq!((count(&one).await, count(&one).await), (Ok(1), Ok(2)));
    assert_eq!(count(&other).await, Ok(1), "the instance of one gave way");
    assert_eq!(count(&one).await, Ok(1), "and that of the other did");
    // While one request has the only instance, nothing can give way.
    let (first, second) = tokio::join!(count(&one), count(&other));
    let busy = InvokeError::Busy { scope: "server", limit: 1 };
    assert!(first.is_ok() || second.is_ok());
    assert!([first, second].iter().all(|count| count.is_ok() || *count == Err(busy.clone())));
}

#[tokio::test]
async fn outputs_beyond_the_response_limit_are_refused() {
    let folder = TempDir::new().expect("a folder");
    let mut spec = inference();
    spec.limits.response = ByteSize(2);
    let (answer, report) = run(&sandbox(folder.path(), true), &guest(ECHO), &spec).await;
    let expected = InvokeError::Limit(Exceeded::Response(ByteSize(2)));
    assert_eq!(answer, Err(expected.clone()));
    assert_eq!(report.failure.expect("a failure").error, expected);
}

#[tokio::test]
async fn each_limit_ends_its_guest_with_its_own_error() {
    let cases = [
        (
            "(loop $l (br $l)) (i32.const 0)",
            InvokeError::Limit(Exceeded::Cpu(Period::from_millis(30))),
        ),
        (
            "(if (i32.eq (memory.grow (i32.const 100)) (i32.const -1)) (then unreachable))
             (i32.const 0)",
            InvokeError::Limit(Exceeded::Memory(ByteSize::mib(1))),
        ),
    ];
    let traps = [
        ("unreachable", "wasm trap: wasm `unreachable` instruction executed"),
        (
            "(drop (i32.load (i32.const -1))) (i32.const 0)",
            "wasm trap: out of bounds memory access",
        ),
    ];
    let folder = TempDir::new().expect("a folder");
    let sandbox = sandbox(folder.path(), true);
    for (body, expected) in cases {
        let (answer, report) = run(&sandbox, &guest(body), &inference()).await;
        assert_eq!(answer.expect_err(body), expected);
        assert_eq!(report.failure.expect("a failure").error, expected);
    }
    for (body, expected) in traps {
        let (answer, _) = run(&sandbox, &guest(body), &inference()).await;
        let Err(InvokeError::Trap { reason, trace }) = answer else { panic!("{answer:?}") };
        assert_eq!(reason, expected);
        assert!(trace.iter().any(|frame| frame.ends_with("infer")), "{trace:?}");
    }
    let (answer, _) = run(&sandbox, &guest("(call $deep (i32.const 1))"), &inference()).await;
    let Err(InvokeError::Trap { reason, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!(reason, "wasm trap: call stack exhausted");
    let (answer, _) = run(&sandbox, &guest(ECHO), &inference()).await;
    assert!(answer.is_ok(), "others are served after all that");
}

/// Calls a function of its own without end that returns at once and goes on: tasks of
/// which the caller holds no handle.
const BACKGROUND_TASKS: &str = r#"(component
    (component $worker
        (core func $return (canon task.return))
        (core func $set (canon waitable-set.new))
        (core module $module
            (import "" "return" (func $return))
            (import "" "set" (func $set (result i32)))
            (global $waits (mut i32) (i32.const 0))
            (func (export "work") (result i32)
                (if (i32.eqz (global.get $waits)) (then (global.set $waits (call $set))))
                (call $return)
                (i32.or (i32.const 2) (i32.shl (global.get $waits) (i32.const 4))))
            (func (export "event") (param i32 i32 i32) (result i32) (i32.const 0)))
        (core instance $instance (instantiate $module (with "" (instance
            (export "return" (func $return)) (export "set" (func $set))))))
        (func (export "work") async
            (canon lift (core func $instance "work")
                async (callback (core func $instance "event")))))
    (component $caller
        (import "work" (func $work async))
        (core func $work (canon lower (func $work) async))
        (core module $module
            (import "" "work" (func $work (result i32)))
            (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
            (func (export "infer") (param i32 i32) (result i32)
                (loop $again (drop (call $work)) (br $again)) (i32.const 0)))
        (core instance $instance
            (instantiate $module (with "" (instance (export "work" (func $work))))))
        (type $data-type' (enum "bool" "uint8" "uint16" "uint32" "uint64" "int8" "int16" "int32"
            "int64" "fp16" "bf16" "fp32" "fp64" "bytes"))
        (export $data-type "data-type" (type $data-type'))
        (type $tensor' (record (field "name" string) (field "data-type" $data-type)
            (field "shape" (list u64)) (field "data" (list u8))))
        (export $tensor "tensor" (type $tensor'))
        (type $error' (variant (case "invalid-input" string) (case "not-found" string)
            (case "overloaded" string) (case "timed-out" string) (case "internal" string)))
        (export $error "error" (type $error'))
        (func (export "infer")
            (param "inputs" (list $tensor)) (result (result (list $tensor) (error $error)))
            (canon lift (core func $instance "infer") (memory (core memory $instance "memory"))
                (realloc (core func $instance "realloc")))))
    (instance $worker (instantiate $worker))
    (instance $caller (instantiate $caller (with "work" (func $worker "work"))))
    (export "quern:ml/inference@0.1.0" (instance $caller)))"#;

#[tokio::test]
async fn tasks_that_go_on_after_they_have_returned_count_as_handles() {
    let folder = TempDir::new().expect("a folder");
    let sandbox = sandbox(folder.path(), true);
    let mut spec = inference();
    spec.limits.handles = 100;
    spec.limits.cpu = Period::from_millis(60_000);
    let component = wat::parse_str(BACKGROUND_TASKS).expect("valid text");
    let (answer, _) = run(&sandbox, &component, &spec).await;
    assert_eq!(answer, Err(InvokeError::Limit(Exceeded::Handles(100))));
}

#[tokio::test]
async fn wall_time_ends_a_guest_that_has_processor_time_left() {
    let folder = TempDir::new().expect("a folder");
    let sandbox = sandbox(folder.path(), true);
    let mut spec = inference();
    spec.limits.cpu = Period::from_millis(60_000);
    let (answer, _) = run(&sandbox, &guest("(loop $l (br $l)) (i32.const 0)"), &spec).await;
    assert_eq!(answer, Err(InvokeError::Limit(Exceeded::Timeout(Period::from_millis(1_000)))));
}

#[tokio::test]
async fn a_trap_shows_the_guests_stack_to_its_owner() {
    let folder = TempDir::new().expect("a folder");
    let (_, report) = run(&sandbox(folder.path(), true), &guest("unreachable"), &inference()).await;
    let detail = report.failure.expect("a failure").detail;
    assert!(detail.contains("infer"), "{detail}");
}

#[tokio::test]
async fn malformed_outputs_are_the_functions_fault() {
    // A list of one tensor whose length in bytes disagrees with its shape, all zero but the count.
    let body = "(i32.store (i32.const 4) (i32.const 64)) (i32.store (i32.const 8) (i32.const 1))
        (i32.const 0)";
    let folder = TempDir::new().expect("a folder");
    let (answer, _) = run(&sandbox(folder.path(), true), &guest(body), &inference()).await;
    assert!(matches!(answer, Err(InvokeError::InvalidOutput { .. })), "{answer:?}");
}

#[test]
fn what_is_not_a_fitting_component_is_refused_by_name() {
    let folder = TempDir::new().expect("a folder");
    let sandbox = sandbox(folder.path(), false);
    let parse = |text: &str| wat::parse_str(text).expect("valid text");
    let refused = |component: &[u8], spec: &FunctionSpec| {
        sandbox.validate(component, spec).expect_err("refused")
    };
    let http = spec(FunctionKind::Http);
    assert!(matches!(refused(b"#!/bin/sh", &http), ComponentError::NotAComponent { .. }));
    assert!(matches!(refused(b"", &http), ComponentError::NotAComponent { .. }));
    assert!(matches!(refused(&parse("(module)"), &http), ComponentError::NotAComponent { .. }));
    assert_eq!(
        refused(&parse("(component (import \"acme:oven/bake@1.0.0\" (instance)))"), &http),
        ComponentError::UnknownImport { import: "acme:oven/bake@1.0.0".into() }
    );
    assert!(matches!(
        refused(&parse("(component (import \"quern:ml/models@0.1.0\" (instance)))"), &http),
        ComponentError::MissingGrant { .. }
    ));
    assert!(matches!(
        refused(&parse("(component)"), &http),
        ComponentError::MissingExport {
            export: "wasi:http/incoming-handler@0.2 or wasi:http/handler@0.3",
            ..
        }
    ));
    let mut cut = guest(ECHO);
    cut.truncate(cut.len() - 9);
    assert!(matches!(refused(&cut, &inference()), ComponentError::Invalid { .. }));
}

#[test]
fn an_export_of_another_type_is_refused_when_it_is_compiled() {
    let folder = TempDir::new().expect("a folder");
    let sandbox = sandbox(folder.path(), false);
    let text = "(component (instance $empty)
        (export \"wasi:http/incoming-handler@0.2.12\" (instance $empty)))";
    let component = wat::parse_str(text).expect("valid text");
    let http = spec(FunctionKind::Http);
    sandbox.validate(&component, &http).expect("fits from the outside");
    let content = Digest::of(&component);
    let refused = sandbox.compile(&content, &component, &http).expect_err("refused");
    assert!(matches!(refused, ComponentError::Invalid { .. }), "{refused:?}");
    assert!(
        sandbox.load(&owner("guest"), &content, &http).expect("readable").is_none(),
        "nothing is kept"
    );
}

#[test]
fn code_that_this_node_has_not_sealed_is_never_loaded() {
    let folder = TempDir::new().expect("a folder");
    let spec = inference();
    let (one, other) = (guest(ECHO), guest("unreachable"));
    let (content, other_content) = (Digest::of(&one), Digest::of(&other));
    let sandbox = sandbox(folder.path(), false);
    sandbox.compile(&content, &one, &spec).expect("compiles");
    sandbox.compile(&other_content, &other, &spec).expect("compiles");
    let (file, other_file) =
        (artifact(folder.path(), &content), artifact(folder.path(), &other_content));
    let good = fs::read(&file).expect("was written");
    let (mut code, mut seal) = (good.clone(), good.clone());
    code[good.len() / 2] ^= 1;
    *seal.last_mut().expect("not empty") ^= 1;
    let another = fs::read(&other_file).expect("was written");
    for bad in [&code, &seal, &good[..good.len() / 2].to_vec(), &Vec::new(), &another] {
        // The file itself is read-only; only another one can take its place.
        let _ = fs::remove_file(&file);
        fs::write(&file, bad).expect("writable");
        assert!(sandbox.load(&owner("guest"), &content, &spec).expect("readable").is_none());
        assert!(!file.exists(), "what is not sealed is removed");
    }
    fs::write(&file, &good).expect("writable");
    assert!(sandbox.load(&owner("guest"), &content, &spec).expect("readable").is_some());
    sandbox.forget(&content);
    assert!(sandbox.load(&owner("guest"), &content, &spec).expect("readable").is_none());
}

#[tokio::test]
async fn loaded_code_needs_its_file_no_longer() {
    let folder = TempDir::new().expect("a folder");
    let (spec, component) = (inference(), guest(ECHO));
    let content = Digest::of(&component);
    let sandbox = sandbox(folder.path(), false);
    sandbox.compile(&content, &component, &spec).expect("compiles");
    let file = artifact(folder.path(), &content);
    assert!(fs::metadata(&file).expect("is there").permissions().readonly());
    let function =
        sandbox.load(&owner("guest"), &content, &spec).expect("readable").expect("is there");
    let size = fs::metadata(&file).expect("is there").len();
    assert!(function.memory_bytes() >= size, "{} < {size}", function.memory_bytes());
    sandbox.forget(&content);
    let Function::Inference(function) = function else { panic!("an inference function") };
    let input = Tensor::new("x", DataType::Uint8, vec![1], vec![7]).expect("a tensor");
    let answer = function.infer(call(), vec![input], |_| {}).await.expect("an answer");
    assert_eq!(answer[0].data()[..], [7]);
}

#[test]
fn compiled_code_survives_a_restart() {
    let folder = TempDir::new().expect("a folder");
    let (spec, component) = (inference(), guest(ECHO));
    let content = Digest::of(&component);
    sandbox(folder.path(), false).compile(&content, &component, &spec).expect("compiles");
    let again = sandbox(folder.path(), false);
    assert!(again.load(&owner("guest"), &content, &spec).expect("readable").is_some());
}

#[test]
fn code_that_a_crash_left_behind_is_removed() {
    let folder = TempDir::new().expect("a folder");
    let sandbox = sandbox(folder.path(), false);
    let spec = inference();
    let (kept, left) = (guest(ECHO), guest("unreachable"));
    for component in [&kept, &left] {
        sandbox.compile(&Digest::of(component), component, &spec).expect("compiles");
    }
    sandbox.retain(&HashSet::from([Digest::of(&kept)])).expect("writable");
    assert!(sandbox.load(&owner("guest"), &Digest::of(&kept), &spec).expect("readable").is_some());
    assert!(sandbox.load(&owner("guest"), &Digest::of(&left), &spec).expect("readable").is_none());
}

fn artifact(folder: &Path, content: &Digest) -> PathBuf {
    let engines = fs::read_dir(folder.join("artifacts")).expect("is there");
    let engine = engines
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.is_dir())
        .expect("one engine");
    engine.join(content.hex())
}
