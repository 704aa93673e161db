//! Which addresses functions may reach: the public ones, and those of networks that the operator
//! lists. It decides, and neither resolves nor connects.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// IPv4 networks that are not the public internet (IANA's special-purpose registry), and what they
/// are.
const SPECIAL_IPV4: [(Ipv4Net, &str); 16] = [
    (ipv4([0, 0, 0, 0], 8), "unspecified"),
    (ipv4([10, 0, 0, 0], 8), "private"),
    (ipv4([100, 64, 0, 0], 10), "shared by a provider's customers"),
    (ipv4([127, 0, 0, 0], 8), "loopback"),
    (ipv4([169, 254, 0, 0], 16), "link-local"),
    (ipv4([172, 16, 0, 0], 12), "private"),
    (ipv4([192, 0, 0, 0], 24), "reserved"),
    (ipv4([192, 0, 2, 0], 24), "for documentation"),
    (ipv4([192, 88, 99, 0], 24), "reserved"),
    (ipv4([192, 168, 0, 0], 16), "private"),
    (ipv4([198, 18, 0, 0], 15), "for benchmarks"),
    (ipv4([198, 51, 100, 0], 24), "for documentation"),
    (ipv4([203, 0, 113, 0], 24), "for documentation"),
    (ipv4([224, 0, 0, 0], 4), "multicast"),
    (ipv4([255, 255, 255, 255], 32), "broadcast"),
    (ipv4([240, 0, 0, 0], 4), "reserved"),
];

/// The same for IPv6. Whatever is in none of them, and outside of [`GLOBAL_IPV6`], is reserved.
const SPECIAL_IPV6: [(Ipv6Net, &str); 9] = [
    (ipv6([0, 0, 0, 0, 0, 0, 0, 0], 128), "unspecified"),
    (ipv6([0, 0, 0, 0, 0, 0, 0, 1], 128), "loopback"),
    (ipv6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), "private"),
    (ipv6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "link-local"),
    (ipv6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "multicast"),
    (ipv6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), "private"),
    // Teredo, benchmarks and identifiers that are no locations.
    (ipv6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), "reserved"),
    (ipv6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), "for documentation"),
    (ipv6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), "for documentation"),
];

/// The only part of IPv6 in which public addresses are given out.
const GLOBAL_IPV6: Ipv6Net = ipv6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);
/// IPv4 addresses behind a translator (RFC 6052).
const NAT64: Ipv6Net = ipv6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);
/// IPv4 addresses behind a tunnel (RFC 3056).
const SIX_TO_FOUR: Ipv6Net = ipv6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16);

const fn ipv4([a, b, c, d]: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn ipv6([a, b, c, d, e, f, g, h]: [u16; 8], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix)
}

/// What keeps functions from an address, unless one of the operator's networks has it: "loopback",
/// "private", ….
pub(crate) fn forbidden(address: IpAddr, allowed: &[IpNet]) -> Option<&'static str> {
    let destination = destination(address);
    let listed = |address| allowed.iter().any(|network| network.contains(&address));
    if listed(address) || listed(destination) {
        return None;
    }
    match destination {
        IpAddr::V4(address) => special_ipv4(address),
        IpAddr::V6(address) => special_ipv6(address),
    }
}

/// Where packets to an address end: that of IPv4 which an address of IPv6 wraps, otherwise itself.
fn destination(address: IpAddr) -> IpAddr {
    let IpAddr::V6(outer) = address else { return address };
    let [.., a, b, c, d] = outer.octets();
    if let Some(inner) = outer.to_ipv4_mapped() {
        IpAddr::V4(inner)
    } else if NAT64.contains(&outer) {
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    } else if SIX_TO_FOUR.contains(&outer) {
        let [_, _, a, b, c, d, ..] = outer.octets();
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    } else {
        address
    }
}

fn special_ipv4(address: Ipv4Addr) -> Option<&'static str> {
    let special = SPECIAL_IPV4.iter().find(|(network, _)| network.contains(&address));
    special.map(|(_, kind)| *kind)
}

fn special_ipv6(address: Ipv6Addr) -> Option<&'static str> {
    let special = SPECIAL_IPV6.iter().find(|(network, _)| network.contains(&address));
    match special {
        Some((_, kind)) => Some(kind),
        None if GLOBAL_IPV6.contains(&address) => None,
        None => Some("reserved"),
    }
}

/// The host of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// To be resolved.
    Name(String),
    /// To be checked as it is.
    Address(IpAddr),
}

impl Host {
    /// Takes the host of a URL for what it is. The many old spellings of IPv4 addresses (`127.1`,
    /// `0177.0.0.1`, `0x7f000001`) are refused, rather than left to whoever resolves names; so the
    /// URL standard tells them apart too.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(rest) = text.strip_prefix('[') {
            let address = rest.strip_suffix(']').and_then(|inner| inner.parse().ok());
            let address = address.ok_or("it is no IPv6 address")?;
            return Ok(Self::Address(IpAddr::V6(address)));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if let Ok(address) = name.parse() {
            return Ok(Self::Address(IpAddr::V4(address)));
        }
        let last = name.rsplit('.').next().unwrap_or_default();
        if is_number(last) {
            return Err("an IPv4 address is written as four decimal numbers");
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if last.is_empty() || !name.chars().all(fits) {
            return Err("it is no name of a host");
        }
        Ok(Self::Name(text.to_owned()))
    }
}

