//! SOCKS 5 (RFC 1928), with a user and a password (RFC 1929).

use std::net::{IpAddr, SocketAddr};

use super::ProxyFault;
use super::talk::{Fault, Talk};

const VERSION: u8 = 5;
const LOGIN_VERSION: u8 = 1;
const CONNECT: u8 = 1;

const NO_LOGIN: u8 = 0;
const BY_PASSWORD: u8 = 2;
const NONE_OF_THESE: u8 = 0xff;

const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// The destination that the proxy connects to.
pub(super) enum Goal {
    Address(SocketAddr),
    Name(String, u16),
}

impl Goal {
    pub(super) fn of(host: &str, port: u16) -> Self {
        match host.parse::<IpAddr>() {
            Ok(address) => Self::Address(SocketAddr::new(address, port)),
            Err(_) => Self::Name(host.to_owned(), port),
        }
    }

    /// The address in the form of RFC 1928 section 5.
    fn encoded(&self) -> Result<Vec<u8>, Fault> {
        let (mut bytes, port) = match self {
            Self::Address(SocketAddr::V4(address)) => (
                [&[IPV4][..], &address.ip().octets()].concat(),
                address.port(),
            ),
            Self::Address(SocketAddr::V6(address)) => (
                [&[IPV6][..], &address.ip().octets()].concat(),
                address.port(),
            ),
            Self::Name(name, port) => ([&[NAME, length(name)?], name.as_bytes()].concat(), *port),
        };
        bytes.extend(port.to_be_bytes());
        Ok(bytes)
    }
}

/// A length in one byte.
fn length(text: &str) -> Result<u8, Fault> {
    let too_long = |_| ProxyFault::Refused {
        reason: "the name is too long".to_owned(),
    };
    Ok(u8::try_from(text.len()).map_err(too_long)?)
}

/// Asks the proxy for a connection to `goal`.
pub(super) fn connect(
    talk: &mut Talk<'_>,
    goal: &Goal,
    login: Option<(&str, &str)>,
) -> Result<(), Fault> {
    match login {
        None => talk.send(&[VERSION, 1, NO_LOGIN])?,
        Some(_) => talk.send(&[VERSION, 2, NO_LOGIN, BY_PASSWORD])?,
    }
    let mut chosen = [0; 2];
    talk.receive(&mut chosen)?;
    match (chosen, login) {
        ([VERSION, NO_LOGIN], _) => {}
        ([VERSION, BY_PASSWORD], Some(login)) => log_in(talk, login)?,
        ([VERSION, NONE_OF_THESE], None) => return Err(ProxyFault::LoginNeeded.into()),
        ([VERSION, NONE_OF_THESE], Some(_)) => return Err(ProxyFault::LoginRefused.into()),
        _ => return Err(ProxyFault::Garbage.into()),
    }
    talk.send(&[&[VERSION, CONNECT, 0][..], &goal.encoded()?].concat())?;
    let mut reply = [0; 4];
    talk.receive(&mut reply)?;
    let [VERSION, code, _, kind] = reply else {
        return Err(ProxyFault::Garbage.into());
    };
    if code != 0 {
        let reason = refusal(code);
        return Err(ProxyFault::Refused { reason }.into());
    }
    // The address that it connected from, and a port, are not used.
    let rest = match kind {
        IPV4 => 4,
        IPV6 => 16,
        NAME => {
            let mut length = [0];
            talk.receive(&mut length)?;
            usize::from(length[0])
        }
        _ => return Err(ProxyFault::Garbage.into()),
    };
    talk.receive(&mut vec![0; rest + 2])
}

fn log_in(talk: &mut Talk<'_>, (user, password): (&str, &str)) -> Result<(), Fault> {
    let parts: [&[u8]; 4] = [
        &[LOGIN_VERSION, length(user)?],
        user.as_bytes(),
        &[length(password)?],
        password.as_bytes(),
    ];
    talk.send(&parts.concat())?;
    let mut verdict = [0; 2];
    match talk.receive(&mut verdict) {
        // Some proxies close instead of answering.
        Err(Fault::Proxy(ProxyFault::HungUp)) => Err(ProxyFault::LoginRefused.into()),
        Err(fault) => Err(fault),
        Ok(()) if verdict == [LOGIN_VERSION, 0] => Ok(()),
        Ok(()) => Err(ProxyFault::LoginRefused.into()),
    }
}

/// The error of a reply code (RFC 1928 section 6).
fn refusal(code: u8) -> String {
    match code {
        1 => "general failure",
        2 => "not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "time to live expired",
        7 => "it does not connect",
        8 => "this kind of address is not supported",
        _ => return format!("code {code}"),
    }
    .to_owned()
}
