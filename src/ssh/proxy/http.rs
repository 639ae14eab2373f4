//! HTTP CONNECT (RFC 9110 section 9.3.6), with a Basic login (RFC 7617).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::ProxyFault;
use super::talk::{Fault, Talk};
use crate::ssh::SshError;

/// The longest head of an answer, in bytes.
const HEAD: usize = 16 << 10;
/// The most lines of a head.
const LINES: usize = 64;
/// The most characters of a proxy's message that are repeated.
const QUOTE: usize = 100;

/// Asks the proxy for a connection to `goal`.
pub(super) fn connect(
    talk: &mut Talk<'_>,
    goal: (&str, u16),
    login: Option<(&str, &str)>,
) -> Result<(), Fault> {
    let goal = SshError::address(goal.0, goal.1);
    let login = login.map_or(String::new(), |(user, password)| {
        let login = STANDARD.encode(format!("{user}:{password}"));
        format!("Proxy-Authorization: Basic {login}\r\n")
    });
    let request = format!("CONNECT {goal} HTTP/1.1\r\nHost: {goal}\r\n{login}\r\n");
    talk.send(request.as_bytes())?;
    let head = head(talk)?;
    let mut headers = [httparse::EMPTY_HEADER; LINES];
    let mut answer = httparse::Response::new(&mut headers);
    match answer.parse(&head) {
        Ok(httparse::Status::Complete(_)) => {}
        _ => return Err(ProxyFault::Garbage.into()),
    }
    match answer.code {
        Some(200..=299) => Ok(()),
        // Some proxies refuse a wrong login with the status of a web server.
        Some(401 | 407) if login.is_empty() => Err(ProxyFault::LoginNeeded.into()),
        Some(401 | 407) => Err(ProxyFault::LoginRefused.into()),
        Some(code) => {
            let said = answer.reason.unwrap_or_default().chars().take(QUOTE);
            let reason = format!("{code} {}", said.collect::<String>());
            Err(ProxyFault::Refused { reason }.into())
        }
        None => Err(ProxyFault::Garbage.into()),
    }
}

/// Reads the head of the answer and no byte more: the rest is the server's.
fn head(talk: &mut Talk<'_>) -> Result<Vec<u8>, Fault> {
    const SIGN: &[u8] = b"HTTP/";
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
        let mut byte = [0];
        talk.receive(&mut byte)?;
        head.push(byte[0]);
        let shown = head.len().min(SIGN.len());
        if head.len() > HEAD || head[..shown] != SIGN[..shown] {
            return Err(ProxyFault::Garbage.into());
        }
    }
    Ok(head)
}
