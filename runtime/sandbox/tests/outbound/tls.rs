//! TLS, checked by the certificates of the system. Which these are, a process is told by its
//! environment; so each of these tests runs itself once more with an environment of its own.

use std::{path::Path, process::Command, sync::Arc, time::Duration};

use quern_sandbox::OutboundConfig;
use rcgen::CertifiedKey;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, pem::PemObject},
    },
};

use crate::{
    function::{Host, allowing, granting},
    servers::{Answer, Nameserver, Server, local, ok, read_head, read_rest},
};

/// Says that this is the second run, and where its files are.
const FOLDER: &str = "OUTBOUND_TEST_FOLDER";

/// The folder of this test's second run; none in its first, which starts the second.
fn second_run(test: &str, certificates: impl FnOnce(&Path) -> String) -> Option<String> {
    if let Ok(folder) = std::env::var(FOLDER) {
        return Some(folder);
    }
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("trusted.pem");
    std::fs::write(&file, certificates(folder.path())).expect("writable");
    let output = Command::new(std::env::current_exe().expect("is running"))
        .args(["--exact", test, "--nocapture"])
        .env("SSL_CERT_FILE", &file)
        .env_remove("SSL_CERT_DIR")
        .env(FOLDER, folder.path())
        .output()
        .expect("can be run");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
    None
}

/// Makes a certificate for a name and writes its key down; returns it as text.
fn certify(folder: &Path, name: &str) -> String {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    std::fs::write(folder.join(format!("{name}.key")), signing_key.serialize_pem())
        .expect("writable");
    std::fs::write(folder.join(format!("{name}.pem")), cert.pem()).expect("writable");
    cert.pem()
}

/// A server with the certificate of a name, which speaks this protocol.
async fn serving(folder: &Path, name: &str, protocol: &[u8]) -> Server {
    let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key"))).expect("a key");
    let certificate = tokio_rustls::rustls::pki_types::CertificateDer::from_pem_file(
        folder.join(format!("{name}.pem")),
    );
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.expect("a certificate")], key)
        .expect("they fit");
    config.alpn_protocols = vec![protocol.to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Server::start(local(), move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            while read_head(&mut stream).await.is_some() {
                stream.write_all(ok("secret").as_bytes()).await.expect("is read");
            }
        }
    })
    .await
}

async fn named_host(connect_timeout: Duration) -> Host {
    let names = Nameserver::start(|_| Answer::Addresses(vec![[127, 0, 0, 1].into()])).await;
    let nameservers = vec![names.address];
    Host::new(OutboundConfig { nameservers, connect_timeout, ..allowing(&["127.0.0.1/32"]) })
}

#[tokio::test]
async fn servers_are_checked_by_the_certificates_of_the_system() {
    let name = "tls::servers_are_checked_by_the_certificates_of_the_system";
    let Some(folder) = second_run(name, |folder| certify(folder, "trusted.test")) else { return };
    let folder = Path::new(&folder);
    certify(folder, "stranger.test");
    let trusted = serving(folder, "trusted.test", b"http/1.1").await;
    let stranger = serving(folder, "stranger.test", b"http/1.1").await;
    let other_protocol = serving(folder, "trusted.test", b"h2").await;
    let plain = Server::start(local(), async |mut stream| {
        stream.write_all(ok("hello").as_bytes()).await.expect("is read");
        read_rest(&mut stream).await;
    })
    .await;
    let silent =
        Server::start(local(), async |mut stream| drop(read_rest(&mut stream).await)).await;
    let host = named_host(Duration::from_secs(2)).await;
    let certificate = "error ErrorCode::TlsCertificateError";
    let alert = "error ErrorCode::TlsAlertReceived(TlsAlertReceivedPayload { alert-id: Some(120), \
                 alert-message: Some(\"NoApplicationProtocol\") })";
    let cases = [
        ("trusted.test", &trusted, "status 200 bytes 6 body secret"),
        ("other.test", &trusted, certificate),
        ("stranger.test", &stranger, certificate),
        ("127.0.0.1", &trusted, certificate),
        ("trusted.test", &other_protocol, alert),
        ("trusted.test", &plain, "error ErrorCode::TlsProtocolError"),
        ("trusted.test", &silent, "error ErrorCode::ConnectionTimeout"),
    ];
    for (name, server, expected) in cases {
        let origin = format!("https://{name}:{}", server.address.port());
        let guest = host.function(&granting(&[&origin]));
        assert_eq!(guest.line(&format!("url={origin}/")).await, expected, "{origin}");
    }
    let origin = format!("https://trusted.test:{}", trusted.address.port());
    let guest = host.function(&granting(&[&origin]));
    let before = trusted.accepted();
    assert_eq!(guest.fetch(&format!("times=3&url={origin}/")).await.lines.len(), 3);
    assert_eq!(trusted.accepted(), before + 1, "the connection is used again");
    assert_eq!(host.counter("quern_outbound_requests_total", Some("tls")), 5);
}

#[tokio::test]
async fn a_system_without_certificates_is_an_error_at_the_call() {
    let name = "tls::a_system_without_certificates_is_an_error_at_the_call";
    let Some(_) = second_run(name, |_| String::new()) else { return };
    let plain = Server::answering(local(), ok("hello")).await;
    let host = named_host(Duration::from_secs(2)).await;
    let origin = format!("https://trusted.test:{}", plain.address.port());
    let guest = host.function(&granting(&[origin.clone(), plain.origin()]));
    let outcome = guest.fetch(&format!("url={origin}/")).await;
    assert_eq!(outcome.lines, ["error ErrorCode::ConfigurationError"]);
    assert!(outcome.log.contains("SSL_CERT_FILE"), "{}", outcome.log);
    let line = guest.line(&format!("url={}/", plain.origin())).await;
    assert_eq!(line, "status 200 bytes 5 body hello", "http needs none");
}
