//! Proxies on the way to a server's sshd: SOCKS 5 (RFC 1928, RFC 1929), HTTP CONNECT (RFC 9110
//! section 9.3.6), and a command whose input and output are the connection, like ssh(1)'s
//! `ProxyCommand`.

use std::fmt;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use url::Url;

use super::dial::{connect, resolve};
use super::error::{Cause, Phase};
use super::{Cancel, Exit, Timeouts};
use crate::secret::Secret;

mod command;
mod http;
mod socks;
mod talk;

pub(super) use command::ProxyProcess;
pub use command::{Launcher, ProxyCommand, check_argument};
use talk::Talk;

/// The longest user name and password of a proxy, in bytes (RFC 1929 section 2).
const LONGEST_LOGIN: usize = 255;

/// The means of reaching a server's sshd, instead of a direct connection.
#[derive(Clone, Debug)]
pub enum Proxy {
    /// A proxy server.
    Server(ProxyServer),
    /// A command on this machine.
    Command(ProxyCommand),
}

/// The protocol of a proxy server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    /// SOCKS 5; names are resolved here.
    Socks5,
    /// SOCKS 5; names are resolved by the proxy.
    Socks5h,
    /// HTTP CONNECT; names are resolved by the proxy.
    Http,
}

impl Scheme {
    const ALL: [(&'static str, Self, u16); 3] = [
        ("socks5", Self::Socks5, 1080),
        ("socks5h", Self::Socks5h, 1080),
        ("http", Self::Http, 80),
    ];

    fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, scheme, _)| *scheme == self);
        found.map_or("", |(name, _, _)| *name)
    }
}

/// A proxy server and the login for it.
#[derive(Clone, Debug)]
pub struct ProxyServer {
    scheme: Scheme,
    host: String,
    port: u16,
    user: Option<String>,
    password: Option<Secret<String>>,
}

/// The text is not a proxy's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a proxy is socks5://, socks5h:// or http:// with [user:password@]host[:port]")]
pub struct BadProxy;

impl ProxyServer {
    /// Parses `scheme://[user[:password]@]host[:port]`; user and password are percent-decoded.
    ///
    /// # Errors
    /// [`BadProxy`] for other schemes, for a path or query, and for a login that no proxy accepts.
    pub fn parse(text: &str) -> Result<Self, BadProxy> {
        // The parser would drop some of these.
        if text
            .chars()
            .any(|letter| letter.is_control() || letter.is_whitespace())
        {
            return Err(BadProxy);
        }
        let url = Url::parse(text).map_err(|_| BadProxy)?;
        let (_, scheme, default) = Scheme::ALL
            .into_iter()
            .find(|(name, _, _)| *name == url.scheme())
            .ok_or(BadProxy)?;
        let is_bare =
            matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        let host = url.host_str().ok_or(BadProxy)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
        let port = url.port().unwrap_or(default);
        if !is_bare || port == 0 || host.is_empty() || !host.bytes().all(is_host) {
            return Err(BadProxy);
        }
        let user = decoded(url.username())?;
        let password = match url.password() {
            // The parser treats an empty one as none.
            None if has_empty_password(text) => Some(String::new()),
            password => password.map(decoded).transpose()?,
        };
        // A colon would end the user's name in HTTP's Basic login (RFC 7617 section 2).
        let is_login = match (&user[..], &password) {
            ("", None) => true,
            ("", Some(_)) => false,
            (user, _) => !user.contains(':'),
        };
        if !is_login {
            return Err(BadProxy);
        }
        Ok(Self {
            scheme,
            host: host.to_owned(),
            port,
            user: Some(user).filter(|user| !user.is_empty()),
            password: password.map(Secret::new),
        })
    }

    /// The address without the password, to be shown and stored; [`parse`](Self::parse) reads it.
    pub fn address(&self) -> String {
        let encoded = |user: &String| {
            let user: String = url::form_urlencoded::byte_serialize(user.as_bytes()).collect();
            format!("{}@", user.replace('+', "%20"))
        };
        let user = self.user.as_ref().map_or(String::new(), encoded);
        format!("{}://{user}{}", self.scheme.name(), self.place())
    }

