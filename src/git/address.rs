//! The IP addresses that a git host may have, and connecting to an allowed one.
//!
//! Names are judged by the addresses they resolve to, and the connection goes to the very address
//! that was judged, so a name that changes in between (DNS rebinding) gains nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::error::GitError;
use super::url::{RepoUrl, UrlError, UrlPolicy};

/// The interval at which a wait checks for cancellation.
const CANCEL_INTERVAL: Duration = Duration::from_millis(50);

/// The kind of destination of an IP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Another host, on the internet or in a private network.
    Host,
    /// This machine.
    Loopback,
    /// Link-local, cloud metadata, multicast, broadcast, unspecified: never a git host.
    Never,
}

/// Judges an IP address, including IPv4 addresses wrapped in IPv6.
pub(super) fn reach(ip: IpAddr) -> Reach {
    match ip {
        IpAddr::V4(ip) => reach_v4(ip),
        IpAddr::V6(ip) => reach_v6(ip),
    }
}

fn reach_v4(ip: Ipv4Addr) -> Reach {
    /// Metadata services of clouds that do not use 169.254.169.254.
    const METADATA: [Ipv4Addr; 3] = [
        Ipv4Addr::new(100, 100, 100, 200),
        Ipv4Addr::new(168, 63, 129, 16),
        Ipv4Addr::new(192, 0, 0, 192),
    ];
    if ip.is_loopback() {
        Reach::Loopback
    } else if ip.octets()[0] == 0
        || ip.octets()[0] >= 240
        || ip.is_link_local()
        || ip.is_multicast()
        || METADATA.contains(&ip)
    {
        Reach::Never
    } else {
        Reach::Host
    }
}

fn reach_v6(ip: Ipv6Addr) -> Reach {
    const METADATA: [Ipv6Addr; 2] = [
        Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
        Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    ];
    if ip.is_loopback() {
        return Reach::Loopback;
    }
    if ip.is_unspecified()
        || ip.is_multicast()
        || ip.is_unicast_link_local()
        || ip.segments()[0] & 0xffc0 == 0xfec0
        || METADATA.contains(&ip)
    {
        return Reach::Never;
    }
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let [g1, g2] = g.to_be_bytes();
    let [h1, h2] = h.to_be_bytes();
    let last = Ipv4Addr::new(g1, g2, h1, h2);
    match [a, b, c, d, e, f] {
        // Mapped, translated (SIIT) and compatible IPv4; NAT64, well-known and network-specific.
        [0, 0, 0, 0, 0, 0xffff | 0]
        | [0, 0, 0, 0, 0xffff, 0]
        | [0x64, 0xff9b, 0, 0, 0, 0]
        | [0x64, 0xff9b, 1, ..] => reach_v4(last),
        // 6to4 has its IPv4 address after the prefix.
        [0x2002, high, low, ..] => {
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            reach_v4(Ipv4Addr::new(a, b, c, d))
        }
        _ => Reach::Host,
    }
}

/// Resolves the host of `url` and connects to the first address that answers; all of its addresses
/// must be allowed. Ends within `timeout`, and soon after `cancelled` is set.
///
/// Resolving and connecting cannot be interrupted, so they run on a thread that is abandoned when
/// the wait is over.
pub(super) fn connect(
    url: &RepoUrl,
    policy: &UrlPolicy,
    timeout: Duration,
    cancelled: &AtomicBool,
) -> Result<(TcpStream, SocketAddr), GitError> {
    let host = url.host().unwrap_or_default().to_owned();
    let port = url.port();
    let allow_loopback = policy.allow_loopback;
    let connecting = move || {
        let addresses = (host.as_str(), port).to_socket_addrs()?.collect::<Vec<_>>();
        judge(&addresses, allow_loopback).map_err(ConnectError::Refused)?;
        connect_to_one_of(&addresses, timeout)
    };
    wait_for(connecting, url, timeout, cancelled)
}

/// Connects to an address that was already judged, like [`connect`].
pub(super) fn connect_to(
    url: &RepoUrl,
    address: SocketAddr,
    timeout: Duration,
    cancelled: &AtomicBool,
) -> Result<TcpStream, GitError> {
    let connecting = move || connect_to_one_of(&[address], timeout);
    wait_for(connecting, url, timeout, cancelled).map(|(stream, _)| stream)
}

type Connected = (TcpStream, SocketAddr);

