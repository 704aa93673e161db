//! TLS: what is spoken over it, what clients that don't are told, and what becomes of the server
//! when its certificate changes.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as Http, connect::HttpConnector},
    rt::TokioExecutor,
};
use quern_gateway::protocol::{ServerReadyRequest, ServerReadyResponse};
use reqwest::{Certificate, Client, StatusCode};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use tempfile::TempDir;
use tonic::{body::Body, client::Grpc};
use tonic_prost::ProstCodec;

use crate::support::{Server, answer, until};

/// A certificate for loopback and its key, in files that a server reads.
pub(crate) struct Identity {
    folder: TempDir,
    der: CertificateDer<'static>,
    pem: String,
}

impl Identity {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let mut made = Self { folder, der: CertificateDer::from(vec![]), pem: String::new() };
        made.renew();
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts another certificate and key into the files.
    fn renew(&mut self) {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]);
        let made = made.expect("a certificate");
        (self.der, self.pem) = (made.cert.der().clone(), made.cert.pem());
        std::fs::write(self.path("tls.key"), made.signing_key.serialize_pem()).expect("written");
        std::fs::write(self.path("tls.crt"), &self.pem).expect("written");
    }

    pub(crate) fn flags(&self) -> Vec<String> {
        let text = |name| self.path(name).to_str().expect("text").to_owned();
        ["--tls-cert".into(), text("tls.crt"), "--tls-key".into(), text("tls.key")].into()
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Server {
        let flags = self.flags();
        let flags = flags.iter().map(String::as_str).chain(arguments.iter().copied());
        Server::start_with(&flags.collect::<Vec<_>>())
    }

    /// A client that trusts this certificate alone.
    pub(crate) fn client(&self) -> Client {
        let certificate = Certificate::from_pem(self.pem.as_bytes()).expect("a certificate");
        Client::builder().tls_certs_only([certificate]).build().expect("a client")
    }

    /// The same for HTTP/2 alone.
    fn http2<B>(&self) -> Http<HttpsConnector<HttpConnector>, B>
    where
        B: hyper::body::Body + Send,
        B::Data: Send,
    {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("a certificate");
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_only();
        let connector = connector.enable_http2().build();
        Http::builder(TokioExecutor::new()).http2_only(true).build(connector)
    }
}

async fn status(client: &Client, server: &Server, path: &str) -> Option<StatusCode> {
    let response = client.get(format!("{}{path}", server.url())).send().await;
    response.ok().map(|response| response.status())
}

async fn metric(client: &Client, server: &Server, sample: &str) -> f64 {
    let text = answer(client.get(format!("{}/metrics", server.url()))).await.text();
    let value = text.lines().find_map(|line| line.strip_prefix(sample));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
}

/// Whether a server says that its certificate was changed, and can't be used.
async fn has_other_certificate(client: &Client, server: &Server) -> bool {
    let health = answer(client.get(format!("{}/readyz", server.url()))).await;
    health.concerns().contains(&"certificate".to_owned())
}

#[tokio::test]
async fn http_in_both_versions_and_grpc_go_over_tls() {
    let identity = Identity::new();
    let server = identity.start(&["--grpc-listen", "127.0.0.1:0"]);
    assert!(server.url().starts_with("https://"), "{}", server.url());
    let client = identity.client();
    let ready = client.get(format!("{}/readyz", server.url())).send().await.expect("an answer");
    assert_eq!((ready.status().as_u16(), ready.version()), (200, http::Version::HTTP_11));

    let uri: http::Uri = format!("{}/v2", server.url()).parse().expect("an address");
    let response = identity.http2::<Full<Bytes>>().get(uri).await.expect("an answer");
    assert_eq!((response.status().as_u16(), response.version()), (200, http::Version::HTTP_2));
    let body = response.into_body().collect().await.expect("a whole body").to_bytes();
    assert!(body.starts_with(b"{"), "{body:?}");

    for url in [server.url(), server.grpc_url()] {
        let mut grpc = Grpc::with_origin(identity.http2::<Body>(), url.parse().expect("an origin"));
        grpc.ready().await.expect("connects");
        let path = "/inference.GRPCInferenceService/ServerReady".parse().expect("a path");
        let codec = ProstCodec::<ServerReadyRequest, ServerReadyResponse>::default();
        let request = tonic::Request::new(ServerReadyRequest::default());
        let answered = grpc.unary(request, path, codec).await.expect("an answer").into_inner();
        assert!(answered.ready, "at {url}");
    }
    let completed = "quern_tls_handshakes_total{outcome=\"completed\"}";
    assert!(metric(&client, &server, completed).await >= 4.0);
}

