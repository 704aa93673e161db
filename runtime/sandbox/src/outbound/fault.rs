//! What can go wrong with an outbound request: the code that the guest gets, the line in the log of
//! its function, and the outcome in the metrics.

use std::{error::Error as StdError, io, net::IpAddr};

use quern_types::ByteSize;
use wasmtime_wasi_http::Error as HttpError;

use super::client::MAX_HEAD_BYTES;

/// Why an outbound request failed. The message is for the owner of the function.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Fault {
    #[error("{origin} is not granted to this function: add it to grants.http in its manifest")]
    NotGranted { origin: String },
    #[error("the method CONNECT is not supported: send the request itself")]
    Connect,
    #[error("{url} can't be requested: {problem}")]
    Url { url: String, problem: &'static str },
    #[error(
        "{host} is at the address {address}, which is forbidden ({kind}): the server's operator \
         can allow it in outbound.private_networks"
    )]
    Prohibited { host: String, address: IpAddr, kind: &'static str },
    #[error(
        "as many outbound requests as limits.connections ({limit}) are under way: wait for one, \
         or raise the limit in the manifest"
    )]
    Connections { limit: u32 },
    #[error(
        "the outbound requests of this invocation sent and received more than limits.outbound \
         ({limit}): raise the limit in the manifest"
    )]
    Bytes { limit: ByteSize, part: Part },
    #[error("{host} could not be resolved in time")]
    DnsTimeout { host: String },
    #[error("{host} could not be resolved: {detail}")]
    Dns { host: String, code: Option<&'static str>, detail: String },
    #[error(
        "names can't be resolved on this server, says {detail}: its operator can set outbound.nameservers"
    )]
    NoNameservers { detail: String },
    #[error("{host} refused the connection")]
    Refused { host: String },
    #[error("there is no way to {host}: {detail}")]
    Unroutable { host: String, detail: String },
    #[error("{host} can't be connected to: {detail}")]
    Unavailable { host: String, detail: String },
    #[error("{host} could not be connected to in time")]
    ConnectTimeout { host: String },
    #[error(
        "this server has no certificates to check others by: {detail}; its operator can install \
         them, or name a file in SSL_CERT_FILE"
    )]
    NoCertificates { detail: String },
    #[error("the certificate of {host} is not valid: {detail}")]
    Certificate { host: String, detail: String },
    #[error("{host} ended the TLS handshake: {detail}")]
    Alert { host: String, id: u8, detail: String },
    #[error("the TLS handshake with {host} failed: {detail}")]
    Tls { host: String, detail: String },
    #[error("the server sent nothing in time")]
    ReadTimeout,
    #[error(
        "the head of the response is too large: {MAX_HEAD_BYTES} bytes or 100 headers are read"
    )]
    HeadTooLarge,
    #[error("the response ended before it was complete")]
    Incomplete,
    #[error("the connection was closed: {detail}")]
    Terminated { detail: String },
    #[error("the server does not keep to HTTP: {detail}")]
    Protocol { detail: String },
    #[error("the request's body has another length than it declares")]
    Length { bytes: Option<u64> },
    #[error("the function gave up on the request's body")]
    Abandoned,
    #[error("the invocation ended")]
    Ended,
}

/// The part of an exchange that was over a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    RequestHead,
    RequestBody,
    ResponseHead,
    ResponseBody,
}

