//! The CA file of the settings.

use std::env;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use super::error::GitError;

/// The variable that names OpenSSL's file of trusted certificates, besides the system's folder.
const CA_FILE_VARIABLE: &str = "SSL_CERT_FILE";

/// Makes https fetches trust the certificates in `path` (PEM, one or more) in addition to those of
/// the system's certificate folder. Call it first in `main`, before any thread is started and
/// before anything is written.
///
/// libgit2 reads trusted certificates once, at its start, from the file that the environment names.
/// So if the environment does not name `path` yet, this replaces the running program with itself
/// (same process id, same arguments) with the environment set. It returns if there is nothing to
/// do.
///
/// # Errors
/// [`GitError::Disk`] if the file cannot be read or holds no certificate, or the program cannot be
/// replaced.
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