#[tokio::test]
async fn the_command_line_trusts_whom_it_is_told_to() {
    let identity = Identity::new();
    let server = identity.start(&[]);
    let quern = |ca_file: Option<&PathBuf>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quern"));
        command.args(["health", "--url", server.url()]).env_remove("QUERN_CA_FILE");
        if let Some(path) = ca_file {
            command.env("QUERN_CA_FILE", path);
        }
        let output = command.output().expect("runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let (ended_well, printed, said) = quern(Some(&identity.path("tls.crt")));
    assert!(ended_well, "{said}");
    assert!(["ready", "degraded"].iter().any(|state| printed.starts_with(state)), "{printed}");
    for (ca_file, expected) in [
        (None, "certificate"),
        (Some(identity.path("absent")), "absent"),
        (Some(Identity::new().path("tls.key")), "can't read the certificates"),
    ] {
        let (ended_well, _, said) = quern(ca_file.as_ref());
        assert!(!ended_well && said.contains(expected), "{said:?} should contain {expected:?}");
    }
}

#[tokio::test]
async fn a_client_that_trusts_somebody_else_gets_no_answer_and_harms_nobody() {
    let identity = Identity::new();
    let server = identity.start(&[]);
    let stranger = Identity::new().client();
    assert_eq!(status(&stranger, &server, "/readyz").await, None);
    let client = identity.client();
    assert_eq!(status(&client, &server, "/readyz").await, Some(StatusCode::OK));
    let failed = "quern_tls_handshakes_total{outcome=\"failed\"}";
    until("it is counted", async || metric(&client, &server, failed).await >= 1.0).await;
}

fn connect(server: &Server) -> TcpStream {
    let address = server.url().strip_prefix("https://").expect("an address");
    let socket = TcpStream::connect(address).expect("connects");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a time");
    socket
}

/// What is read until the end; nothing after a reset.
fn rest_of(mut socket: TcpStream) -> String {
    let mut rest = Vec::new();
    match socket.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    String::from_utf8_lossy(&rest).into_owned()
}

#[tokio::test]
async fn a_request_in_the_clear_is_told_what_it_has_mistaken() {
    let identity = Identity::new();
    let server = identity.start(&[]);
    let mut socket = connect(&server);
    socket.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
    socket.shutdown(std::net::Shutdown::Write).expect("sent");
    let answer = rest_of(socket);
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("quern-error: invalid-request\r\n"), "{answer}");
    assert!(answer.contains("this port speaks TLS: write https://"), "{answer}");
    let plain = "quern_tls_handshakes_total{outcome=\"plain-http\"}";
    let client = identity.client();
    until("it is counted", async || metric(&client, &server, plain).await == 1.0).await;
}

#[tokio::test]
async fn a_handshake_that_stalls_is_ended() {
    let identity = Identity::new();
    let config = identity.path("quern-server.toml");
    std::fs::write(&config, "[tls]\nhandshake_timeout = '200ms'").expect("written");
    let server = identity.start(&["--config", config.to_str().expect("text")]);
    let silent = connect(&server);
    let mut slow = connect(&server);
    // The beginning of a handshake that never comes.
    slow.write_all(&[0x16, 3, 1, 2, 0, 1]).expect("sent");
    assert_eq!((rest_of(silent), rest_of(slow)), (String::new(), String::new()));
    let client = identity.client();
    let stalled = "quern_tls_handshakes_total{outcome=\"stalled\"}";
    assert_eq!(metric(&client, &server, stalled).await, 2.0);
}

