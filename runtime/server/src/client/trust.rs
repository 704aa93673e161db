//! Whom the command line trusts, and what it shows to be let in. It opens no connection.

use std::path::PathBuf;

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use quern_types::Credential;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

/// What it takes to talk to a server.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    /// What is shown, to a server that asks for it.
    pub(crate) token: Option<Credential>,
    /// Certificates that a server may be known by, beside those of the system.
    pub(crate) ca_file: Option<PathBuf>,
}

/// Why no server could be trusted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    #[error("can't read the certificates in {}: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    #[error("no certificates are known to trust a server by: name a file of them with --ca-file")]
    Nobody,
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    #[error("can't make a client: {0}")]
    Client(#[from] reqwest::Error),
}

impl Trust {
    /// The headers of every request.
    pub(super) fn headers(&self) -> HeaderMap {
        let authorization = self.token.as_ref().map(|token| {
            let bearer = format!("Bearer {}", token.reveal());
            let mut value = HeaderValue::try_from(bearer).expect("letters and digits");
            value.set_sensitive(true);
            (AUTHORIZATION, value)
        });
        authorization.into_iter().collect()
    }

    /// How servers are known. Without TLS nothing is read.
    pub(super) fn tls(&self, is_needed: bool) -> Result<ClientConfig, TrustError> {
        let roots = if is_needed { self.roots()? } else { RootCertStore::empty() };
        let provider = rustls::crypto::ring::default_provider().into();
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn roots(&self) -> Result<RootCertStore, TrustError> {
        let mut roots = RootCertStore::empty();
        // What the system has and can't be read is as if it had it not.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = &self.ca_file {
            let failed = |reason| TrustError::File { path: path.clone(), reason };
            let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
            let mut found = false;
            for certificate in CertificateDer::pem_slice_iter(&text) {
                let certificate = certificate.map_err(|error| failed(error.to_string()))?;
                roots.add(certificate).map_err(|error| failed(error.to_string()))?;
                found = true;
            }
            if !found {
                return Err(failed("there are none, in PEM".into()));
            }
        }
        if roots.is_empty() { Err(TrustError::Nobody) } else { Ok(roots) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_named() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let path = folder.path().join("ca.pem");
        let trust = Trust { ca_file: Some(path.clone()), ..Trust::default() };
        let begin = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        for (content, expected) in
            [(None, "No such file"), (Some("nothing"), "there are none"), (Some(begin), "ca.pem")]
        {
            if let Some(content) = content {
                std::fs::write(&path, content).expect("written");
            }
            let error = trust.tls(true).expect_err(expected).to_string();
            assert!(error.contains("ca.pem") && error.contains(expected), "{error}");
            trust.tls(false).expect("nothing is read");
        }
    }

    #[test]
    fn a_file_adds_to_what_is_trusted() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let path = folder.path().join("ca.pem");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        std::fs::write(&path, made.expect("a certificate").cert.pem()).expect("written");
        let trust = Trust { ca_file: Some(path), ..Trust::default() };
        let without = rustls_native_certs::load_native_certs().certs.len();
        assert!(trust.roots().expect("a root").len() <= without + 1);
        trust.tls(true).expect("somebody is trusted");
    }
}
