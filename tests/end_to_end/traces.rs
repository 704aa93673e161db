//! Traces: from the head of a request through its guest to the batch that it joined, as a collector
//! gets them.

mod collector;

use futures::future::join_all;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use reqwest::{Method, multipart};
use serde_json::{Value, json};

use self::collector::Exported;
pub(crate) use self::collector::{Collector, start};
use crate::{
    DIGITS, FAN_OUT, HELLO, MISBEHAVE, OUTBOUND,
    support::{Answer, Server, answer, until},
};

pub(crate) const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
pub(crate) const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// The same trace, which its caller does not record.
const UNRECORDED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

fn image(rows: usize) -> String {
    let image = json!({ "name": "image", "shape": [rows, 64], "datatype": "FP32",
                        "data": vec![3.0; rows * 64] });
    json!({ "inputs": [image] }).to_string()
}

/// A request that is part of the caller's trace.
async fn called(server: &Server, method: Method, path: &str, body: String) -> Answer {
    let request = server.request(method, path).header("traceparent", CALLER);
    answer(request.header("tracestate", "other=1").body(body)).await
}

/// The value of a header as a guest saw it.
fn seen(answer: &Answer, name: &str) -> Option<String> {
    let text = answer.text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("header {name}: ")));
    line.map(str::to_owned)
}

#[tokio::test]
async fn a_request_is_one_trace_from_its_head_to_the_batch_it_joined() {
    let collector = Collector::start();
    let server = collector.server("service_name = \"mill\"\nattributes = \"zone=a%20b\"");
    server.deploy_digits_model().await;
    server.deploy(&DIGITS).await;
    let answer = called(&server, Method::POST, "/v2/models/digits/infer", image(2)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());

    let request = collector.span(TRACE, "POST /v2/models/{name}/infer").await;
    assert_eq!(request.span.kind(), SpanKind::Server);
    assert_eq!(request.span.parent_span_id, [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]);
    assert_eq!(request.span.trace_state, "other=1");
    assert_eq!(request.text("http.request.method"), "POST");
    assert_eq!(request.text("http.route"), "/v2/models/{name}/infer");
    assert_eq!(request.text("url.path"), "/v2/models/digits/infer");
    assert_eq!(request.text("quern.tenant"), "default");
    assert_eq!(request.number("http.response.status_code"), 200);
    assert_eq!(request.text("quern.invocation"), answer.header("quern-invocation"));
    assert_eq!(answer.header("traceresponse"), format!("00-{TRACE}-{}-01", request.id()));
    assert_eq!(request.resource("service.name"), "mill");
    assert_eq!(request.resource("zone"), "a b");

    let invoke = collector.span(TRACE, "invoke").await;
    assert!(invoke.is_below(&request));
    assert_eq!((invoke.text("quern.function"), invoke.number("quern.version")), ("digits", 1));
    assert!(invoke.number("quern.memory_bytes") > 0 && !invoke.flag("quern.instance.reused"));
    assert!(invoke.number("quern.cpu_us") >= 0);
    assert!(collector.span(TRACE, "instantiate").await.is_below(&invoke));

    let infer = collector.span(TRACE, "infer").await;
    assert!(infer.is_below(&invoke));
    assert_eq!((infer.text("quern.model"), infer.number("quern.batch_rows")), ("digits-mlp", 2));
    let loads = collector.spans_of(TRACE, "load");
    assert!(loads.iter().any(|load| load.is_below(&invoke)), "of the function: {loads:?}");
    assert!(loads.iter().any(|load| load.is_below(&infer)), "of the model: {loads:?}");

    let [link] = &infer.span.links[..] else { panic!("{:?}", infer.span.links) };
    let run = collector.linked(link).await;
    assert!(run.trace() != TRACE && run.span.parent_span_id.is_empty());
    assert_eq!((run.span.name.as_str(), run.text("quern.device")), ("run", "cpu:0"));
    assert_eq!((run.number("quern.rows"), run.number("quern.calls")), (2, 1));
    assert_eq!(run.text("quern.engine"), infer.text("quern.engine"));
    assert!(run.span.links.iter().any(|link| infer.is(link)), "{:?}", run.span.links);
    let all = collector.spans();
    assert!(all.iter().all(|found| found.failure().is_none()), "{all:?}");
    assert!(all.iter().all(|found| {
        let Exported { span, .. } = found;
        span.start_time_unix_nano > 0 && span.end_time_unix_nano >= span.start_time_unix_nano
    }));
}

