//! One inference request: decoded, checked for what only the protocol knows, dispatched, encoded.
//! Inputs are checked against the signature further in, where they run.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response,
    header::{CONTENT_ENCODING, CONTENT_TYPE, VARY},
};
use quern_dispatcher::{InferReply, InferRequest};
use quern_types::{Caller, Choice, QualifiedName, Served, Tensor, VersionNumber};

use super::{
    compression::Coding,
    decode::InferenceRequest,
    encode::{Answer, Encoded},
    outputs::{Wanted, put_away},
    raw,
    receive::{off_thread, receive},
};
use crate::{
    Gateway,
    activity::Settled,
    body::{Reply, ReplyBody, RequestBody},
    collect::{Collected, Share},
    errors::Failure,
    invocation::Way,
    route::Target,
    selection::{VERSION, selector},
    shared_memory,
    sharing::Reached,
};

/// JSON above this leaves the async threads while it is decoded: it takes longer than 500 µs.
const LARGE_JSON: usize = 256 << 10;
/// Bodies above this leave them even if they are binary: their strings and booleans are checked,
/// and a body that is one string is copied behind its length.
const LARGE_BODY: usize = 4 << 20;
/// Outputs above this leave the async threads while they become JSON or classes.
const LARGE_OUTPUT: usize = 128 << 10;
/// Answers above this leave the async threads while they are compressed.
const LARGE_ANSWER: usize = 32 << 10;
/// Answers below this fit one packet: they are not worth compressing.
const SMALL_ANSWER: usize = 1_024;

/// Where the JSON of a body ends.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Why the header that divides a body makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    /// It is no number.
    #[error("header Inference-Header-Content-Length is {value:?}: give the bytes of the JSON")]
    Malformed {
        /// Its value.
        value: String,
    },
    /// It is there twice, and the body could be divided in two ways.
    #[error("header Inference-Header-Content-Length is given more than once")]
    Repeated,
    /// It is longer than the body.
    #[error(
        "header Inference-Header-Content-Length is {json}, but the body has {body} bytes altogether"
    )]
    TooLong {
        /// Bytes of JSON that it promises.
        json: u64,
        /// Bytes of the body.
        body: usize,
    },
}

/// What a body consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// JSON alone.
    Json,
    /// So many bytes of JSON, and binary data after them.
    Divided(u64),
    /// The binary data of the only input.
    Raw,
}

/// `POST /v2/models/{name}[/versions/{version}]/infer`
pub(crate) async fn infer(
    gateway: &Gateway,
    caller: &Caller,
    way: Way<'_>,
    target: Target,
    request: Request<RequestBody>,
) -> Result<Reply, Failure> {
    let (head, body) = request.into_parts();
    let selector = selector(&head.headers, target.version)?;
    let id = way.invocation.id();
    let choice = Choice { selector: selector.as_ref(), headers: &head.headers, id };
    let (found, picked) = gateway.choose(caller, &target, &choice)?;
    let form = Form::of(&head.headers)?;
    let body = receive(gateway, &head.headers, body).await?;
    // What was JSON has its share until it is answered; the rest of a body brings its own.
    let (decoded, _share) = match form {
        Form::Raw => {
            let (found, room, length) = (found.clone(), gateway.body_room.clone(), body.len());
            let share = room.share(0);
            let read = move || raw::request(found.signature(), body, &room);
            let decoded = if length > LARGE_BODY { off_thread(read).await?? } else { read()? };
            (decoded, share)
        }
        Form::Json => decode(body, None).await?,
        Form::Divided(json) => decode(body, Some(json)).await?,
    };
    let InferenceRequest { id, inputs, shared, outputs, binary_outputs, timeout, priority } =
        decoded;
    let wanted = Wanted::new(&found, outputs, binary_outputs, gateway)?;
    drop(found);
    let inputs = match shared.is_empty() {
        true => inputs,
        // Boxed, so that the future of every other request stays small.
        false => Box::pin(shared_memory::fetch(gateway, inputs, shared)).await?,
    };

    // Asked again: while the body came, it may have become somebody else's to call.
    let Reached { owner, routes } = gateway.reach_target(caller, &target)?;
    let name = target.name;
    let request = InferRequest {
        id: way.invocation.id(),
        routes,
        tenant: owner,
        target: name.name.clone(),
        picked,
        timeout,
        priority: way.invocation.priority(priority),
        trace: way.trace.clone(),
        inputs,
    };
    let InferReply { outputs, version, served } = gateway.dispatcher.infer(request).await?;
    let coding = Coding::accepted(&head.headers);
    let mut reply = reply(Given { name, version, id, outputs, wanted }, coding).await?;
    describe(reply.headers_mut(), version, served.as_ref());
    // It was a model that answered, and no guest.
    if served.is_some() {
        reply.extensions_mut().insert(Settled);
    }
    Ok(reply)
}

