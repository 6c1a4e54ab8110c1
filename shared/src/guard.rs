//! The guard in front of every connection to an address that a user named: Git servers,
//! registries, notifications.
//!
//! A name is resolved once, every address it resolves to is put before a [`GuardPolicy`], and the
//! caller connects to one of the addresses that passed, never to the name again: a second look-up
//! could answer something else. Hosts written as decimal, hexadecimal or octal numbers need no
//! rule of their own, since what is judged is the address they resolve to.

use crate::name::shown;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Which addresses may be connected to. The default is the fleet's: no loopback, private ranges
/// allowed, since a forge on the LAN is the usual case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardPolicy {
    /// Loopback is allowed: in `standalone`, where the user owns the machine.
    #[serde(default)]
    pub allow_loopback: bool,
    /// Private ranges are refused unless listed in `allowed`.
    #[serde(default)]
    pub deny_private: bool,
    /// What the operator lists (`--allow-hosts`): opens loopback and private addresses, never the
    /// rest.
    #[serde(default)]
    pub allowed: Vec<AllowedHost>,
}

/// One entry of `--allow-hosts`: a host name or a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AllowedHost {
    /// A host name, compared without regard to case and to a trailing dot.
    Name(String),
    /// A network; a single address is one of full length.
    Network(IpNet),
}

/// A text that is neither a host name nor a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` is neither a host name nor a network such as `10.0.0.0/8`")]
pub struct AllowedHostError {
    shown: String,
}

impl std::str::FromStr for AllowedHost {
    type Err = AllowedHostError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if let Ok(network) = text.parse::<IpNet>() {
            return Ok(Self::Network(network.trunc()));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Network(address.into()));
        }
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if text.is_empty()
            || text.len() > 253
            || text.starts_with(['-', '.'])
            || !text.bytes().all(inside)
        {
            return Err(AllowedHostError { shown: shown(text) });
        }
        Ok(Self::Name(plain_host(text)))
    }
}

impl TryFrom<String> for AllowedHost {
    type Error = AllowedHostError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<AllowedHost> for String {
    fn from(host: AllowedHost) -> Self {
        match host {
            AllowedHost::Name(name) => name,
            AllowedHost::Network(network) => network.to_string(),
        }
    }
}

/// What kind of place an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressKind {
    /// Anywhere on the Internet.
    Public,
    /// A private range (RFC 1918, unique local, carrier-grade NAT, benchmarks).
    Private,
    /// This machine.
    Loopback,
    /// This link only; where clouds keep their metadata services.
    LinkLocal,
    /// A cloud's metadata service outside the link-local range.
    Metadata,
    /// No address at all: `0.0.0.0/8` and `::`, which systems take for this machine.
    Unspecified,
    /// Many receivers, or all.
    Multicast,
    /// Set aside: nothing answers there.
    Reserved,
}

impl AddressKind {
    /// As it stands in a message.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "a public address",
            Self::Private => "a private address",
            Self::Loopback => "a loopback address",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "a metadata service",
            Self::Unspecified => "the unspecified address",
            Self::Multicast => "a multicast or broadcast address",
            Self::Reserved => "a reserved address",
        }
    }
}

/// Addresses of metadata services that are not link-local: AWS over IPv6, Google over IPv6,
/// Alibaba, Oracle, Azure.
const METADATA: [IpAddr; 5] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

/// What kind of place an address is. An IPv4 address inside an IPv6 one (mapped, compatible,
/// 6to4, NAT64) is judged by itself.
#[must_use]
pub fn kind_of(address: IpAddr) -> AddressKind {
    if METADATA.contains(&address) {
        return AddressKind::Metadata;
    }
    match address {
        IpAddr::V4(address) => kind_of_v4(address),
        IpAddr::V6(address) => match embedded_v4(address) {
            Some(inner) => kind_of(IpAddr::V4(inner)),
            None => kind_of_v6(address),
        },
    }
}

fn kind_of_v4(address: Ipv4Addr) -> AddressKind {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        (0, ..) => AddressKind::Unspecified,
        (127, ..) => AddressKind::Loopback,
        (169, 254, _) => AddressKind::LinkLocal,
        (224..=239, ..) | (255, 255, 255) => AddressKind::Multicast,
        (240..=255, ..) | (192, 0, 0) => AddressKind::Reserved,
        (10, ..) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) | (198, 18..=19, _) => {
            AddressKind::Private
        }
        _ => AddressKind::Public,
    }
}

fn kind_of_v6(address: Ipv6Addr) -> AddressKind {
    let first = address.segments()[0];
    match first {
        _ if address.is_unspecified() => AddressKind::Unspecified,
        _ if address.is_loopback() => AddressKind::Loopback,
        0xfe80..=0xfebf => AddressKind::LinkLocal,
        0xff00..=0xffff => AddressKind::Multicast,
        // Unique local, and the site-local range that came before it.
        0xfc00..=0xfdff | 0xfec0..=0xfeff => AddressKind::Private,
        // 2000::/3 is all of the Internet that is given out.
        0x2000..=0x3fff => AddressKind::Public,
        _ => AddressKind::Reserved,
    }
}

