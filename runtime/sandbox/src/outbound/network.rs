//! What outbound requests of all functions share: the operator's rules, names and certificates.
//! Connections are never shared between functions.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hyper_rustls::ConfigBuilderExt;
use ipnet::IpNet;
use quern_types::{HttpGrant, Limits};
use rustls::{ClientConfig, crypto::ring};
use tokio::sync::OnceCell;

use super::{
    addresses::{Host, forbidden},
    client::Client,
    fault::Fault,
    metrics::Metrics,
    names::Names,
};

/// How functions reach other servers, where their manifests grant it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundConfig {
    /// Networks that are not public, and may be reached all the same.
    pub private_networks: Vec<IpNet>,
    /// Servers that resolve names; those of the system if there are none.
    pub nameservers: Vec<SocketAddr>,
    /// Longest wait for a connection, TLS included; half of it for resolving the name.
    pub connect_timeout: Duration,
    /// Longest wait for the head of a response, and for each next piece of its body.
    pub head_timeout: Duration,
    /// How long a connection that is not in use is kept.
    pub idle_timeout: Duration,
}

impl Default for OutboundConfig {
    fn default() -> Self {
        Self {
            private_networks: Vec::new(),
            nameservers: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(30),
        }
    }
}

/// The way out of one server.
pub(crate) struct Network {
    pub(crate) config: OutboundConfig,
    pub(crate) metrics: Metrics,
    names: Names,
    certificates: OnceCell<Arc<ClientConfig>>,
}

impl Network {
    pub(crate) fn new(
        config: OutboundConfig,
        registry: &prometheus::Registry,
    ) -> Result<Self, prometheus::Error> {
        let names = Names::new(config.nameservers.clone());
        let metrics = Metrics::register(registry)?;
        Ok(Self { config, metrics, names, certificates: OnceCell::new() })
    }

    /// The outbound requests of one function.
    pub(crate) fn client(self: &Arc<Self>, grants: &[HttpGrant], limits: &Limits) -> Arc<Client> {
        Arc::new(Client::new(Arc::clone(self), grants, limits))
    }

    /// The addresses of a host that functions may reach; there is at least one.
    pub(crate) async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Fault> {
        let found = match Host::parse(host) {
            Ok(Host::Address(address)) => vec![address],
            Ok(Host::Name(name)) => {
                let resolve = self.names.resolve(&name);
                let in_time = tokio::time::timeout(self.config.connect_timeout / 2, resolve).await;
                in_time.unwrap_or(Err(Fault::DnsTimeout { host: name }))?
            }
            Err(problem) => return Err(Fault::Url { url: host.to_owned(), problem }),
        };
        let mut allowed = Vec::new();
        let mut refused = None;
        for address in found {
            match forbidden(address, &self.config.private_networks) {
                None => allowed.push(SocketAddr::new(address, port)),
                Some(kind) => refused = Some((address, kind)),
            }
        }
        let host = host.to_owned();
        match refused {
            _ if !allowed.is_empty() => Ok(allowed),
            Some((address, kind)) => Err(Fault::Prohibited { host, address, kind }),
            None => {
                let detail = "it has no address".to_owned();
                Err(Fault::Dns { host, code: Some("NOERROR"), detail })
            }
        }
    }

    /// How other servers' certificates are checked: by the system's, which are read when the first
    /// request needs them.
    pub(crate) async fn certificates(&self) -> Result<Arc<ClientConfig>, Fault> {
        let load = async || match tokio::task::spawn_blocking(load_certificates).await {
            Ok(loaded) => loaded.map(Arc::new),
            Err(error) => Err(error.to_string()),
        };
        let config = self.certificates.get_or_try_init(load).await;
        config.cloned().map_err(|detail| Fault::NoCertificates { detail })
    }
}

fn load_certificates() -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = builder.with_native_roots().map_err(|error| error.to_string())?;
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
