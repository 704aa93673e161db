//! Resolves names, by the system's configuration or by the operator's nameservers. Never by the
//! guest's, and it judges no address.

use std::net::{IpAddr, SocketAddr};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::op::ResponseCode,
};
use tokio::sync::OnceCell;

use super::fault::Fault;

/// Answers that are kept, for as long as their servers say.
const CACHED_ANSWERS: u64 = 1_024;

/// Resolves names for all functions; set up when the first one is asked for.
pub(crate) struct Names {
    nameservers: Vec<SocketAddr>,
    resolver: OnceCell<TokioResolver>,
}

impl Names {
    /// Asks these servers, or those of the system if there are none.
    pub(crate) fn new(nameservers: Vec<SocketAddr>) -> Self {
        Self { nameservers, resolver: OnceCell::new() }
    }

    /// The addresses of a name.
    pub(crate) async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, Fault> {
        let resolver = self.resolver.get_or_try_init(async || self.set_up()).await;
        let resolver =
            resolver.map_err(|error| Fault::NoNameservers { detail: error.to_string() })?;
        match resolver.lookup_ip(host).await {
            Ok(answer) => Ok(answer.iter().collect()),
            Err(NetError::Timeout) => Err(Fault::DnsTimeout { host: host.to_owned() }),
            Err(error) => {
                let (host, detail) = (host.to_owned(), error.to_string());
                Err(Fault::Dns { host, code: response_code(&error), detail })
            }
        }
    }

    fn set_up(&self) -> Result<TokioResolver, NetError> {
        let mut builder = if self.nameservers.is_empty() {
            TokioResolver::builder_tokio()?
        } else {
            let servers = self.nameservers.iter().map(nameserver).collect();
            let config = ResolverConfig::from_name_servers(servers);
            let provider = TokioRuntimeProvider::default();
            let mut builder = TokioResolver::builder_with_config(config, provider);
            builder.options_mut().use_hosts_file = ResolveHosts::Never;
            builder
        };
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.cache_size = CACHED_ANSWERS;
        builder.build()
    }
}

/// One server, asked by UDP, and by TCP where the answer is too long for that.
fn nameserver(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
    let connections = connections.map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

/// What a server answered, if it was that; `NOERROR` means that the name has no address.
fn response_code(error: &NetError) -> Option<&'static str> {
    let NetError::Dns(error) = error else { return None };
    let code = match error {
        DnsError::ResponseCode(code) => code,
        DnsError::NoRecordsFound(answer) => &answer.response_code,
        _ => return None,
    };
    match code {
        ResponseCode::NoError => Some("NOERROR"),
        ResponseCode::NXDomain => Some("NXDOMAIN"),
        ResponseCode::ServFail => Some("SERVFAIL"),
        ResponseCode::Refused => Some("REFUSED"),
        ResponseCode::FormErr => Some("FORMERR"),
        ResponseCode::NotImp => Some("NOTIMP"),
        _ => None,
    }
}