impl Form {
    fn of(headers: &HeaderMap) -> Result<Self, HeaderError> {
        let mut values = headers.get_all(JSON_LENGTH).iter();
        let Some(value) = values.next() else { return Ok(Self::Json) };
        if values.next().is_some() {
            return Err(HeaderError::Repeated);
        }
        let text = value.to_str().unwrap_or_default();
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse().ok().filter(|_| digits) {
            Some(0) => Ok(Self::Raw),
            Some(length) => Ok(Self::Divided(length)),
            None => {
                let value = String::from_utf8_lossy(value.as_bytes());
                Err(HeaderError::Malformed { value: value.chars().take(80).collect() })
            }
        }
    }
}

/// Decodes a body whose JSON ends where it says, or at its end. What the JSON has become has its
/// room in the share.
async fn decode(body: Collected, json: Option<u64>) -> Result<(InferenceRequest, Share), Failure> {
    let mut share = body.another_share();
    let (decoded, binary) = decode_parts(body, json).await?;
    let bytes = decoded.inputs.iter().map(|input| input.data().len()).sum::<usize>();
    share.cover(bytes.saturating_sub(binary))?;
    Ok((decoded, share))
}

/// The same, with the number of bytes that are not from the JSON.
async fn decode_parts(
    body: Collected,
    json: Option<u64>,
) -> Result<(InferenceRequest, usize), Failure> {
    let length = body.as_ref().len();
    let Some(json) = json else {
        // No data are cut from the body, so that it goes as soon as it is decoded.
        let decode = move || InferenceRequest::decode(body.as_ref(), Bytes::new());
        let decoded = if length > LARGE_JSON { off_thread(decode).await? } else { decode() };
        return Ok((decoded?, 0));
    };
    let too_long = HeaderError::TooLong { json, body: length };
    let json = usize::try_from(json).ok().filter(|json| *json <= length).ok_or(too_long)?;
    let mut binary = body.into_bytes();
    let text = binary.split_to(json);
    let binary_length = binary.len();
    let decode = move || InferenceRequest::decode(&text, binary);
    let is_large = json > LARGE_JSON || length > LARGE_BODY;
    let decoded = if is_large { off_thread(decode).await? } else { decode() };
    Ok((decoded?, binary_length))
}

/// What came back, and what was asked for.
struct Given {
    name: QualifiedName,
    version: VersionNumber,
    id: Option<String>,
    outputs: Vec<Tensor>,
    wanted: Wanted,
}

impl Given {
    fn encode(self) -> Result<Encoded, Failure> {
        let Self { name, version, id, outputs, wanted } = self;
        let outputs = wanted.select(outputs)?;
        let answer = Answer { model: &name, version, id: id.as_deref(), outputs: &outputs };
        let encoded = answer.encode()?;
        put_away(&outputs)?;
        Ok(encoded)
    }
}

