//! One inference request: decoded, checked for what only the protocol knows, dispatched, encoded.
//! Inputs are checked against the signature further in, where they run.

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};
use quern_dispatcher::{InferReply, InferRequest};
use quern_types::{DataType, Mismatch, Priority, Served, Side, Signature, Tensor, Violation};

use super::{decode::InferenceRequest, encode::Answer, target::Found};
use crate::{
    Gateway,
    body::{Reply, ReplyBody, RequestBody},
    collect::Collected,
    errors::Failure,
    invocation::Invocation,
    route::Target,
};

/// Bodies above this leave the async threads while they are decoded: it takes longer than 500 µs.
const LARGE_BODY: usize = 256 << 10;
/// Tensors above this leave the async threads while they are encoded.
const LARGE_OUTPUT: usize = 128 << 10;

/// Why a request is refused before it runs, although its body is well-formed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum RequestError {
    /// The extension for binary tensors.
    #[error("binary tensors are not supported: send the data as JSON")]
    BinaryTensors,
    /// A compressed body.
    #[error("Content-Encoding {encoding:?} is not supported: send the body as it is")]
    Encoding {
        /// The encoding.
        encoding: String,
    },
    /// An output that does not exist.
    #[error("requested {0}")]
    Output(Mismatch),
    /// An output that can't be written.
    #[error(
        "output {name:?} is {dtype}, which has no form in JSON: name the other outputs in \
         \"outputs\", or use a model that gives FP32"
    )]
    NoJson {
        /// The output.
        name: String,
        /// Its type.
        dtype: DataType,
    },
}

/// `POST /v2/models/{name}[/versions/{version}]/infer`
pub(crate) async fn infer(
    gateway: &Gateway,
    invocation: Invocation,
    target: Target,
    request: Request<RequestBody>,
) -> Result<Reply, Failure> {
    let found = Found::find(&gateway.dispatcher.routes(), &gateway.tenant, &target)?;
    check_headers(request.headers())?;
    let limit = gateway.config.limits.json_body;
    let body = request.into_body().collect(limit, &gateway.body_room).await?;
    let InferenceRequest { id, inputs, outputs } = decode(body).await?;
    check_outputs(found.signature(), &outputs)?;
    drop(found);

    let Target { name, version } = target;
    let request = InferRequest {
        id: invocation.id(),
        tenant: gateway.tenant.clone(),
        target: name.clone(),
        version,
        priority: Priority::default(),
        inputs,
    };
    let InferReply { outputs: given, version, served } = gateway.dispatcher.infer(request).await?;
    let outputs = select(given, &outputs)?;
    let large = outputs.iter().map(|output| output.data().len()).sum::<usize>() > LARGE_OUTPUT;
    let encode =
        move || Answer { model: &name, version, id: id.as_deref(), outputs: &outputs }.encode();
    let content = if large { off_thread(encode).await? } else { encode() }?;

    let mut reply = Response::new(ReplyBody::full(content));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(VERSION, version.get().into());
    if let Some(served) = served {
        describe(headers, &served);
    }
    Ok(reply)
}

fn check_headers(headers: &HeaderMap) -> Result<(), RequestError> {
    if headers.contains_key("inference-header-content-length") {
        return Err(RequestError::BinaryTensors);
    }
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            let encoding = String::from_utf8_lossy(encoding.as_bytes());
            Err(RequestError::Encoding { encoding: encoding.chars().take(80).collect() })
        }
        _ => Ok(()),
    }
}

async fn decode(body: Collected) -> Result<InferenceRequest, Failure> {
    let decoded = if body.len() > LARGE_BODY {
        off_thread(move || InferenceRequest::decode(&body)).await?
    } else {
        InferenceRequest::decode(&body)
    };
    Ok(decoded?)
}

/// Runs work that would hold up an async thread.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(Failure::internal)
}

/// Checks that the outputs asked for exist, are named once, and can be written.
fn check_outputs(signature: &Signature, wanted: &[String]) -> Result<(), RequestError> {
    let known = signature.outputs();
    for (position, name) in wanted.iter().enumerate() {
        let violation = if !known.iter().any(|spec| *spec.name == **name) {
            let known = known.iter().map(|spec| format!("{:?}", spec.name));
            Violation::Unknown { known: known.collect::<Vec<_>>().join(", ") }
        } else if wanted[..position].contains(name) {
            Violation::Duplicate
        } else {
            continue;
        };
        let name = name.chars().take(80).collect::<String>().into();
        return Err(RequestError::Output(Mismatch { side: Side::Output, name, violation }));
    }
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
    let no_json = |dtype| matches!(dtype, DataType::Fp16 | DataType::Bf16);
    match known.iter().find(|spec| no_json(spec.dtype) && is_wanted(&spec.name)) {
        Some(spec) => Err(RequestError::NoJson { name: spec.name.to_string(), dtype: spec.dtype }),
        None => Ok(()),
    }
}

