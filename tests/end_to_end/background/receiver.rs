//! Somebody who takes messages of webhooks: keeps what it is sent, and answers as it is told.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use ring::hmac;
use serde_json::Value;
use tokio::net::TcpListener;

/// A receiver that runs as long as its test.
pub(super) struct Receiver {
    port: u16,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    messages: Vec<Message>,
    /// What it answers; 302 leads to a path of its own.
    status: u16,
}

/// A message as it came.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) path: String,
    pub(super) headers: http::HeaderMap,
    pub(super) body: Bytes,
}

impl Receiver {
    /// Answers with a status, on a thread of its own.
    pub(super) fn start(status: u16) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("is set");
        let port = listener.local_addr().expect("bound").port();
        let taken = Arc::new(Mutex::new(Taken { messages: Vec::new(), status }));
        let serving = serve(listener, taken.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        std::thread::spawn(move || runtime.block_on(serving));
        Self { port, taken }
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hooks", self.port)
    }

    pub(super) fn answers(&self, status: u16) {
        self.taken.lock().expect("no panic").status = status;
    }

    pub(super) fn messages(&self) -> Vec<Message> {
        self.taken.lock().expect("no panic").messages.clone()
    }
}

impl Message {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().expect("ASCII")
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// Whether one of its signatures is made with a secret, as Standard Webhooks has it.
    pub(super) fn is_signed_with(&self, secret: &str) -> bool {
        let content = [self.header("webhook-id"), self.header("webhook-timestamp"), ""].join(".");
        let content = [content.as_bytes(), &self.body].concat();
        let secret = secret.strip_prefix("whsec_").expect("a prefix");
        let key = BASE64_STANDARD.decode(secret).expect("base64");
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        self.header("webhook-signature").split(' ').any(|signature| {
            let tag = BASE64_STANDARD.decode(signature.strip_prefix("v1,").expect("version 1"));
            hmac::verify(&key, &content, &tag.expect("base64")).is_ok()
        })
    }
}

async fn serve(listener: std::net::TcpListener, taken: Arc<Mutex<Taken>>) {
    let listener = TcpListener::from_std(listener).expect("a listener");
    while let Ok((connection, _)) = listener.accept().await {
        let taken = taken.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request| answer(taken.clone(), request));
            // Whoever sent the message may be killed meanwhile.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(connection), answer).await;
        });
    }
}

async fn answer(
    taken: Arc<Mutex<Taken>>,
    request: Request<Incoming>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let Ok(body) = body.collect().await else { return Ok(Response::default()) };
    let mut taken = taken.lock().expect("no panic");
    taken.messages.push(Message { path, headers: head.headers, body: body.to_bytes() });
    let answer = Response::builder().status(taken.status).header("location", "/elsewhere");
    Ok(answer.body(Empty::new()).expect("an answer"))
}