    /// The password; an empty one means that none is set, where one was before.
    pub fn password(&self) -> Option<&Secret<String>> {
        self.password.as_ref()
    }

    /// The same with another password.
    #[must_use]
    pub fn with_password(mut self, password: Option<Secret<String>>) -> Self {
        self.password = password;
        self
    }

    /// `host:port`.
    fn place(&self) -> String {
        super::SshError::address(&self.host, self.port)
    }

    /// The user's name and password, as sent to the proxy.
    fn login(&self) -> Option<(&str, &str)> {
        let user = self.user.as_deref()?;
        let password = self.password.as_ref();
        Some((user, password.map_or("", |password| password.expose())))
    }

    /// A connection to `host` and `port` through this proxy.
    pub(super) fn reach(
        &self,
        (host, port): (&str, u16),
        timeouts: &Timeouts,
        until: Instant,
        cancel: &Cancel,
    ) -> Result<TcpStream, Cause> {
        let late = |cause| self.blamed(cause, timeouts.connect);
        let addresses = resolve(&self.host, self.port, timeouts, until, cancel).map_err(late)?;
        let socket = connect(&addresses, timeouts, until, cancel).map_err(late)?;
        let wait = talk::Wait {
            until,
            cancel,
            connect: timeouts.connect,
        };
        let mut talk = Talk::new(socket, wait).map_err(|fault| self.failed(fault))?;
        let agreed = match self.scheme {
            Scheme::Http => http::connect(&mut talk, (host, port), self.login()),
            Scheme::Socks5h => {
                socks::connect(&mut talk, &socks::Goal::of(host, port), self.login())
            }
            Scheme::Socks5 => {
                let found = resolve(host, port, timeouts, until, cancel)?;
                let goal = socks::Goal::Address(found[0]);
                socks::connect(&mut talk, &goal, self.login())
            }
        };
        agreed
            .and_then(|()| talk.into_socket())
            .map_err(|fault| self.failed(fault))
    }

    /// Attributes a fault on the way to the proxy to the proxy.
    fn blamed(&self, cause: Cause, after: Duration) -> Cause {
        let fault = match cause {
            Cause::Unresolved { reason } => ProxyFault::Unresolved { reason },
            Cause::Unreachable { reason } => ProxyFault::Unreachable { reason },
            Cause::TimedOut { .. } => {
                return Cause::TimedOut {
                    phase: Phase::Proxy,
                    after,
                };
            }
            other => return other,
        };
        self.cause(fault)
    }

    fn failed(&self, fault: talk::Fault) -> Cause {
        match fault {
            talk::Fault::Proxy(fault) => self.cause(fault),
            talk::Fault::Other(cause) => cause,
        }
    }

    fn cause(&self, fault: ProxyFault) -> Cause {
        Cause::Proxy {
            proxy: self.place(),
            fault,
        }
    }

    /// Everything that makes a connection through it unfit for another use.
    fn parts(&self) -> Vec<Vec<u8>> {
        let password = self
            .password
            .as_ref()
            .map(|password| password.expose().clone());
        vec![
            b"proxy".to_vec(),
            self.address().into_bytes(),
            password.unwrap_or_default().into_bytes(),
        ]
    }
}

impl Proxy {
    /// Everything that makes a connection through it unfit for another use, as parts of a key.
    pub(super) fn parts(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Server(server) => server.parts(),
            Self::Command(command) => command.parts(),
        }
    }
}

fn has_empty_password(text: &str) -> bool {
    let login = text.rsplit_once('@').map(|(login, _)| login);
    login.is_some_and(|login| login.ends_with(':'))
}

fn decoded(text: &str) -> Result<String, BadProxy> {
    // A plus is literal here, unlike in a form.
    let pair = format!("x={}", text.replace('+', "%2B"));
    let decoded = url::form_urlencoded::parse(pair.as_bytes()).next();
    let decoded = decoded.map_or(String::new(), |(_, value)| value.into_owned());
    let is_sound = decoded.len() <= LONGEST_LOGIN
        && !decoded
            .chars()
            .any(|letter| letter.is_control() || letter == '\u{fffd}');
    is_sound.then_some(decoded).ok_or(BadProxy)
}