async fn reply(given: Given, coding: Option<Coding>) -> Result<Reply, Failure> {
    let large = given.wanted.work(&given.outputs) > LARGE_OUTPUT;
    let encoded = if large { off_thread(|| given.encode()).await?? } else { given.encode()? };
    let json_length = encoded.binary.as_ref().map(|_| encoded.json.len());
    let length = encoded.len();
    let is_small = length < SMALL_ANSWER;
    let coding = coding.filter(|_| !is_small);
    let body = match coding {
        None => match encoded.binary {
            None => ReplyBody::full(encoded.json),
            Some(binary) => ReplyBody::pieces(std::iter::once(encoded.json).chain(binary)),
        },
        Some(coding) => {
            let compress = move || coding.compress(encoded.pieces().map(|piece| &piece[..]));
            let large = length > LARGE_ANSWER;
            ReplyBody::full(if large { off_thread(compress).await? } else { compress() })
        }
    };

    let mut reply = Response::new(body);
    let headers = reply.headers_mut();
    let kind = match json_length {
        None => "application/json",
        Some(length) => {
            headers.insert(JSON_LENGTH, length.into());
            "application/octet-stream"
        }
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if !is_small {
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    }
    if let Some(coding) = coding {
        headers.insert(CONTENT_ENCODING, coding.header());
    }
    Ok(reply)
}

const ENGINE: HeaderName = HeaderName::from_static("quern-engine");
const DEVICE: HeaderName = HeaderName::from_static("quern-device");
const BATCH_ROWS: HeaderName = HeaderName::from_static("quern-batch-rows");
const QUEUE_US: HeaderName = HeaderName::from_static("quern-queue-us");
const COMPUTE_US: HeaderName = HeaderName::from_static("quern-compute-us");

/// Says in headers what computed an answer, and for how long.
pub(crate) fn describe(headers: &mut HeaderMap, version: VersionNumber, served: Option<&Served>) {
    headers.insert(VERSION, version.get().into());
    let Some(served) = served else { return };
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

    use http_body_util::BodyExt;
    use quern_types::{DataType, DeviceId, Engine};

    use super::*;
    use crate::v2::outputs::RequestedOutput;

    #[test]
    fn the_form_of_a_body_is_what_its_header_says() {
        let of = |value: &'static str| {
            let value = HeaderValue::from_static(value);
            Form::of(&HeaderMap::from_iter([(JSON_LENGTH, value)]))
        };
        assert_eq!(Form::of(&HeaderMap::new()), Ok(Form::Json));
        assert_eq!(of("0"), Ok(Form::Raw));
        assert_eq!(of("17"), Ok(Form::Divided(17)));
        for value in ["", "-1", "+1", "1.5", "ten", "18446744073709551616"] {
            let malformed = HeaderError::Malformed { value: value.into() };
            assert_eq!(of(value), Err(malformed));
        }
        let twice = ["17", "17"].map(|value| (JSON_LENGTH, HeaderValue::from_static(value)));
        let twice = HeaderMap::from_iter(twice);
        assert_eq!(Form::of(&twice), Err(HeaderError::Repeated));
    }

    fn given(bytes: usize, binary: bool) -> Given {
        let tensor = Tensor::new("x", DataType::Uint8, vec![bytes as u64], vec![7; bytes]);
        let output =
            RequestedOutput { name: "x".into(), binary: Some(binary), classes: None, place: None };
        Given {
            name: "m".parse().expect("a name"),
            version: VersionNumber::FIRST,
            id: None,
            outputs: vec![tensor.expect("valid")],
            wanted: Wanted::of(vec![output]),
        }
    }

    #[tokio::test]
    async fn an_answer_says_where_its_json_ends_and_how_it_is_compressed() {
        for (bytes, binary) in [(3, false), (3, true), (5_000, true), (200_000, false)] {
            let plain = reply(given(bytes, binary), None).await.expect("an answer");
            let zipped = reply(given(bytes, binary), Some(Coding::Gzip)).await.expect("an answer");
            for reply in [&plain, &zipped] {
                assert_eq!(reply.headers().contains_key(VARY), bytes >= SMALL_ANSWER, "{bytes}");
            }
            let json = plain.headers().get(JSON_LENGTH).cloned();
            assert_eq!(
                (json.is_some(), zipped.headers().get(JSON_LENGTH)),
                (binary, json.as_ref())
            );
            let kind = if binary { "application/octet-stream" } else { "application/json" };
            assert_eq!(zipped.headers()[CONTENT_TYPE], kind);
            let encoding = zipped.headers().get(CONTENT_ENCODING).cloned();
            let zipped = zipped.into_body().collect().await.expect("in memory").to_bytes();
            let plain = plain.into_body().collect().await.expect("in memory").to_bytes();
            if bytes < SMALL_ANSWER {
                assert_eq!((encoding, zipped), (None, plain));
            } else {
                assert_eq!(encoding, Some(Coding::Gzip.header()));
                assert_eq!(zipped, Coding::Gzip.compress(std::iter::once(&plain[..])));
            }
        }
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
        describe(&mut headers, served.version, Some(&served));
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
