//! Verifies an https host's certificate before libgit2 connects.
//!
//! libgit2 1.9.7 reaches https through our relay as through a proxy. If it refuses a certificate
//! there, it frees the connection to the proxy before the TLS connection inside it
//! (`http_client_connect` in its `httpclient.c`), whose closing then uses the freed one: the fetch
//! never returns and cannot be cancelled. So a host with a bad certificate is refused here.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use openssl::ssl::{HandshakeError, SslConnector, SslMethod};
use openssl::x509::X509VerifyResult;

use super::address;
use super::error::GitError;
use super::url::RepoUrl;

/// The interval at which the handshake checks for cancellation.
const CANCEL_INTERVAL: Duration = Duration::from_millis(200);

/// Performs the TLS handshake with the host at `address` as libgit2 will, trusting the same
/// authorities. Ends within about `timeout`, and soon after `cancelled` is set.
pub(super) fn check(
    url: &RepoUrl,
    address: SocketAddr,
    timeout: Duration,
    cancelled: &AtomicBool,
) -> Result<(), GitError> {
    let unreachable =
        |error: &dyn std::error::Error| GitError::unreachable(url, &error.to_string());
    let deadline = Instant::now() + timeout;
    let stream = address::connect_to(url, address, timeout, cancelled)?;
    stream
        .set_read_timeout(Some(CANCEL_INTERVAL.min(timeout)))
        .and_then(|()| stream.set_write_timeout(Some(timeout)))
        .map_err(|error| unreachable(&error))?;
    let connector = SslConnector::builder(SslMethod::tls_client())
        .map_err(|error| unreachable(&error))?
        .build();
    let mut shaken = connector.connect(url.host().unwrap_or_default(), stream);
    loop {
        match shaken {
            Ok(mut tls) => {
                // The host may close without waiting for this.
                let _ = tls.shutdown();
                return Ok(());
            }
            Err(HandshakeError::WouldBlock(_)) if cancelled.load(Ordering::SeqCst) => {
                return Err(GitError::Cancelled);
            }
            Err(HandshakeError::WouldBlock(_)) if Instant::now() >= deadline => {
                return Err(GitError::timed_out(url, timeout));
            }
            Err(HandshakeError::WouldBlock(half)) => shaken = half.handshake(),
            Err(HandshakeError::Failure(half)) => {
                return Err(match half.ssl().verify_result() {
                    X509VerifyResult::OK => unreachable(half.error()),
                    refused => GitError::CertificateNotTrusted {
                        url: url.as_str().to_owned(),
                        reason: refused.error_string().to_owned(),
                    },
                });
            }
            Err(HandshakeError::SetupFailure(error)) => return Err(unreachable(&error)),
        }
    }
}
