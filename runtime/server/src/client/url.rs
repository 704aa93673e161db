//! The address of a server, and of what is on it. Asks nobody.

use std::{net::IpAddr, str::FromStr};

use quern_types::QualifiedName;
use reqwest::Url;

const EXAMPLE_URL: &str = "http://127.0.0.1:7700";

/// The address of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerUrl(Url);

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text)
            .map_err(|error| format!("{error}: write http://HOST:PORT, such as {EXAMPLE_URL}"))?;
        let is_known = matches!(url.scheme(), "http" | "https");
        if !is_known || url.host().is_none() || url.query().is_some() {
            return Err(format!("write http(s)://HOST:PORT, such as {EXAMPLE_URL}"));
        }
        Ok(Self(url))
    }
}

impl ServerUrl {
    /// The address of something on the server; each segment is escaped.
    pub(super) fn at(&self, segments: &[&str]) -> Url {
        let mut url = self.0.clone();
        url.path_segments_mut()
            .expect("an http address has a path")
            .pop_if_empty()
            .extend(segments);
        url
    }

    /// Whether it speaks TLS.
    pub(super) fn is_encrypted(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Whether others than this machine may see what is sent there.
    pub(crate) fn is_in_the_clear(&self) -> bool {
        let host = self.0.host_str().unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        let is_here =
            address.map_or(host == "localhost", |address| address.to_canonical().is_loopback());
        !self.is_encrypted() && !is_here
    }

    /// The address of a path, with its query, of an http function.
    pub(crate) fn of_function(&self, name: &QualifiedName, path: &str) -> Result<Url, String> {
        let function = self.at(&["f", &name.to_string()]);
        let text = format!("{function}/{}", path.trim_start_matches('/'));
        Url::parse(&text).map_err(|error| format!("path {path:?}: {error}"))
    }

    /// A path that the server has answered, as an address.
    pub(crate) fn join(&self, path: &str) -> String {
        format!("{}{path}", self.0.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> ServerUrl {
        text.parse().expect(text)
    }

    #[test]
    fn only_http_addresses_are_servers() {
        for bad in ["", "localhost:7700", "http://", "http://a?b=c", "ftp://a"] {
            assert!(bad.parse::<ServerUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_others_may_see_is_noticed() {
        for (url, expected) in [
            ("http://localhost:7700", false),
            ("http://127.0.0.1:7700", false),
            ("http://[::1]:7700", false),
            ("https://example.com", false),
            ("http://example.com", true),
            ("http://192.168.1.2:7700", true),
        ] {
            assert_eq!(server(url).is_in_the_clear(), expected, "{url}");
        }
    }

    #[test]
    fn addresses_keep_a_prefix_and_escape_segments() {
        let url = server("http://host:1/prefix/");
        assert_eq!(url.at(&["v1", "a/b"]).as_str(), "http://host:1/prefix/v1/a%2Fb");
        assert_eq!(url.join("/v2/models/a/infer"), "http://host:1/prefix/v2/models/a/infer");
        let name = "digit-reader".parse().expect("a name");
        for (path, expected) in [
            ("", "http://host:1/prefix/f/digit-reader/"),
            ("/", "http://host:1/prefix/f/digit-reader/"),
            ("a/b?c=d e", "http://host:1/prefix/f/digit-reader/a/b?c=d%20e"),
        ] {
            assert_eq!(url.of_function(&name, path).expect(path).as_str(), expected);
        }
    }
}
