//! Resolves names, by the system's configuration or by the operator's nameservers. Never by the
//! guest's, and it judges no address.

use std::net::{IpAddr, SocketAddr};

use hickory_resolver::{
    TokioResolver,
    config::{
        ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
        ResolverOpts,
    },
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::op::ResponseCode,
    system_conf::read_system_conf,
};
use tokio::sync::OnceCell;

use super::fault::Fault;

/// Answers that are kept, for as long as their servers say.
const CACHED_ANSWERS: u64 = 1_024;

/// Resolves names for all functions; set up when the first one is asked for.
pub(crate) struct Names {
    nameservers: Vec<SocketAddr>,
    /// What is asked where there are no nameservers.
    system: fn() -> SystemConfig,
    resolver: OnceCell<TokioResolver>,
}

type SystemConfig = Result<(ResolverConfig, ResolverOpts), NetError>;

impl Names {
    /// Asks these servers, or those of the system if there are none.
    pub(crate) fn new(nameservers: Vec<SocketAddr>) -> Self {
        Self { nameservers, system: read_system_conf, resolver: OnceCell::new() }
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
        let (config, mut options) = if self.nameservers.is_empty() {
            (self.system)()?
        } else {
            let servers = self.nameservers.iter().map(nameserver).collect();
            let mut options = ResolverOpts::default();
            options.use_hosts_file = ResolveHosts::Never;
            (ResolverConfig::from_name_servers(servers), options)
        };
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.cache_size = CACHED_ANSWERS;
        let provider = TokioRuntimeProvider::default();
        TokioResolver::builder_with_config(config, provider).with_options(options).build()
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

#[cfg(test)]
mod tests {
    use hickory_resolver::system_conf::parse_resolv_conf;

    use super::*;

    #[tokio::test]
    async fn a_system_without_nameservers_is_the_operators_to_mend() {
        let names =
            Names { system: || parse_resolv_conf("search example.test"), ..Names::new(vec![]) };
        let Err(fault) = names.resolve("example.test").await else { panic!("nobody was asked") };
        assert!(matches!(fault, Fault::NoNameservers { .. }), "{fault}");
        let expected = "no nameservers found in config";
        assert!(fault.to_string().contains(expected), "{fault}");
        assert!(fault.to_string().contains("outbound.nameservers"), "{fault}");
    }
}