impl Fault {
    /// What the guest gets.
    pub(crate) fn error(&self) -> HttpError {
        match self {
            Self::NotGranted { .. } => HttpError::HttpRequestDenied,
            Self::Connect => HttpError::HttpRequestMethodInvalid,
            Self::Url { .. } => HttpError::HttpRequestUriInvalid,
            Self::Prohibited { .. } => HttpError::DestinationIpProhibited,
            Self::Connections { .. } => HttpError::ConnectionLimitReached,
            Self::Bytes { limit, part } => over(*limit, *part),
            Self::DnsTimeout { .. } => HttpError::DnsTimeout,
            Self::Dns { code, .. } => {
                HttpError::DnsError { rcode: code.map(str::to_owned), info_code: None }
            }
            Self::NoNameservers { .. } | Self::NoCertificates { .. } => {
                HttpError::ConfigurationError
            }
            Self::Refused { .. } => HttpError::ConnectionRefused,
            Self::Unroutable { .. } => HttpError::DestinationIpUnroutable,
            Self::Unavailable { .. } => HttpError::DestinationUnavailable,
            Self::ConnectTimeout { .. } => HttpError::ConnectionTimeout,
            Self::Certificate { .. } => HttpError::TlsCertificateError,
            Self::Alert { id, detail, .. } => HttpError::TlsAlertReceived {
                alert_id: Some(*id),
                alert_message: Some(detail.clone()),
            },
            Self::Tls { .. } => HttpError::TlsProtocolError,
            Self::ReadTimeout => HttpError::ConnectionReadTimeout,
            Self::HeadTooLarge => {
                HttpError::HttpResponseHeaderSectionSize(u32::try_from(MAX_HEAD_BYTES).ok())
            }
            Self::Incomplete => HttpError::HttpResponseIncomplete,
            Self::Terminated { .. } | Self::Ended => HttpError::ConnectionTerminated,
            Self::Protocol { .. } | Self::Abandoned => HttpError::HttpProtocolError,
            Self::Length { bytes } => HttpError::HttpRequestBodySize(*bytes),
        }
    }

    /// What is counted.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::NotGranted { .. } | Self::Connect | Self::Url { .. } => "denied",
            Self::Prohibited { .. } => "prohibited",
            Self::Connections { .. } | Self::Bytes { .. } | Self::HeadTooLarge => "limit",
            Self::DnsTimeout { .. } | Self::Dns { .. } | Self::NoNameservers { .. } => "dns",
            Self::Refused { .. } | Self::Unroutable { .. } | Self::Unavailable { .. } => "connect",
            Self::NoCertificates { .. }
            | Self::Certificate { .. }
            | Self::Alert { .. }
            | Self::Tls { .. } => "tls",
            Self::ConnectTimeout { .. } | Self::ReadTimeout => "timeout",
            Self::Incomplete | Self::Terminated { .. } | Self::Protocol { .. } => "broken",
            Self::Length { .. } | Self::Abandoned | Self::Ended => "cancelled",
        }
    }

    /// What an error of the client means. Connectors and bodies put a fault inside; the rest is
    /// what the server did.
    pub(crate) fn of_client(error: &(dyn StdError + 'static)) -> Self {
        if let Some(fault) = cause::<Self>(error) {
            return fault.clone();
        }
        let broken = cause::<io::Error>(error).map(io::Error::kind);
        let Some(error) = cause::<hyper::Error>(error) else {
            return Self::Terminated { detail: error.to_string() };
        };
        let detail = error.to_string();
        match broken {
            _ if error.is_parse_too_large() => Self::HeadTooLarge,
            // Its length was declared, and it has ended before.
            _ if error.is_body_write_aborted() => Self::Length { bytes: None },
            _ if error.is_parse() => Self::Protocol { detail },
            Some(io::ErrorKind::UnexpectedEof) => Self::Incomplete,
            _ if error.is_incomplete_message() => Self::Incomplete,
            Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => {
                Self::Protocol { detail }
            }
            _ => Self::Terminated { detail },
        }
    }

    /// What an error of a TLS handshake means.
    pub(crate) fn of_handshake(host: &str, error: &(dyn StdError + 'static)) -> Self {
        let host = host.to_owned();
        match cause::<rustls::Error>(error) {
            Some(rustls::Error::AlertReceived(alert)) => {
                Self::Alert { host, id: u8::from(*alert), detail: format!("{alert:?}") }
            }
            Some(
                error @ (rustls::Error::InvalidCertificate(_)
                | rustls::Error::NoCertificatesPresented),
            ) => Self::Certificate { host, detail: error.to_string() },
            Some(error) => Self::Tls { host, detail: error.to_string() },
            None => Self::Tls { host, detail: error.to_string() },
        }
    }
}

fn over(limit: ByteSize, part: Part) -> HttpError {
    let head = u32::try_from(limit.0).ok();
    match part {
        Part::RequestHead => HttpError::HttpRequestHeaderSectionSize(head),
        Part::RequestBody => HttpError::HttpRequestBodySize(Some(limit.0)),
        Part::ResponseHead => HttpError::HttpResponseHeaderSectionSize(head),
        Part::ResponseBody => HttpError::HttpResponseBodySize(Some(limit.0)),
    }
}

/// The first error of a type in a chain of causes; errors of input and output hide theirs.
fn cause<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let hidden = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match hidden {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
