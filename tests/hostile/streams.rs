//! Guests that abuse requests and responses.

use std::time::Duration;

use futures::stream;
use reqwest::Body;

use crate::{
    row::{Ends, Row, component, http_manifest},
    siege,
    support::Server,
};

/// A body of 8 MiB that does not declare its length.
fn long_body() -> Body {
    let part = || Ok::<_, std::io::Error>(vec![b'x'; 64 << 10]);
    Body::wrap_stream(stream::iter((0..128).map(move |_| part())))
}

/// A body that is not going to end while anyone waits for it.
fn endless_body() -> Body {
    Body::wrap_stream(stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Some((Ok::<_, std::io::Error>(vec![b'x'; 1 << 10]), ()))
    }))
}

/// A gzip file that would be a gigabyte of zeros, as its trailer claims; 1 KiB as it is.
fn bomb() -> Body {
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    file.resize(1020, 0);
    file.extend_from_slice(&(1_u32 << 30).to_le_bytes());
    file.into()
}

#[tokio::test]
async fn whoever_abuses_a_stream_is_cut_off() {
    siege::besiege(&[
        Row::new(
            "giant_header",
            "answers with half a megabyte of headers",
            Ends::Error { status: 500, code: "trap", limit: None },
        ),
        Row::new(
            "wrong_length",
            "sends more than it declares, to smuggle in a second response",
            Ends::Error { status: 500, code: "guest-error", limit: None },
        ),
        Row::new(
            "endless_response",
            "sends a body without end",
            Ends::BreaksOff { log: "limits.response" },
        ),
        Row::new(
            "slow_response",
            "sends a byte now and then, without end",
            Ends::BreaksOff { log: "limits.timeout" },
        ),
        Row::new(
            "panic_while_streaming",
            "panics in the middle of its response",
            Ends::BreaksOff { log: "the sack burst" },
        ),
        Row {
            body: Some(endless_body),
            ..Row::new(
                "unread_request",
                "never reads a request without end, and never answers",
                Ends::Error { status: 504, code: "timeout", limit: Some("timeout") },
            )
        },
        Row {
            body: Some(long_body),
            ..Row::new(
                "hasty_response",
                "answers before the request is there, and never reads it",
                Ends::Report(&["whatever you say"]),
            )
        },
        Row {
            body: Some(bomb),
            ..Row::new(
                "count_request_bytes",
                "is sent what unpacks to a gigabyte",
                Ends::Report(&["1024 bytes"]),
            )
        },
    ])
    .await;
}

#[tokio::test]
async fn headers_that_are_too_large_are_told_their_limit() {
    let server = Server::start();
    let manifest = http_manifest("giant-header", "");
    server.upload("giant-header", manifest, component("giant_header")).await;
    let answer = server.get("/f/giant-header/").await;
    answer.assert_error(500, "trap", "its headers take more than 32 KiB");
}

#[tokio::test]
async fn no_guest_forges_the_servers_own_headers() {
    let server = Server::start();
    let manifest = http_manifest("forged-headers", "");
    server.upload("forged-headers", manifest, component("forged_headers")).await;
    let answer = server.get("/f/forged-headers/").await;
    assert_eq!((answer.status.as_u16(), answer.header("quern-error")), (200, ""));
    assert_eq!(answer.header("quern-version"), "1");
    assert_eq!(answer.header("quern-invocation").len(), 36);
    for absent in ["set-cookie", "x-split", "x-zero"] {
        assert_eq!(answer.header(absent), "", "{absent}");
    }
    let text = answer.text();
    for refused in ["connection", "transfer-encoding", "x-split", "x split", "x-zero"] {
        assert!(text.contains(&format!("{refused}: Err(")), "{refused} in {text}");
    }
    siege::at_rest(&server).await;
}