fn wait_for(
    connecting: impl FnOnce() -> Result<Connected, ConnectError> + Send + 'static,
    url: &RepoUrl,
    timeout: Duration,
    cancelled: &AtomicBool,
) -> Result<Connected, GitError> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // The receiver may have given up; then the connection is not needed.
        let _ = sender.send(connecting());
    });
    let deadline = Instant::now() + timeout;
    loop {
        match receiver.recv_timeout(CANCEL_INTERVAL) {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(ConnectError::Refused(error))) => return Err(GitError::Url(error)),
            Ok(Err(ConnectError::Io(error))) if error.kind() == io::ErrorKind::TimedOut => {
                return Err(GitError::timed_out(url, timeout));
            }
            Ok(Err(ConnectError::Io(error))) => {
                return Err(GitError::unreachable(url, &error.to_string()));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(GitError::unreachable(
                    url,
                    "the connection could not be started",
                ));
            }
            Err(RecvTimeoutError::Timeout) if cancelled.load(Ordering::SeqCst) => {
                return Err(GitError::Cancelled);
            }
            Err(RecvTimeoutError::Timeout) if Instant::now() >= deadline => {
                return Err(GitError::timed_out(url, timeout));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

enum ConnectError {
    Refused(UrlError),
    Io(io::Error),
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Requires every address of a name to be allowed, since the network decides which one is used.
fn judge(addresses: &[SocketAddr], allow_loopback: bool) -> Result<(), UrlError> {
    for address in addresses {
        match reach(address.ip()) {
            Reach::Never => return Err(UrlError::LinkLocal),
            Reach::Loopback if !allow_loopback => return Err(UrlError::Loopback),
            Reach::Loopback | Reach::Host => {}
        }
    }
    Ok(())
}

fn connect_to_one_of(
    addresses: &[SocketAddr],
    timeout: Duration,
) -> Result<Connected, ConnectError> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host's name has no address");
    let share = timeout / u32::try_from(addresses.len().max(1)).unwrap_or(1);
    for address in addresses {
        match TcpStream::connect_timeout(address, share) {
            Ok(stream) => return Ok((stream, *address)),
            Err(error) => last = error,
        }
    }
    Err(ConnectError::Io(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_judged() {
        for (text, expected) in [
            ("93.184.216.34", Reach::Host),
            ("10.0.0.1", Reach::Host),
            ("127.8.9.1", Reach::Loopback),
            ("169.254.169.254", Reach::Never),
            ("0.0.0.0", Reach::Never),
            ("100.100.100.200", Reach::Never),
            ("224.0.0.1", Reach::Never),
            ("255.255.255.255", Reach::Never),
            ("::1", Reach::Loopback),
            ("::", Reach::Never),
            ("fe80::1", Reach::Never),
            ("fd00:ec2::254", Reach::Never),
            ("fd12::1", Reach::Host),
            ("::ffff:127.0.0.1", Reach::Loopback),
            ("::ffff:169.254.169.254", Reach::Never),
            ("64:ff9b::a9fe:a9fe", Reach::Never),
            ("2002:7f00:1::", Reach::Loopback),
            ("2001:db8::1", Reach::Host),
            ("169.254.170.2", Reach::Never),
            ("168.63.129.16", Reach::Never),
            ("192.0.0.192", Reach::Never),
            ("0.1.2.3", Reach::Never),
            ("240.0.0.1", Reach::Never),
            ("::127.0.0.1", Reach::Loopback),
            ("::ffff:0:169.254.169.254", Reach::Never),
            ("64:ff9b:1::a9fe:a9fe", Reach::Never),
            ("2002:a9fe:a9fe::1", Reach::Never),
            ("fec0::1", Reach::Never),
            ("febf::1", Reach::Never),
            ("ff02::1", Reach::Never),
            ("fd20:ce::254", Reach::Never),
        ] {
            assert_eq!(reach(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn one_bad_address_of_a_name_refuses_it() {
        let addresses = |texts: &[&str]| -> Vec<SocketAddr> {
            let socket = |text: &&str| SocketAddr::new(text.parse().unwrap(), 443);
            texts.iter().map(socket).collect()
        };
        let metadata = addresses(&["93.184.216.34", "169.254.169.254"]);
        assert_eq!(judge(&metadata, true), Err(UrlError::LinkLocal));
        let loopback = addresses(&["2001:db8::1", "::ffff:127.0.0.1"]);
        assert_eq!(judge(&loopback, false), Err(UrlError::Loopback));
        assert_eq!(judge(&loopback, true), Ok(()));
        assert_eq!(judge(&addresses(&["10.0.0.1"]), false), Ok(()));
    }
}