/// The IPv4 address that a connection to this IPv6 address would end at.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let low = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        // `::` and `::1` are IPv6's own.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, a, b]
        | [0, 0, 0, 0, 0xffff, 0, a, b]
        | [0x64, 0xff9b, 0, 0, 0, 0, a, b] => Some(low(a, b)),
        [0x2002, a, b, ..] => Some(low(a, b)),
        _ => None,
    }
}

/// Why a host may not be connected to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    /// The name does not resolve.
    #[error("the host `{host}` cannot be found: {reason}")]
    Unknown {
        /// The host, safe to show.
        host: String,
        /// What the resolver said.
        reason: String,
    },
    /// None of its addresses is allowed.
    #[error("the host `{host}` is {}, which is not allowed here", kind.as_str())]
    Refused {
        /// The host, safe to show.
        host: String,
        /// What its first address is.
        kind: AddressKind,
    },
}

impl GuardPolicy {
    /// Whether `host` may be connected to at `address`.
    #[must_use]
    pub fn allows(&self, host: &str, address: IpAddr) -> bool {
        match kind_of(address) {
            AddressKind::Public => true,
            AddressKind::Private => !self.deny_private || self.lists(host, address),
            AddressKind::Loopback => self.allow_loopback || self.lists(host, address),
            AddressKind::LinkLocal
            | AddressKind::Metadata
            | AddressKind::Unspecified
            | AddressKind::Multicast
            | AddressKind::Reserved => false,
        }
    }

    /// The addresses of `host` that may be connected to, in the order given.
    ///
    /// # Errors
    /// [`GuardError`] when there are none.
    pub fn vet(
        &self,
        host: &str,
        addresses: impl IntoIterator<Item = SocketAddr>,
    ) -> Result<Vec<SocketAddr>, GuardError> {
        let mut refused = None;
        let mut vetted = Vec::new();
        for address in addresses {
            if self.allows(host, address.ip()) {
                vetted.push(address);
            } else {
                refused.get_or_insert(kind_of(address.ip()));
            }
        }
        match refused {
            _ if !vetted.is_empty() => Ok(vetted),
            Some(kind) => Err(GuardError::Refused {
                host: shown(host),
                kind,
            }),
            None => Err(GuardError::Unknown {
                host: shown(host),
                reason: "it has no address".to_owned(),
            }),
        }
    }

    /// Resolves `host` once and returns the addresses that may be connected to.
    ///
    /// # Errors
    /// [`GuardError`] when it does not resolve or none of its addresses is allowed.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, GuardError> {
        let bare = without_brackets(host);
        let found = tokio::net::lookup_host((bare, port)).await;
        self.vet(bare, found.map_err(|error| unknown(host, &error))?)
    }

    /// As [`Self::resolve`], where somebody else connects and may choose any of the addresses: all of
    /// them must be allowed.
    ///
    /// # Errors
    /// [`GuardError`] when it does not resolve or one of its addresses is not allowed.
    pub async fn resolve_for_another(&self, host: &str, port: u16) -> Result<(), GuardError> {
        let bare = without_brackets(host);
        let found = tokio::net::lookup_host((bare, port)).await;
        let mut addresses = found.map_err(|error| unknown(host, &error))?;
        match addresses.find(|address| !self.allows(bare, address.ip())) {
            Some(refused) => Err(GuardError::Refused {
                host: shown(host),
                kind: kind_of(refused.ip()),
            }),
            None => Ok(()),
        }
    }

    fn lists(&self, host: &str, address: IpAddr) -> bool {
        let address = match address {
            IpAddr::V6(v6) => embedded_v4(v6).map_or(address, IpAddr::V4),
            IpAddr::V4(_) => address,
        };
        self.allowed.iter().any(|entry| match entry {
            AllowedHost::Name(name) => *name == plain_host(host),
            AllowedHost::Network(network) => network.contains(&address),
        })
    }
}

/// A URL writes an IPv6 address in brackets.
fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host)
}

fn unknown(host: &str, error: &std::io::Error) -> GuardError {
    GuardError::Unknown {
        host: shown(host),
        reason: error.to_string(),
    }
}

