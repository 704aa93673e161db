//! Copies of requests: what is compared, what is dropped, and that room comes back.

use std::{collections::VecDeque, convert::Infallible};

use ::http::{Request, Response};
use bytes::Bytes;
use futures::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use quern_types::{Body, DataType, Name, TenantId, VersionNumber};

use super::*;

fn key() -> VersionKey {
    let name: Name = "m".parse().expect("a name");
    VersionKey::new(&TenantId::default(), &name, VersionNumber::FIRST)
}

fn id() -> InvocationId {
    "01890a5d-ac96-774b-bcce-b302099a8057".parse().expect("an id")
}

fn shadows(calls: u32, bytes: u64) -> Shadows {
    Shadows::new(ShadowConfig { calls, memory: ByteSize(bytes) })
}

fn tensors(values: &[f32]) -> Vec<Tensor> {
    let shape = vec![values.len() as u64];
    vec![Tensor::from_elements("x", DataType::Fp32, shape, values.to_vec()).expect("a tensor")]
}

/// A body in these parts.
fn body(parts: &[&'static str]) -> Body {
    let parts = parts.iter().map(|part| Ok::<_, Infallible>(Frame::data(Bytes::from(*part))));
    let parts: VecDeque<_> = parts.collect();
    StreamBody::new(stream::iter(parts)).map_err(|never| match never {}).boxed_unsync()
}

fn response(status: u16, parts: &[&'static str]) -> Response<Body> {
    Response::builder().status(status).body(body(parts)).expect("a response")
}

async fn settled(shadows: &Shadows) -> ShadowReport {
    while shadows.room.calls.load(Relaxed) > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(shadows.room.bytes.load(Relaxed), 0, "all room is given back");
    shadows.read(&key())
}

#[tokio::test]
async fn answers_of_inference_are_compared_to_the_bit_and_by_their_numbers() {
    let shadows = shadows(8, 1_000);
    let failed = || Err(InvokeError::NoResponse);
    let busy = || Err(InvokeError::Busy { scope: "server", limit: 1 });
    type Answer = Result<Vec<Tensor>, InvokeError>;
    let cases: [(Answer, Answer); 5] = [
        (Ok(tensors(&[1.0, 2.0])), Ok(tensors(&[1.0, 2.0]))),
        (Ok(tensors(&[1.0, 2.0])), Ok(tensors(&[1.0, 2.25]))),
        (Ok(tensors(&[1.0])), failed()),
        (failed(), Ok(tensors(&[1.0]))),
        (Ok(tensors(&[1.0])), busy()),
    ];
    for (answer, shadow) in cases {
        let copy = shadows.copy(&key(), id(), &tensors(&[0.0; 10])).expect("there is room");
        assert_eq!(copy.inputs, tensors(&[0.0; 10]));
        let answer = answer.as_deref().map_err(ToString::to_string);
        copy.follow(answer, async move { shadow });
    }
    let report = settled(&shadows).await;
    let ShadowReport { same, different, failed, dropped, .. } = report;
    assert_eq!((same, different, failed, dropped), (1, 2, 1, 1), "busy says nothing");
    assert_eq!(report.max_abs_difference, Some(0.25));
    assert_eq!(report.answered.count(), 4);
    let mut shown: Vec<_> = report.examples.iter().map(|example| &*example.shadowed).collect();
    shown.sort_unstable();
    assert_eq!(shown, ["answered", "failed: function returned without a response", "x[1] = 2.25"]);
}

#[tokio::test]
async fn what_finds_no_room_is_dropped_and_counted() {
    let shadows = shadows(2, 100);
    let one = shadows.copy(&key(), id(), &tensors(&[0.0; 20])).expect("there is room");
    assert!(shadows.copy(&key(), id(), &tensors(&[0.0; 6])).is_none(), "80 and 24 bytes");
    let two = shadows.copy(&key(), id(), &tensors(&[0.0; 5])).expect("there is room");
    assert!(shadows.copy(&key(), id(), &[]).is_none(), "two are under way");
    // An answer counts, too.
    two.follow(Ok(&tensors(&[0.0])), async { Ok::<_, InvokeError>(Vec::new()) });
    drop(one);
    let report = settled(&shadows).await;
    assert_eq!((report.dropped, report.same), (4, 0));
    shadows.retain(|_| false);
    assert_eq!(shadows.read(&key()), ShadowReport::default());
}

/// What a shadow makes of a request whose answer was passed on, and what reached the caller.
async fn follow(
    shadows: &Shadows,
    (request, read): (Request<Body>, bool),
    answer: Result<Response<Body>, InvokeError>,
    shadow: Response<Body>,
) -> Option<Bytes> {
    let (request, copy) = shadows.copy_http(&key(), id(), request);
    if read {
        request.into_body().collect().await.expect("whole");
    }
    let send = move |request: Request<Body>| async move {
        assert_eq!(request.headers()["quern-shadow"], "1");
        let body = request.into_body().collect().await.expect("whole").to_bytes();
        assert_eq!(body, "asked");
        Ok(shadow)
    };
    let passed = copy.expect("there is room").follow(answer, send).ok()?;
    Some(passed.into_body().collect().await.expect("whole").to_bytes())
}

#[tokio::test]
async fn answers_of_http_are_compared_by_status_and_body() {
    let shadows = shadows(8, 1_000);
    let asked = || (Request::new(body(&["as", "ked"])), true);
    let hello = || Ok(response(200, &["hel", "lo"]));
    for shadow in [
        response(200, &["hello"]),
        response(201, &["hello"]),
        response(200, &["hallo"]),
        response(200, &["hello", "hello"]),
    ] {
        let passed = follow(&shadows, asked(), hello(), shadow).await;
        assert_eq!(passed.as_deref(), Some(&b"hello"[..]), "the caller gets all of it");
    }
    let error = Err(InvokeError::NoResponse);
    assert_eq!(follow(&shadows, asked(), error, response(200, &[])).await, None);
    let report = settled(&shadows).await;
    assert_eq!((report.same, report.different, report.dropped), (1, 4, 0));
    assert_eq!(report.examples[0].answered, "200 5 bytes \"hello\"");
    assert_eq!(report.examples[0].shadowed, "201 5 bytes \"hello\"");
}

async fn never(_: Request<Body>) -> Result<Response<Body>, InvokeError> {
    panic!("nothing is sent")
}

#[tokio::test]
async fn what_is_not_whole_is_not_compared() {
    let shadows = shadows(8, 1_000);
    let unread = (Request::new(body(&["asked"])), false);
    follow(&shadows, unread, Ok(response(200, &["a"])), response(200, &["a"])).await;
    let large = Request::new(body(&["asked"; 300]));
    let (request, copy) = shadows.copy_http(&key(), id(), large);
    request.into_body().collect().await.expect("whole, all the same");
    let passed = copy.expect("there was room").follow(Ok(response(200, &["a"])), never);
    passed.expect("passed on").into_body().collect().await.expect("whole");
    let broken = (Request::new(body(&["asked"])), true);
    let (request, copy) = shadows.copy_http(&key(), id(), broken.0);
    request.into_body().collect().await.expect("whole");
    let passed = copy.expect("there is room").follow(Ok(response(200, &["a", "b"])), never);
    drop(passed.expect("passed on"));
    let report = settled(&shadows).await;
    assert_eq!((report.same, report.dropped), (0, 3));
}

#[test]
fn no_more_examples_are_kept_than_anybody_reads() {
    let record = Record::default();
    for number in 0..25 {
        let shown = Some((number.to_string(), String::new()));
        let took = std::time::Duration::ZERO;
        let verdict = Verdict::Different(None);
        record.add(id(), Compared { verdict, shown, took, shadow_took: took });
    }
    let report = record.read();
    assert_eq!((report.different, report.examples.len()), (25, 10));
    assert_eq!(report.examples[9].answered, "24");
}
