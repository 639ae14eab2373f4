//! The CA file of the settings.

use std::env;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use super::error::GitError;

/// What OpenSSL reads its trusted certificates from, besides the system's folder of them.
const CA_FILE_VARIABLE: &str = "SSL_CERT_FILE";

/// Makes https fetches trust the certificates in `path` (PEM, one or more) beside those of the
/// system's certificate folder. Call it first thing in `main`, before any thread is started and
/// before anything is written.
///
/// libgit2 reads trusted certificates once, when it starts, from where the environment says; so
/// when the environment does not name `path` yet, this replaces the running program by itself,
/// same process id, same arguments, with the environment set. It returns when there is nothing to
/// do or when that fails.
pub fn trust_ca_file(path: &Path) -> Result<(), GitError> {
    let at = |cause| GitError::Disk {
        path: path.display().to_string(),
        cause,
    };
    let path = path.canonicalize().map_err(at)?;
    let pem = std::fs::read(&path).map_err(at)?;
    let begin = b"-----BEGIN CERTIFICATE-----";
    if !pem.windows(begin.len()).any(|window| window == begin) {
        let reason = "it holds no certificate in PEM form";
        return Err(at(io::Error::new(io::ErrorKind::InvalidData, reason)));
    }
    if env::var_os(CA_FILE_VARIABLE).as_deref() == Some(path.as_os_str()) {
        return Ok(());
    }
    let program = env::current_exe().map_err(at)?;
    let failure = Command::new(program)
        .args(env::args_os().skip(1))
        .env(CA_FILE_VARIABLE, &path)
        .exec();
    Err(at(failure))
}