/// The reason a proxy provided no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyFault {
    /// Its name has no address.
    #[error("its name cannot be resolved: {reason}")]
    Unresolved {
        /// The error of the resolver.
        reason: String,
    },
    /// It accepts no connection.
    #[error("it cannot be reached: {reason}")]
    Unreachable {
        /// The error of the system, for each address.
        reason: String,
    },
    /// It closed the connection before its answer was complete.
    #[error("it hung up")]
    HungUp,
    /// Its answer is of another protocol.
    #[error("what answers there is no such proxy")]
    Garbage,
    /// It requires a login, and none is given.
    #[error("it asks for a user and a password")]
    LoginNeeded,
    /// It refuses the login.
    #[error("it refused the user or the password")]
    LoginRefused,
    /// It opens no connection to the server.
    #[error("it opens no connection to the server: {reason}")]
    Refused {
        /// Its message.
        reason: String,
    },
    /// The command could not be started.
    #[error("the command could not be started: {reason}")]
    Start {
        /// The error of the system.
        reason: String,
    },
    /// The command ended.
    #[error("the command ended with {ended}: {said}")]
    Ended {
        /// The command's exit.
        ended: Exit,
        /// The last line of its standard error.
        said: String,
    },
}

impl fmt::Display for ProxyServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.address())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown_without_the_password() {
        for (text, address, login) in [
            ("socks5://gate:1081", "socks5://gate:1081", None),
            ("socks5h://10.0.0.1", "socks5h://10.0.0.1:1080", None),
            ("SOCKS5://Gate.example/", "socks5://Gate.example:1080", None),
            ("http://proxy", "http://proxy:80", None),
            ("http://[::1]:3128/", "http://[::1]:3128", None),
            (
                "socks5://[2001:db8::1]",
                "socks5://[2001:db8::1]:1080",
                None,
            ),
            (
                "http://ann:s%3Ac@p:8080",
                "http://ann@p:8080",
                Some(("ann", "s:c")),
            ),
            (
                "socks5://a%40b:x+y@p",
                "socks5://a%40b@p:1080",
                Some(("a@b", "x+y")),
            ),
            (
                "socks5://安:密@p",
                "socks5://%E5%AE%89@p:1080",
                Some(("安", "密")),
            ),
            ("socks5://ann@p:1", "socks5://ann@p:1", Some(("ann", ""))),
        ] {
            let proxy = ProxyServer::parse(text).unwrap_or_else(|_| panic!("{text}"));
            assert_eq!(
                (proxy.address().as_str(), proxy.login()),
                (address, login),
                "{text}"
            );
            let again = ProxyServer::parse(&proxy.address()).unwrap();
            assert_eq!(again.address(), address);
            assert!(!format!("{proxy:?}").contains("s:c"));
        }
        let emptied = ProxyServer::parse("http://ann:@p").unwrap();
        assert_eq!(emptied.password().map(|it| it.expose().as_str()), Some(""));
        assert_eq!(emptied.address(), "http://ann@p:80");
        assert!(
            ProxyServer::parse("http://ann@p")
                .unwrap()
                .password()
                .is_none()
        );
    }

    #[test]
    fn what_is_no_proxys_address_is_refused() {
        let long = format!("socks5://{}@p", "a".repeat(256));
        for text in [
            "",
            "gate",
            "gate:1080",
            "https://p:1",
            "socks4://p",
            "socks5://",
            "socks5://:1080",
            "http://p/x",
            "http://p?x",
            "http://p#x",
            "socks5://p:0",
            "socks5://p:65536",
            "socks5://a b",
            "socks5://p\u{0}",
            "socks5://:@p",
            "socks5://a%3Ab:c@p",
            "socks5://:c@p",
            "socks5://a%0A@p",
            "http://a:%00@p",
            "socks5://a%FF@p",
            "socks5://$(id)",
            &long,
        ] {
            assert!(ProxyServer::parse(text).is_err(), "{text}");
        }
    }
}