#[tokio::test]
async fn a_batch_is_linked_with_every_call_that_shares_it() {
    const ROWS: usize = 40;
    let collector = Collector::start();
    let server = collector.server("");
    server.deploy_digits_model().await;
    server.deploy(&FAN_OUT).await;
    let answer = called(&server, Method::POST, "/v2/models/fan-out/infer", image(ROWS)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let calls = || collector.spans_of(TRACE, "infer");
    until("every call is there", async || calls().len() == ROWS).await;
    let (mut rows, mut runs) = (0, std::collections::HashMap::new());
    for call in calls() {
        let [link] = &call.span.links[..] else { panic!("{:?}", call.span.links) };
        let run = collector.linked(link).await;
        assert!(run.span.links.iter().any(|link| call.is(link)));
        assert_eq!(call.number("quern.batch_rows"), run.number("quern.rows"));
        rows += call.number("quern.rows");
        runs.insert(run.id(), run);
    }
    let computed: i64 = runs.values().map(|run| run.number("quern.rows")).sum();
    assert_eq!((rows, computed), (ROWS as i64, ROWS as i64));
    let linked: usize = runs.values().map(|run| run.span.links.len()).sum();
    assert_eq!(linked, ROWS);
}

#[tokio::test]
async fn a_deployment_is_a_part_of_its_upload_and_says_what_came_of_it() {
    let collector = Collector::start();
    let server = collector.server("");
    let deploy = async |path: &str, form: multipart::Form| {
        let request = server.request(Method::PUT, path).header("traceparent", CALLER);
        answer(request.multipart(form)).await.status
    };
    let component = multipart::Part::bytes(HELLO.component());
    let function = multipart::Form::new().text("manifest", HELLO.manifest());
    let deployed = deploy("/v1/functions/hello", function.part("component", component)).await;
    assert_eq!(deployed, 201);
    let upload = collector.span(TRACE, "PUT /v1/functions/{name}").await;
    let deployment = collector.span(TRACE, "deploy").await;
    assert!(deployment.is_below(&upload));
    assert_eq!(deployment.text("quern.function"), "hello");
    assert_eq!(deployment.number("quern.version"), 1);
    assert!(deployment.text("quern.digest").starts_with("sha256:"));
    assert!(deployment.flag("quern.created"));
    assert!(collector.span(TRACE, "compile").await.is_below(&deployment));

    let garbage = multipart::Form::new().part("model", multipart::Part::bytes(vec![7; 9]));
    assert_eq!(deploy("/v1/models/bad", garbage).await, 422);
    let of_model = async || {
        let spans = collector.spans_of(TRACE, "deploy").into_iter();
        spans.filter(|span| span.failure().is_some()).count() == 1
    };
    until("the failure is told", of_model).await;
}

#[tokio::test]
async fn each_call_of_a_batch_is_a_trace_of_its_own() {
    let collector = Collector::start();
    let server = collector.server("");
    server.deploy_digits_model().await;
    let row = json!({"image": vec![1.0; 64]}).to_string();
    let input = multipart::Part::bytes(format!("{row}\n{row}\n").into_bytes());
    let input = input.mime_str("application/x-ndjson").expect("a media type");
    let asked = json!({"model": "digits-mlp"}).to_string();
    let form = multipart::Form::new().text("request", asked).part("input", input);
    let made = answer(server.request(Method::POST, "/v1/batches").multipart(form)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let id = made.json()["id"].as_str().expect("an id").to_owned();
    let calls = || {
        let spans = collector.spans().into_iter();
        spans.filter(|span| span.span.name == "score").collect::<Vec<_>>()
    };
    let rows = || calls().iter().map(|call| call.number("quern.rows")).sum::<i64>();
    until("both rows are scored", async || rows() >= 2).await;
    let mut traces = std::collections::BTreeSet::new();
    for call in calls() {
        assert_eq!((call.text("quern.batch"), call.text("quern.tenant")), (&*id, "default"));
        assert!(call.span.parent_span_id.is_empty(), "it begins a trace");
        assert!(collector.span(&call.trace(), "infer").await.is_below(&call));
        traces.insert(call.trace());
    }
    assert_eq!(traces.len(), calls().len());
}

#[tokio::test]
async fn a_guest_is_told_where_it_stands_whether_or_not_that_is_recorded() {
    let collector = Collector::start();
    let server = collector.server("sampler = \"parentbased_always_off\"");
    server.deploy(&MISBEHAVE).await;
    let ask = async |headers: &[(&str, &str)]| {
        let request = server.request(Method::GET, "/f/misbehave/request");
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        answer(request).await
    };
    let recorded =
        ask(&[("traceparent", CALLER), ("tracestate", "a=1"), ("tracestate", "b=2")]).await;
    let invoke = collector.span(TRACE, "invoke").await;
    let parent = format!("00-{TRACE}-{}-01", invoke.id());
    assert_eq!(seen(&recorded, "traceparent"), Some(parent));
    assert_eq!(seen(&recorded, "tracestate").as_deref(), Some("a=1,b=2"));

    let unrecorded = ask(&[("traceparent", UNRECORDED), ("tracestate", "a=1")]).await;
    let parent = seen(&unrecorded, "traceparent").expect("a trace");
    assert!(parent.starts_with(&format!("00-{TRACE}-")) && parent.ends_with("-00"), "{parent}");
    assert_ne!(parent, UNRECORDED, "it is this server that calls");
    assert_eq!(seen(&unrecorded, "tracestate").as_deref(), Some("a=1"));
    assert_eq!(unrecorded.header("traceresponse"), "");

    for malformed in ["", "00-x", &CALLER[..54], &CALLER.replace("00-", "ff-")] {
        let anew = ask(&[("traceparent", malformed), ("tracestate", "a=1")]).await;
        let parent = seen(&anew, "traceparent").expect("a trace of its own");
        assert!(parent.len() == 55 && !parent.contains(TRACE), "{malformed:?}: {parent}");
        assert!(parent.ends_with("-00"), "nobody records it: {parent}");
        assert_eq!(seen(&anew, "tracestate"), None, "{malformed:?}");
    }
    let anew = ask(&[]).await;
    assert!(seen(&anew, "traceparent").expect("a trace of its own").ends_with("-00"));
    let traces: Vec<_> = collector.spans().iter().map(Exported::trace).collect();
    assert!(traces.iter().all(|trace| trace == TRACE), "{traces:?}");
}

#[tokio::test]
async fn a_ratio_says_how_many_requests_are_recorded() {
    for (ratio, recorded) in [("0.0", false), ("1", true)] {
        let collector = Collector::start();
        let server = collector.server(&format!("sampler = \"traceidratio\"\nratio = {ratio}"));
        server.deploy(&HELLO).await;
        let answers =
            join_all((0..5).map(|_| called(&server, Method::GET, "/f/hello/", "".into())));
        for answer in answers.await {
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("traceresponse").is_empty(), !recorded);
        }
        server.stop();
        let spans = collector.spans_of(TRACE, "GET /f/{name}/{path}").len();
        assert_eq!(spans, if recorded { 5 } else { 0 }, "what was left is sent at the end");
    }
}

#[tokio::test]
async fn without_a_collector_headers_pass_as_they_are() {
    let server = Server::start();
    server.deploy(&MISBEHAVE).await;
    let answer = called(&server, Method::GET, "/f/misbehave/request", String::new()).await;
    assert_eq!(seen(&answer, "traceparent").as_deref(), Some(CALLER));
    assert_eq!(seen(&answer, "tracestate").as_deref(), Some("other=1"));
    assert_eq!(answer.header("traceresponse"), "");
    let missing = called(&server, Method::GET, "/f/nobody/", String::new()).await;
    assert_eq!(missing.json()["trace_id"], Value::Null);
}

#[tokio::test]
async fn what_fails_is_found_by_its_trace() {
    let collector = Collector::start();
    let server = collector.server("");
    server.deploy(&MISBEHAVE).await;
    let trap = called(&server, Method::GET, "/f/misbehave/trap", String::new()).await;
    trap.assert_error(500, "trap", "unreachable");
    assert_eq!(trap.json()["trace_id"], TRACE);
    let request = collector.span(TRACE, "GET /f/{name}/{path}").await;
    assert_eq!(request.text("error.type"), "trap");
    assert_eq!(request.failure(), Some("500 Internal Server Error"));
    let invoke = collector.span(TRACE, "invoke").await;
    assert!(invoke.failure().is_some_and(|why| why.contains("unreachable")), "{invoke:?}");

    let logs =
        async |query: &str| server.get(&format!("/v1/functions/misbehave/logs?{query}")).await;
    let found = async || logs(&format!("trace={TRACE}")).await.text().contains("unreachable");
    until("the log has the trap", found).await;
    assert!(
        logs(&format!("trace={TRACE}")).await.text().contains(&format!("\"trace\":\"{TRACE}\""))
    );
    assert_eq!(logs(&format!("trace={}", TRACE.replace('a', "b"))).await.text(), "");
}

#[tokio::test]
async fn outbound_requests_of_a_guest_go_on_with_its_trace() {
    let collector = Collector::start();
    let server = start(&format!(
        "[tracing]\nendpoint = \"{}\"\ndelay = \"10ms\"\n\
         [outbound]\nprivate_networks = [\"127.0.0.0/8\"]",
        collector.url()
    ));
    server.deploy(&HELLO).await;
    let manifest = format!("{}\n[grants]\nhttp = [\"{}\"]", OUTBOUND.manifest(), server.url());
    let deployed = server.upload("outbound", manifest, OUTBOUND.component()).await;
    assert!(deployed.status.is_success(), "{}", deployed.text());
    let path = format!("/f/outbound/?url={}/f/hello/?secret=1", server.url());
    let answer = called(&server, Method::GET, &path, String::new()).await;
    assert!(answer.text().starts_with("status 200"), "{}", answer.text());

    let invokes = || collector.spans_of(TRACE, "invoke");
    until("both functions have ended", async || invokes().len() == 2).await;
    let of = |name: &str| {
        let mut all = invokes().into_iter();
        all.find(|invoke| invoke.text("quern.function") == name).expect(name)
    };
    let sent = collector.span(TRACE, "GET").await;
    assert!(sent.span.kind() == SpanKind::Client && sent.is_below(&of("outbound")));
    assert_eq!(sent.text("url.full"), format!("{}/f/hello/", server.url()));
    assert_eq!(sent.number("http.response.status_code"), 200);
    let requests = || collector.spans_of(TRACE, "GET /f/{name}/{path}");
    until("both requests have ended", async || requests().len() == 2).await;
    assert!(requests().iter().any(|received| received.is_below(&sent)));
}

#[tokio::test]
async fn a_call_that_is_carried_out_later_stays_in_its_callers_trace() {
    let collector = Collector::start();
    let server = collector.server("");
    server.deploy(&HELLO).await;
    let request = server.request(Method::GET, "/f/hello/").header("traceparent", CALLER);
    let accepted = answer(request.header("prefer", "respond-async")).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    let requests = || collector.spans_of(TRACE, "GET /f/{name}/{path}");
    until("it is taken in and carried out", async || requests().len() == 2).await;
    let of = |status| {
        let mut all = requests().into_iter();
        all.find(|request| request.number("http.response.status_code") == status).expect("one each")
    };
    let (taken, carried_out) = (of(202), of(200));
    assert_eq!(taken.text("quern.invocation"), carried_out.text("quern.invocation"));
    assert_eq!(taken.span.parent_span_id, carried_out.span.parent_span_id);
    assert!(collector.span(TRACE, "invoke").await.is_below(&carried_out));
}

#[tokio::test]
async fn a_collector_that_is_gone_costs_spans_and_no_request() {
    let server =
        start("[tracing]\nendpoint = \"http://127.0.0.1:1\"\nmax_waiting = 4\ndelay = \"10ms\"");
    server.deploy(&HELLO).await;
    for _ in 0..20 {
        assert_eq!(server.get("/f/hello/").await.status, 200);
    }
    let dropped = async || server.metric("quern_trace_dropped_spans_total").await >= 10.0;
    until("spans are dropped", dropped).await;
    assert_eq!(server.metric("quern_trace_exported_spans_total").await, 0.0);
    let ready = server.get("/readyz").await;
    assert_eq!((ready.status.as_u16(), &ready.json()["state"]), (200, &json!("degraded")));
    let reasons = ready.json()["reasons"].to_string();
    assert!(reasons.contains("\"traces-dropped\""), "{reasons}");
    let concern = server.get("/metrics").await.text();
    assert!(concern.contains("quern_server_concern{code=\"traces-dropped\"} 1"), "{concern}");
    server.stop();
}

#[tokio::test]
async fn a_collector_that_refuses_is_asked_again_where_that_may_help() {
    let collector = Collector::start();
    collector.refuse(&[503, 429]);
    let server = collector.server("");
    server.deploy(&HELLO).await;
    collector.reject(1);
    let arrived = async || server.metric("quern_trace_exported_spans_total").await > 0.0;
    called(&server, Method::GET, "/f/hello/", String::new()).await;
    until("what was refused is sent again", arrived).await;
    assert!(collector.headers().len() >= 3, "two refusals, and one that was taken");
    let lost = async |reason: &str| {
        let line = format!("quern_trace_dropped_spans_total{{reason=\"{reason}\"}} ");
        let text = server.get("/metrics").await.text();
        let found = text.lines().find_map(|found| found.strip_prefix(&*line));
        found.expect(reason).parse::<f64>().expect("a number")
    };
    assert!(lost("rejected").await >= 1.0, "the collector did not want one of them");
    collector.refuse(&[400]);
    called(&server, Method::GET, "/f/hello/", String::new()).await;
    until("a refusal for good is a loss", async || lost("export").await > 0.0).await;
}

#[tokio::test]
async fn the_environment_of_opentelemetry_is_honoured() {
    let collector = Collector::start();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_quern"));
    command
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20key")
        .env("OTEL_SERVICE_NAME", "mill")
        .env("OTEL_RESOURCE_ATTRIBUTES", "zone=north")
        .env("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
        .env("OTEL_TRACES_SAMPLER_ARG", "0");
    let data = std::sync::Arc::new(tempfile::TempDir::new().expect("a folder"));
    let server = Server::start_program(command, data, &[]);
    server.deploy(&HELLO).await;
    assert_eq!(server.get("/f/hello/").await.header("traceresponse"), "", "the ratio is 0");
    called(&server, Method::GET, "/f/hello/", String::new()).await;
    server.stop();
    let request = collector.span(TRACE, "GET /f/{name}/{path}").await;
    assert_eq!((request.resource("service.name"), request.resource("zone")), ("mill", "north"));
    let headers = collector.headers();
    assert!(headers.iter().all(|headers| headers["authorization"] == "Bearer key"));
    assert!(headers.iter().all(|headers| headers["content-type"] == "application/x-protobuf"));
}
