//! A look at an https host's certificate before libgit2 connects.
//!
//! libgit2 1.9.7 comes to https through our relay as through a proxy. When it refuses a
//! certificate there, it frees the connection to the proxy before the TLS connection inside it
//! (`http_client_connect` in its `httpclient.c`), whose closing then uses the freed one: the fetch
//! never comes back and cannot be cut. So whoever has a bad certificate is refused here.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use openssl::ssl::{HandshakeError, SslConnector, SslMethod};
use openssl::x509::X509VerifyResult;

use super::error::GitError;
use super::url::RepoUrl;

/// Shakes hands with the host at `address` as libgit2 will, trusting the same authorities.
pub(super) fn check(url: &RepoUrl, address: SocketAddr, timeout: Duration) -> Result<(), GitError> {
    let unreachable =
        |error: &dyn std::error::Error| GitError::unreachable(url, &error.to_string());
    let stream = open(address, timeout).map_err(|error| unreachable(&error))?;
    let connector = SslConnector::builder(SslMethod::tls_client())
        .map_err(|error| unreachable(&error))?
        .build();
    match connector.connect(url.host().unwrap_or_default(), stream) {
        Ok(mut tls) => {
            // The host may not wait for a farewell.
            let _ = tls.shutdown();
            Ok(())
        }
        Err(HandshakeError::Failure(handshake)) => match handshake.ssl().verify_result() {
            X509VerifyResult::OK => Err(unreachable(handshake.error())),
            refused => Err(GitError::CertificateNotTrusted {
                url: url.as_str().to_owned(),
                reason: refused.error_string().to_owned(),
            }),
        },
        Err(HandshakeError::WouldBlock(_)) => Err(GitError::timed_out(url, timeout)),
        Err(HandshakeError::SetupFailure(error)) => Err(unreachable(&error)),
    }
}

fn open(address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    Ok(stream)
}
