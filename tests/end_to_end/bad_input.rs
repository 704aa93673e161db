//! Every operation of the server's own document with input that is wrong in one thing: the answer is
//! a 4xx of problem JSON which names that thing, and it comes at once. An operation that is described
//! is covered here without being named.

mod described;

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::Server;
use described::{Description, Operation};

/// What a server says to a request that is written as it stands, without a client's help.
struct Said {
    status: u16,
    head: String,
    body: String,
}

/// Sends a request and reads the answer to the end of the connection, within a time beyond reason.
fn say(server: &Server, method: &str, path: &str, headers: &str, body: &[u8]) -> Said {
    let length = format!("content-length: {}\r\n", body.len());
    let length = if headers.contains("content-length") { "" } else { &length };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{length}{headers}\r\n"
    );
    let address = server.url().strip_prefix("http://").expect("an address");
    let mut socket = TcpStream::connect(address).expect("connects");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("is set");
    // The server may have answered before all of it is sent.
    let _ = socket.write_all(head.as_bytes()).and_then(|()| socket.write_all(body));
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    // A connection may stay open for what is announced and never comes.
    while !is_whole(&answer)
        && let Ok(read @ 1..) = socket.read(&mut part)
    {
        answer.extend(&part[..read]);
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.get(9..12).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("{method} {path}: no answer but {answer:?}"));
    Said { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

/// Whether an answer has its head and as much after it as that says.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.and_then(|length| length.trim().parse().ok()).is_some_and(|length| body.len() >= length)
}

impl Said {
    /// Asserts that this is a problem whose detail has this part.
    fn assert_refused(&self, what: &str, part: &str) {
        let Self { status, head, body } = self;
        assert!((400..500).contains(status), "{what}: {status} {body}");
        assert!(head.contains("content-type: application/problem+json"), "{what}: {head}");
        let problem: Value =
            serde_json::from_str(body).unwrap_or_else(|_| panic!("{what}: {body}"));
        assert_eq!(problem["status"], *status, "{what}: {body}");
        let code = problem["code"].as_str().unwrap_or_else(|| panic!("{what}: {body}"));
        assert!(head.contains(&format!("quern-error: {code}")), "{what}: {head}");
        let detail = problem["detail"].as_str().unwrap_or_else(|| panic!("{what}: {body}"));
        assert!(detail.contains(part), "{what}: {detail:?} should contain {part:?}");
        assert!(detail.len() < 1_000, "{what}: a message is short");
    }
}

fn name(operation: &Operation<'_>) -> String {
    format!("{} {}", operation.method, operation.template)
}

#[tokio::test]
async fn paths_that_name_nothing_are_refused() {
    let server = Server::start();
    let description = Description::of(&server).await;
    let long = "x".repeat(5_000);
    let tricks = [
        "", ".", "..", "%2e%2e", "..%2f..", "a%2fb", "a/../b", "A", "-", "a%20b", "%00", "%ff",
        "%", "~", "é", &long,
    ];
    for operation in description.operations() {
        let (method, path) = (&*operation.method, operation.path());
        for place in operation.places() {
            for trick in tricks {
                let path = operation.path_but(Some((&place, trick)));
                let what = format!("{method} {path}");
                let what = what.chars().take(120).collect::<String>();
                say(&server, method, &path, "", b"").assert_refused(&what, "");
            }
        }
        for path in
            [format!("{path}/"), format!("/{path}"), format!("{path}/x/../.."), format!("/.{path}")]
        {
            let what = format!("{method} {path}");
            say(&server, method, &path, "", b"").assert_refused(&what, "");
        }
    }
}

#[tokio::test]
async fn methods_that_a_path_does_not_take_are_refused() {
    let server = Server::start();
    let description = Description::of(&server).await;
    for operation in description.operations() {
        let (path, takes) = (operation.path(), operation.methods());
        for method in ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
            if takes.iter().any(|taken| taken == method) {
                continue;
            }
            let said = say(&server, method, &path, "", b"");
            said.assert_refused(&format!("{method} {path}"), method);
            assert_eq!(said.status, 405, "{method} {path}");
            for taken in &takes {
                let allow = said.head.lines().find(|line| line.starts_with("allow:"));
                let taken = taken.to_ascii_lowercase();
                assert!(allow.is_some_and(|allow| allow.contains(&taken)), "{}", said.head);
            }
        }
        if takes.iter().any(|method| method == "GET") {
            let said = say(&server, "HEAD", &path, "", b"");
            assert!(said.status < 500 && said.body.is_empty(), "HEAD {path}: {}", said.status);
        }
    }
}

