//! The client's address behind reverse proxies, and the grouping of addresses by sender.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The header in which each proxy adds the address it forwards for.
pub const FORWARDED_FOR: &str = "x-forwarded-for";
/// The maximum number of its entries examined; no real chain of proxies is longer.
const LONGEST_CHAIN: usize = 16;

/// A range of addresses: `10.0.0.0/8`, `fd00::/8`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// Text that is not a range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address or a range of addresses such as 10.0.0.0/8")]
pub struct BadNetwork;

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let (address, bits) = match text.trim().split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text.trim(), None),
        };
        let address: IpAddr = address.parse().map_err(|_| BadNetwork)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) if bits.bytes().all(|b| b.is_ascii_digit()) => {
                bits.parse().map_err(|_| BadNetwork)?
            }
            Some(_) => return Err(BadNetwork),
            None => most,
        };
        (bits <= most)
            .then_some(Self { address, bits })
            .ok_or(BadNetwork)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl TryFrom<String> for Network {
    type Error = BadNetwork;

    fn try_from(text: String) -> Result<Self, BadNetwork> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> String {
        network.to_string()
    }
}

impl Network {
    /// The IPv4 loopback addresses.
    pub const V4_LOOPBACK: Self = Self {
        address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)),
        bits: 8,
    };
    /// The IPv6 loopback address.
    pub const V6_LOOPBACK: Self = Self {
        address: IpAddr::V6(Ipv6Addr::LOCALHOST),
        bits: 128,
    };

    /// True if the address is in the range.
    pub fn has(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differ = u32::from(own) ^ u32::from(other);
                differ.leading_zeros() >= u32::from(self.bits)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differ = u128::from(own) ^ u128::from(other);
                differ.leading_zeros() >= u32::from(self.bits)
            }
            _ => false,
        }
    }
}

/// The trusted proxies. Without any, the sender is the peer of the connection.
#[derive(Clone, Debug, Default)]
pub struct Proxies(Vec<Network>);

impl Proxies {
    /// Trusts the proxies in these ranges.
    pub fn new(trusted: Vec<Network>) -> Self {
        Self(trusted)
    }

    /// The sender of a request that came from `peer` with these lines of `X-Forwarded-For`: going back
    /// from the peer, the first address that is not a trusted proxy. Entries before it may be forged.
    /// An entry that is not an address ends the search at the proxy that wrote it.
    pub fn sender(&self, peer: IpAddr, forwarded: &[&str]) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.trust(peer) {
            return peer;
        }
        let entries = forwarded.iter().rev().flat_map(|line| line.rsplit(','));
        let mut sender = peer;
        for entry in entries.take(LONGEST_CHAIN) {
            let Some(address) = entry_address(entry.trim()) else {
                break;
            };
            sender = address;
            if !self.trust(address) {
                break;
            }
        }
        sender
    }

    /// True if the address is that of a trusted proxy.
    pub fn trust(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.has(address))
    }
}

/// The address of an entry; some proxies add the port.
fn entry_address(entry: &str) -> Option<IpAddr> {
    let bare = entry
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .map_or(entry, |(address, _)| address);
    let address = bare
        .parse::<IpAddr>()
        .or_else(|_| entry.parse().map(|address: SocketAddr| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

/// Maps an address to the one that stands for its sender: a customer of a network provider has a whole
/// /64 of IPv6 addresses.
pub fn rate_limit_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(trusted: &[&str]) -> Proxies {
        Proxies::new(trusted.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn networks_are_read_and_know_their_addresses() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("0.0.0.0/0", "203.0.113.9", "2001:db8::1"),
            ("::1", "::1", "::2"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("127.0.0.0/8", "::ffff:127.0.0.1", "::1"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.has(inside.parse().unwrap()), "{network} {inside}");
            assert!(
                !network.has(outside.parse().unwrap()),
                "{network} {outside}"
            );
        }
        for bad in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "proxy",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "1.2.3.4/8/8",
        ] {
            assert_eq!(bad.parse::<Network>(), Err(BadNetwork), "{bad}");
        }
    }

    #[test]
    fn only_what_a_trusted_proxy_says_counts() {
        let chain = proxies(&["127.0.0.1", "10.0.0.0/8"]);
        let nobody = proxies(&[]);
        for (proxies, peer, lines, sender) in [
            (&nobody, "127.0.0.1", &["203.0.113.9"][..], "127.0.0.1"),
            (&chain, "198.51.100.1", &["203.0.113.9"], "198.51.100.1"),
            (&chain, "127.0.0.1", &[], "127.0.0.1"),
            (&chain, "::ffff:127.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            // The entries that the sender wrote itself are on the left.
            (
                &chain,
                "127.0.0.1",
                &["1.1.1.1, 203.0.113.9"],
                "203.0.113.9",
            ),
            (
                &chain,
                "127.0.0.1",
                &["1.1.1.1", "203.0.113.9"],
                "203.0.113.9",
            ),
            (
                &chain,
                "127.0.0.1",
                &["1.1.1.1,203.0.113.9 , 10.0.0.2"],
                "203.0.113.9",
            ),
            (
                &chain,
                "127.0.0.1",
                &["203.0.113.9", "10.1.1.1, 10.0.0.2"],
                "203.0.113.9",
            ),
            (&chain, "127.0.0.1", &["10.0.0.3"], "10.0.0.3"),
            (&chain, "127.0.0.1", &["203.0.113.9, unknown"], "127.0.0.1"),
            (&chain, "127.0.0.1", &["unknown, 10.0.0.2"], "10.0.0.2"),
            (&chain, "127.0.0.1", &[""], "127.0.0.1"),
            (&chain, "127.0.0.1", &["203.0.113.9:4711"], "203.0.113.9"),
            (&chain, "127.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            (&chain, "127.0.0.1", &["2001:db8::1"], "2001:db8::1"),
        ] {
            let found = proxies.sender(peer.parse().unwrap(), lines);
            assert_eq!(found.to_string(), sender, "{peer} {lines:?}");
        }
    }

    #[test]
    fn a_long_header_costs_little() {
        let line = "10.0.0.1,".repeat(10_000);
        let found =
            proxies(&["10.0.0.0/8"]).sender([10, 0, 0, 9].into(), &[line.trim_end_matches(',')]);
        assert_eq!(found.to_string(), "10.0.0.1");
    }
}