/// The outputs asked for, in the order asked for.
fn select(given: Vec<Tensor>, wanted: &[String]) -> Result<Vec<Tensor>, RequestError> {
    if wanted.is_empty() {
        return Ok(given);
    }
    let find = |name: &String| {
        // Missing only if another version, with another signature, went live meanwhile.
        given.iter().find(|tensor| **tensor.name() == **name).cloned().ok_or_else(|| {
            let violation = Violation::Missing;
            let name = name.as_str().into();
            RequestError::Output(Mismatch { side: Side::Output, name, violation })
        })
    };
    wanted.iter().map(find).collect()
}

const VERSION: HeaderName = HeaderName::from_static("quern-version");
const ENGINE: HeaderName = HeaderName::from_static("quern-engine");
const DEVICE: HeaderName = HeaderName::from_static("quern-device");
const BATCH_ROWS: HeaderName = HeaderName::from_static("quern-batch-rows");
const QUEUE_US: HeaderName = HeaderName::from_static("quern-queue-us");
const COMPUTE_US: HeaderName = HeaderName::from_static("quern-compute-us");

/// Says in headers what computed an answer, and for how long.
fn describe(headers: &mut HeaderMap, served: &Served) {
    let microseconds = |time: std::time::Duration| {
        HeaderValue::from(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
    };
    let device = HeaderValue::try_from(served.device.to_string()).expect("a word and a number");
    headers.insert(ENGINE, HeaderValue::from_static(served.engine.as_str()));
    headers.insert(DEVICE, device);
    headers.insert(BATCH_ROWS, served.batch_rows.into());
    headers.insert(QUEUE_US, microseconds(served.queued));
    headers.insert(COMPUTE_US, microseconds(served.compute));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quern_types::{DeviceId, Engine, VersionNumber};

    use super::*;
    use crate::v2::target::tests::signature;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).into()).collect()
    }

    #[test]
    fn only_outputs_that_exist_and_can_be_written_are_asked_for() {
        let half = "output \"half\" is FP16, which has no form in JSON: name the other outputs in \
                    \"outputs\", or use a model that gives FP32";
        let cases: [(&[&str], Option<&str>); 5] = [
            (&["label"], None),
            (&[], Some(half)),
            (&["half"], Some(half)),
            (
                &["label", "logits"],
                Some(
                    "requested output \"logits\" is not in the signature, which has \"label\", \
                     \"half\"",
                ),
            ),
            (&["label", "label"], Some("requested output \"label\" is given more than once")),
        ];
        for (wanted, message) in cases {
            let error = check_outputs(&signature(), &names(wanted)).err();
            assert_eq!(error.map(|error| error.to_string()).as_deref(), message, "{wanted:?}");
        }
    }

    #[test]
    fn outputs_come_in_the_order_asked_for() {
        let tensor =
            |name: &str| Tensor::new(name, DataType::Uint8, vec![1], vec![7]).expect("one byte");
        let given = || vec![tensor("a"), tensor("b")];
        assert_eq!(select(given(), &[]), Ok(given()));
        assert_eq!(select(given(), &names(&["b", "a"])), Ok(vec![tensor("b"), tensor("a")]));
        assert_eq!(select(given(), &names(&["b"])), Ok(vec![tensor("b")]));
        let error = select(given(), &names(&["c"])).expect_err("not given");
        assert_eq!(error.to_string(), "requested output \"c\" is missing");
    }

    #[test]
    fn unsupported_forms_of_a_body_are_named() {
        let mut headers = HeaderMap::new();
        assert_eq!(check_headers(&headers), Ok(()));
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("identity"));
        assert_eq!(check_headers(&headers), Ok(()));
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        let encoding = RequestError::Encoding { encoding: "gzip".into() };
        assert_eq!(check_headers(&headers), Err(encoding));
        headers.insert("inference-header-content-length", HeaderValue::from_static("10"));
        assert_eq!(check_headers(&headers), Err(RequestError::BinaryTensors));
    }

    #[test]
    fn headers_say_what_served() {
        let mut headers = HeaderMap::new();
        let served = Served {
            version: VersionNumber::FIRST,
            engine: Engine::OnnxRuntime,
            device: DeviceId::Cpu(0),
            batch_rows: 4,
            queued: Duration::from_nanos(1_999),
            compute: Duration::from_millis(2),
        };
        describe(&mut headers, &served);
        for (name, value) in [
            ("quern-engine", "onnxruntime"),
            ("quern-device", "cpu:0"),
            ("quern-batch-rows", "4"),
            ("quern-queue-us", "1"),
            ("quern-compute-us", "2000"),
        ] {
            assert_eq!(headers[name], value, "{name}");
        }
    }
}
