//! Grants of outbound HTTP: the origins that a function may send requests to. What addresses they
//! resolve to, and which of those are forbidden, is not decided here.

use std::{fmt, str::FromStr};

use http::uri::{Authority, Scheme, Uri};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// An origin (RFC 6454) that requests may go to; in text `"https://api.example.com"`,
/// `"http://localhost:8080"`, or `"https://*.example.com"` for all names below one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HttpGrant {
    scheme: Scheme,
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Host {
    /// A name or an address, in lower case.
    Exactly(String),
    /// Every name that ends so; begins with a dot.
    Below(String),
}

impl HttpGrant {
    /// Whether requests with this scheme may go to this host and port; a missing port is the
    /// scheme's own.
    pub fn allows(&self, scheme: &Scheme, authority: &Authority) -> bool {
        let port = port_of(authority, scheme);
        let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
        *scheme == self.scheme
            && port == Some(self.port)
            && match &self.host {
                Host::Exactly(name) => host == *name,
                Host::Below(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            }
    }
}

impl FromStr for HttpGrant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let problem = |problem: &str| {
            format!(
                "{text:?} is not an origin: {problem}; write a scheme and a host, such as \
                 \"https://api.example.com\", \"http://10.0.0.7:8080\" or \"https://*.example.com\""
            )
        };
        let uri: Uri = text.parse().map_err(|_| problem("it is no URL"))?;
        let scheme = uri.scheme().ok_or_else(|| problem("it has no scheme"))?.clone();
        default_port(&scheme).ok_or_else(|| problem("its scheme is unknown"))?;
        let authority = uri.authority().ok_or_else(|| problem("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(problem("a user is no part of an origin"));
        }
        if uri.query().is_some() || !matches!(uri.path(), "" | "/") {
            return Err(problem("a path or query is no part of an origin"));
        }
        let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
        let host = match host.strip_prefix('*') {
            Some(suffix)
                if suffix.starts_with('.') && suffix.len() > 1 && !suffix.contains('*') =>
            {
                Host::Below(suffix.to_owned())
            }
            None if !host.is_empty() && !host.contains('*') => Host::Exactly(host),
            _ => return Err(problem("a \"*\" can only be the first part of a name")),
        };
        let port = port_of(authority, &scheme).ok_or_else(|| problem("its port is none"))?;
        Ok(Self { scheme, host, port })
    }
}

impl fmt::Display for HttpGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (wildcard, host) = match &self.host {
            Host::Exactly(host) => ("", host),
            Host::Below(suffix) => ("*", suffix),
        };
        write!(f, "{}://{wildcard}{host}", self.scheme)?;
        if default_port(&self.scheme) != Some(self.port) {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for HttpGrant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for HttpGrant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The port of an authority, or the scheme's own if it has none; none if it is malformed.
fn port_of(authority: &Authority, scheme: &Scheme) -> Option<u16> {
    let (_, rest) = authority.as_str().rsplit_once(authority.host())?;
    match rest {
        "" | ":" => default_port(scheme),
        _ => authority.port_u16(),
    }
}

fn default_port(scheme: &Scheme) -> Option<u16> {
    match scheme.as_str() {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(grant: &str, url: &str) -> bool {
        let grant: HttpGrant = grant.parse().expect(grant);
        let url: Uri = url.parse().expect(url);
        grant.allows(url.scheme().expect("a scheme"), url.authority().expect("a host"))
    }

    #[test]
    fn a_grant_names_scheme_host_and_port() {
        let cases = [
            ("https://api.example.com", "https://api.example.com/path?query", true),
            ("https://api.example.com", "https://API.Example.com.:443/", true),
            ("https://api.example.com", "http://api.example.com/", false),
            ("https://api.example.com", "https://api.example.com:8443/", false),
            ("https://api.example.com", "https://api.example.com:99999/", false),
            ("https://api.example.com", "https://example.com/", false),
            ("https://api.example.com", "https://api.example.com.evil.com/", false),
            ("https://api.example.com", "https://api.example.com@evil.com/", false),
            ("https://*.example.com", "https://a.b.example.com/", true),
            ("https://*.example.com", "https://example.com/", false),
            ("https://*.example.com", "https://evilexample.com/", false),
            ("http://10.0.0.7:8080", "http://10.0.0.7:8080/", true),
            ("http://10.0.0.7:8080", "http://10.0.0.7/", false),
            ("http://[::1]:8080", "http://[::1]:8080/", true),
        ];
        for (grant, url, expected) in cases {
            assert_eq!(allows(grant, url), expected, "{grant} {url}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for bad in [
            "",
            "*",
            "api.example.com",
            "ftp://a.com",
            "https://",
            "https://*",
            "https://*.",
            "https://a.*.com",
            "https://*a.com",
            "https://a.com/path",
            "https://a.com?query",
            "https://user@a.com",
            "https://a.com:99999",
        ] {
            assert!(bad.parse::<HttpGrant>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_grant_survives_its_text() {
        for text in ["https://a.com", "http://localhost:8080", "https://*.a.com"] {
            assert_eq!(text.parse::<HttpGrant>().expect(text).to_string(), text);
        }
    }
}