fn is_number(label: &str) -> bool {
    let hexadecimal = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    match hexadecimal {
        Some(digits) => digits.chars().all(|c| c.is_ascii_hexdigit()),
        None => !label.is_empty() && label.chars().all(|c| c.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_reachable() {
        let cases = [
            ("1.1.1.1", None),
            ("8.8.8.8", None),
            ("100.63.255.255", None),
            ("100.128.0.0", None),
            ("172.15.255.255", None),
            ("172.32.0.0", None),
            ("198.17.255.255", None),
            ("223.255.255.255", None),
            ("0.0.0.0", Some("unspecified")),
            ("0.1.2.3", Some("unspecified")),
            ("10.0.0.1", Some("private")),
            ("10.255.255.255", Some("private")),
            ("100.64.0.1", Some("shared by a provider's customers")),
            ("100.127.255.255", Some("shared by a provider's customers")),
            ("127.0.0.1", Some("loopback")),
            ("127.255.255.254", Some("loopback")),
            ("169.254.169.254", Some("link-local")),
            ("172.16.0.1", Some("private")),
            ("172.31.255.255", Some("private")),
            ("192.0.0.8", Some("reserved")),
            ("192.0.2.1", Some("for documentation")),
            ("192.88.99.1", Some("reserved")),
            ("192.168.1.1", Some("private")),
            ("198.18.0.1", Some("for benchmarks")),
            ("198.19.255.255", Some("for benchmarks")),
            ("198.51.100.7", Some("for documentation")),
            ("203.0.113.7", Some("for documentation")),
            ("224.0.0.1", Some("multicast")),
            ("239.255.255.255", Some("multicast")),
            ("240.0.0.1", Some("reserved")),
            ("255.255.255.255", Some("broadcast")),
            ("2606:4700::1111", None),
            ("2a00::1", None),
            ("::", Some("unspecified")),
            ("::1", Some("loopback")),
            ("fc00::1", Some("private")),
            ("fd12:3456::1", Some("private")),
            ("fe80::1", Some("link-local")),
            ("fec0::1", Some("reserved")),
            ("ff02::1", Some("multicast")),
            ("100::1", Some("reserved")),
            ("2001::1", Some("reserved")),
            ("2001:2::1", Some("reserved")),
            ("2001:20::1", Some("reserved")),
            ("2001:db8::1", Some("for documentation")),
            ("3fff::1", Some("for documentation")),
            ("5f00::1", Some("reserved")),
            ("4000::1", Some("reserved")),
        ];
        check(&cases, &[]);
    }

    #[test]
    fn an_address_is_checked_in_every_disguise() {
        let cases = [
            // Mapped, compatible, translated, and tunnelled.
            ("::ffff:127.0.0.1", Some("loopback")),
            ("::ffff:10.0.0.1", Some("private")),
            ("::ffff:a9fe:a9fe", Some("link-local")),
            ("::ffff:1.1.1.1", None),
            ("::127.0.0.1", Some("reserved")),
            ("::10.0.0.1", Some("reserved")),
            ("::ffff:0:127.0.0.1", Some("reserved")),
            ("64:ff9b::127.0.0.1", Some("loopback")),
            ("64:ff9b::a9fe:a9fe", Some("link-local")),
            ("64:ff9b::8.8.8.8", None),
            ("64:ff9b:1::8.8.8.8", Some("private")),
            ("2002:7f00:1::", Some("loopback")),
            ("2002:a00:1::1", Some("private")),
            ("2002:808:808::1", None),
        ];
        check(&cases, &[]);
    }

    #[test]
    fn an_operators_networks_are_reachable_and_nothing_beside_them() {
        let cases = [
            ("10.1.2.3", None),
            ("::ffff:10.1.2.3", None),
            ("64:ff9b::10.1.2.3", None),
            ("10.2.0.1", Some("private")),
            ("127.0.0.1", Some("loopback")),
            ("fd00::7", None),
            ("fd01::7", Some("private")),
        ];
        check(&cases, &["10.1.0.0/16", "fd00::/64"]);
    }

    fn check(cases: &[(&str, Option<&str>)], allowed: &[&str]) {
        let allowed: Vec<IpNet> =
            allowed.iter().map(|network| network.parse().expect("a network")).collect();
        for (address, expected) in cases {
            let parsed = address.parse().expect("an address");
            assert_eq!(forbidden(parsed, &allowed), *expected, "{address}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_nothing_between() {
        let name = |text: &str| Ok(Host::Name(text.to_owned()));
        let address = |text: &str| Ok(Host::Address(text.parse().expect("an address")));
        let four = Err("an IPv4 address is written as four decimal numbers");
        let cases = [
            ("example.com", name("example.com")),
            ("example.com.", name("example.com.")),
            ("my_service", name("my_service")),
            ("1.2.3.4.example", name("1.2.3.4.example")),
            ("0xdeadbeef.example", name("0xdeadbeef.example")),
            ("127.0.0.1", address("127.0.0.1")),
            ("127.0.0.1.", address("127.0.0.1")),
            ("[::1]", address("::1")),
            ("[::ffff:127.0.0.1]", address("::ffff:127.0.0.1")),
            ("127.1", four.clone()),
            ("2130706433", four.clone()),
            ("0x7f000001", four.clone()),
            ("0X7F.0.0.1", four.clone()),
            ("127.0.0.0x1", four.clone()),
            ("0177.0.0.1", four.clone()),
            ("127.0.0.01", four.clone()),
            ("127.0.0.256", four.clone()),
            ("127.0.0.1.1", four.clone()),
            ("example.0x", four),
            ("[fe80::1%25eth0]", Err("it is no IPv6 address")),
            ("[127.0.0.1]", Err("it is no IPv6 address")),
            ("[::1", Err("it is no IPv6 address")),
            ("", Err("it is no name of a host")),
            ("example..", Err("it is no name of a host")),
            ("127%2e0%2e0%2e1", Err("it is no name of a host")),
            ("exämple.com", Err("it is no name of a host")),
        ];
        for (text, expected) in cases {
            assert_eq!(Host::parse(text), expected, "{text}");
        }
    }
}