#[tokio::test]
async fn clients_that_never_complete_a_handshake_keep_nobody_out() {
    let identity = Identity::new();
    let config = identity.path("quern-server.toml");
    std::fs::write(&config, "[tls]\nhandshake_timeout = '1h'\nmax_handshakes = 4")
        .expect("written");
    let server = identity.start(&["--config", config.to_str().expect("text")]);
    let silent: Vec<_> = (0..20).map(|_| connect(&server)).collect();
    let client = identity.client();
    assert_eq!(status(&client, &server, "/readyz").await, Some(StatusCode::OK));
    let displaced = "quern_tls_handshakes_total{outcome=\"displaced\"}";
    until("the oldest give way", async || metric(&client, &server, displaced).await >= 16.0).await;
    drop(silent);
}

#[tokio::test]
async fn a_certificate_that_changes_is_shown_without_a_restart() {
    let mut identity = Identity::new();
    let server = identity.start(&[]);
    let before = identity.client();
    assert_eq!(status(&before, &server, "/readyz").await, Some(StatusCode::OK));
    identity.renew();
    let after = identity.client();
    let shown = async || status(&after, &server, "/readyz").await.is_some();
    until("the new certificate is shown", shown).await;
    // A connection that was made before goes on, and no other is.
    assert_eq!(status(&before, &server, "/readyz").await, Some(StatusCode::OK));
    let taken = "quern_reloads_total{of=\"certificate\",outcome=\"taken\"}";
    assert_eq!(metric(&after, &server, taken).await, 1.0);
}

#[tokio::test]
async fn a_certificate_that_can_not_be_used_leaves_the_one_before() {
    let mut identity = Identity::new();
    let data = Arc::new(TempDir::new().expect("a folder"));
    let log = identity.path("log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_quern"));
    command.stderr(std::fs::File::create(&log).expect("made"));
    let flags = identity.flags();
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let server = Server::start_program(command, data, &flags);
    let client = identity.client();
    let refused = "quern_reloads_total{of=\"certificate\",outcome=\"refused\"}";
    let other = Identity::new();
    let garbage = identity.path("garbage");
    std::fs::write(&garbage, "no certificate").expect("written");
    for (times, bad) in [(1.0, garbage), (2.0, other.path("tls.crt"))] {
        std::fs::copy(bad, identity.path("tls.crt")).expect("copied");
        until("it is refused", async || metric(&client, &server, refused).await >= times).await;
        assert!(has_other_certificate(&client, &server).await);
        assert_eq!(status(&identity.client(), &server, "/readyz").await, Some(StatusCode::OK));
    }
    let said = std::fs::read_to_string(&log).expect("a log");
    assert!(said.contains("tls.crt holds no certificate in PEM"), "{said}");
    assert!(said.contains("KeyMismatch"), "{said}");
    identity.renew();
    let renewed = identity.client();
    let shown = async || status(&renewed, &server, "/readyz").await.is_some();
    until("a good one is shown", shown).await;
    assert!(!has_other_certificate(&renewed, &server).await);
}

#[tokio::test]
async fn tokens_travel_encrypted_beyond_loopback_unless_told_otherwise() {
    let identity = Identity::new();
    let flags = identity.flags();
    let with_tls: Vec<_> = flags.iter().map(String::as_str).collect();
    let guarded = ["--listen", "0.0.0.0:0", "--authenticate"];
    let data = TempDir::new().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_quern"));
    command.arg("serve").args(guarded).arg("--data").arg(data.path());
    let output = command.output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("tokens would travel unencrypted") && said.contains("--tls-cert"),
        "{said}"
    );
    let server = Server::start_with(&[&guarded[..], &["--plain-http"]].concat());
    assert!(server.url().starts_with("http://0.0.0.0:"), "{}", server.url());
    let server = Server::start_with(&[&guarded[..], &with_tls].concat());
    assert!(server.url().starts_with("https://0.0.0.0:"), "{}", server.url());
}