#[tokio::test]
async fn queries_that_are_not_described_are_refused() {
    let server = Server::start();
    let description = Description::of(&server).await;
    for operation in description.operations() {
        let (method, path, what) = (&*operation.method, operation.path(), name(&operation));
        let body = operation.json().map(|body| Value::from(body).to_string()).unwrap_or_default();
        let ask =
            |query: &str| say(&server, method, &format!("{path}?{query}"), "", body.as_bytes());
        ask("unheard=of").assert_refused(&format!("{what}, unknown"), "unheard");
        ask("un%68eard").assert_refused(&format!("{what}, encoded"), "unheard");
        ask("%ff=1").assert_refused(&format!("{what}, no text"), "");
        for parameter in operation.query() {
            let name = &parameter.name;
            if let Some(value) = parameter.value.as_str() {
                let said = ask(&format!("{name}={value}"));
                said.assert_refused(&format!("{what}, {name}"), name);
            }
            let said = ask(&format!("{name}=1&{name}=1"));
            said.assert_refused(&format!("{what}, {name} twice"), name);
        }
    }
}

#[tokio::test]
async fn bodies_of_json_that_are_wrong_are_refused() {
    let server = Server::start();
    let description = Description::of(&server).await;
    let mut tried = 0;
    for operation in description.operations() {
        let Some(good) = operation.json() else { continue };
        tried += 1;
        let (method, path, what) = (&*operation.method, operation.path(), name(&operation));
        let refuse = |how: &str, body: &[u8], part: &str| {
            let said = say(&server, method, &path, "content-type: application/json\r\n", body);
            said.assert_refused(&format!("{what}, {how}"), part);
            said.status
        };
        if operation.needs_body() {
            refuse("empty", b"", "");
        }
        let deep = format!("{{\"x\": {}", "[".repeat(100_000));
        let unknown = {
            let mut body = good.clone();
            body.insert("unheard_of".into(), json!(1));
            Value::from(body).to_string()
        };
        for (how, body, part) in [
            ("cut off", "{", ""),
            ("a list", "[]", ""),
            ("nothing", "null", ""),
            ("text", "\"x\"", ""),
            ("two", "{}{}", ""),
            ("deep", &*deep, ""),
            ("unknown field", &*unknown, "unheard_of"),
        ] {
            refuse(how, body.as_bytes(), part);
        }
        refuse("no text", b"{\"\xff\": 1}", "");
        for field in operation.fields() {
            let mut body = good.clone();
            body.insert(field.name.clone(), field.value.clone());
            refuse("wrong type", Value::from(body).to_string().as_bytes(), &field.name);
            let twice = format!(
                "{{{name:?}: {value}, {name:?}: {value}}}",
                name = field.name,
                value = good.get(&field.name).unwrap_or(&Value::Null)
            );
            refuse("twice", twice.as_bytes(), &field.name);
        }
        let huge = "content-type: application/json\r\ncontent-length: 1000000000000\r\n";
        let said = say(&server, method, &path, huge, b"");
        said.assert_refused(&format!("{what}, huge"), "");
        assert_eq!(said.status, 413, "{what}");
    }
    assert!(tried > 0, "some take JSON");
}

#[tokio::test]
async fn uploads_that_are_wrong_are_refused() {
    const FORM: &str = "content-type: multipart/form-data; boundary=b\r\n";
    let server = Server::start();
    let description = Description::of(&server).await;
    let mut tried = 0;
    for operation in description.operations() {
        if !operation.takes("multipart/form-data") {
            continue;
        }
        tried += 1;
        let (method, path, what) = (&*operation.method, operation.path(), name(&operation));
        let part = |name: &str| {
            format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\nx\r\n")
        };
        for (how, headers, body, named) in [
            ("empty", "", String::new(), ""),
            ("no form", "content-type: text/plain\r\n", "x".into(), ""),
            ("JSON", "content-type: application/json\r\n", "{}".into(), ""),
            ("no boundary", "content-type: multipart/form-data\r\n", "x".into(), ""),
            ("empty form", FORM, String::new(), ""),
            ("another boundary", FORM, "--c--\r\n".into(), ""),
            ("no part", FORM, "--b--\r\n".into(), "missing"),
            ("cut off", FORM, part("manifest"), ""),
            ("unknown part", FORM, format!("{}--b--\r\n", part("unheard")), "unheard"),
            ("manifest twice", FORM, [part("manifest"), part("manifest")].concat(), "manifest"),
        ] {
            let said = say(&server, method, &path, headers, body.as_bytes());
            said.assert_refused(&format!("{what}, {how}"), named);
        }
        for form in ["", FORM] {
            let huge = format!("{form}content-length: 1000000000000\r\n");
            let said = say(&server, method, &path, &huge, b"");
            said.assert_refused(&format!("{what}, huge"), "");
            assert_eq!(said.status, 413, "{what}");
        }
    }
    assert!(tried > 0, "some take uploads");
}