fn plain_host(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn where_another_connects_every_address_must_be_allowed() {
        let guard = GuardPolicy::default();
        for (host, allowed) in [
            ("10.1.2.3", true),
            ("8.8.8.8", true),
            ("127.0.0.1", false),
            ("[::1]", false),
            ("169.254.169.254", false),
        ] {
            let vetted = guard.resolve_for_another(host, 443).await;
            assert_eq!(vetted.is_ok(), allowed, "{host}: {vetted:?}");
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn every_address_has_its_kind() {
        use AddressKind::*;
        for (text, kind) in [
            ("8.8.8.8", Public),
            ("2606:4700::1111", Public),
            ("10.1.2.3", Private),
            ("172.16.0.1", Private),
            ("172.32.0.1", Public),
            ("192.168.1.1", Private),
            ("100.64.0.1", Private),
            ("fd12:3456::1", Private),
            ("fec0::1", Private),
            ("127.0.0.1", Loopback),
            ("127.255.255.254", Loopback),
            ("::1", Loopback),
            ("::ffff:127.0.0.1", Loopback),
            ("::127.0.0.1", Loopback),
            ("64:ff9b::7f00:1", Loopback),
            ("2002:7f00:1::", Loopback),
            ("169.254.169.254", LinkLocal),
            ("::ffff:169.254.169.254", LinkLocal),
            ("fe80::1", LinkLocal),
            ("fd00:ec2::254", Metadata),
            ("100.100.100.200", Metadata),
            ("::ffff:100.100.100.200", Metadata),
            ("168.63.129.16", Metadata),
            ("0.0.0.0", Unspecified),
            ("0.1.2.3", Unspecified),
            ("::", Unspecified),
            ("::ffff:0.0.0.0", Unspecified),
            ("224.0.0.1", Multicast),
            ("255.255.255.255", Multicast),
            ("ff02::1", Multicast),
            ("240.0.0.1", Reserved),
            ("100::1", Reserved),
        ] {
            assert_eq!(kind_of(address(text)), kind, "{text}");
        }
    }

    #[test]
    fn what_each_policy_lets_through() {
        let fleet = GuardPolicy::default();
        let standalone = GuardPolicy {
            allow_loopback: true,
            ..GuardPolicy::default()
        };
        let closed = GuardPolicy {
            deny_private: true,
            ..GuardPolicy::default()
        };
        let listed = GuardPolicy {
            deny_private: true,
            allowed: [
                "Forge.Example.",
                "127.0.0.0/8",
                "10.0.0.7",
                "169.254.0.0/16",
            ]
            .map(|text| text.parse().unwrap())
            .to_vec(),
            ..GuardPolicy::default()
        };
        for (host, text, allowed) in [
            ("x.example", "8.8.8.8", [true, true, true, true]),
            ("x.example", "192.168.1.1", [true, true, false, false]),
            ("forge.example", "192.168.1.1", [true, true, false, true]),
            ("forge.example", "127.0.0.1", [false, true, false, true]),
            ("localhost.", "127.0.0.1", [false, true, false, true]),
            ("x.example", "::ffff:127.0.0.1", [false, true, false, true]),
            ("x.example", "10.0.0.7", [true, true, false, true]),
            ("x.example", "10.0.0.8", [true, true, false, false]),
            ("forge.example", "169.254.169.254", [false; 4]),
            ("forge.example", "0.0.0.0", [false; 4]),
            ("forge.example", "fd00:ec2::254", [false; 4]),
        ] {
            let address = address(text);
            let found =
                [&fleet, &standalone, &closed, &listed].map(|policy| policy.allows(host, address));
            assert_eq!(found, allowed, "{host} at {text}");
        }
    }

    #[test]
    fn only_the_addresses_that_pass_are_used() {
        let policy = GuardPolicy::default();
        let both = [
            "127.0.0.1:443".parse().unwrap(),
            "8.8.8.8:443".parse().unwrap(),
        ];
        assert_eq!(policy.vet("x", both), Ok(vec![both[1]]));
        assert_eq!(
            policy.vet("x", [both[0]]),
            Err(GuardError::Refused {
                host: "x".to_owned(),
                kind: AddressKind::Loopback
            })
        );
        assert!(policy.vet("x", []).is_err());
    }

    #[tokio::test]
    async fn numbers_in_disguise_are_judged_by_what_they_are() {
        for host in [
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "localhost",
            "[::1]",
            "127.1",
        ] {
            let result = GuardPolicy::default().resolve(host, 80).await;
            assert!(
                matches!(
                    result,
                    Err(GuardError::Refused {
                        kind: AddressKind::Loopback,
                        ..
                    })
                ),
                "{host}: {result:?}"
            );
        }
    }

    #[test]
    fn an_allow_list_reads_names_and_networks() {
        for text in ["forge.lan", "10.0.0.0/8", "::1", "fd00::/8", "127.0.0.1"] {
            let entry: AllowedHost = text.parse().unwrap();
            let json = serde_json::to_string(&entry).unwrap();
            assert_eq!(serde_json::from_str::<AllowedHost>(&json).unwrap(), entry);
        }
        for text in ["", "-x", "a b", "http://x", "10.0.0.0/99", "*"] {
            assert!(text.parse::<AllowedHost>().is_err(), "{text}");
        }
    }
}
