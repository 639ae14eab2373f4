//! Private keys, checked before they are needed: libssh2's error for an unusable key is the same
//! for a damaged key, an unknown type and a wrong passphrase, and comes only at a login.

use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::ec::EcKey;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Private};
use ssh_key::{Algorithm, Kdf};

use super::error::Cause;
use crate::secret::Secret;

/// The longest key text that is parsed, in bytes.
pub(super) const LONGEST: usize = 64 * 1024;

/// The most rounds of a key's derivation; no sane key has more, and each costs a few milliseconds.
const MOST_ROUNDS: u32 = 2_000;

/// A private key as libssh2 takes it, parsed but not decrypted.
pub(super) struct Opened {
    /// The text: plain line ends, one at its end.
    pub(super) text: Secret<String>,
    /// True if its passphrase is needed.
    pub(super) encrypted: bool,
    /// True if it may be an RSA key, which can sign in more than one way.
    pub(super) may_be_rsa: bool,
}

/// Checks that `key` is a usable private key and that `passphrase` decrypts it.
///
/// # Errors
/// [`Cause::PassphraseMissing`], [`Cause::PassphraseWrong`], or [`Cause::KeyNotUnderstood`] with
/// the reason. A passphrase for a key that needs none is not an error.
pub fn check_key(key: &Secret<String>, passphrase: Option<&Secret<String>>) -> Result<(), Cause> {
    let text = normal(key);
    let passphrase = given(passphrase);
    match label(&text)? {
        "OPENSSH PRIVATE KEY" => {
            let key = openssh(&text)?;
            match (key.is_encrypted(), passphrase) {
                (false, _) => Ok(()),
                (true, None) => Err(Cause::PassphraseMissing),
                (true, Some(passphrase)) => key
                    .decrypt(passphrase)
                    .map(drop)
                    .map_err(|_| Cause::PassphraseWrong),
            }
        }
        label => open_pem(&text, label, passphrase),
    }
}

/// [`check_key`] for a login, without decrypting the key: deriving the key from a passphrase takes
/// as long as the rest of the login, and libssh2 does it anyway.
pub(super) fn look_at(
    key: &Secret<String>,
    passphrase: Option<&Secret<String>>,
) -> Result<Opened, Cause> {
    let text = normal(key);
    let (encrypted, may_be_rsa) = match label(&text)? {
        "OPENSSH PRIVATE KEY" => {
            let key = openssh(&text)?;
            (key.is_encrypted(), key.algorithm().is_rsa())
        }
        label if is_encrypted_pem(&text, label) => (true, !label.starts_with("EC")),
        label => {
            open_pem(&text, label, None)?;
            (false, !label.starts_with("EC"))
        }
    };
    match encrypted && given(passphrase).is_none() {
        true => Err(Cause::PassphraseMissing),
        false => Ok(Opened {
            text: Secret::new(text),
            encrypted,
            may_be_rsa,
        }),
    }
}

fn normal(key: &Secret<String>) -> String {
    normal_key(key.expose())
}

/// The text of a key in normal form: plain line ends, one at its end, and without the characters
/// that an editor, a clipboard or a web form puts around lines (a byte order mark, spaces, tabs).
pub fn normal_key(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let is_blank = |letter: char| letter.is_whitespace() || letter == '\u{feff}';
    let lines = text.split('\n').map(|line| line.trim_matches(is_blank));
    let lines: Vec<&str> = lines.collect();
    let text = lines.join("\n");
    format!("{}\n", text.trim_matches('\n'))
}

fn given(passphrase: Option<&Secret<String>>) -> Option<&str> {
    passphrase
        .map(|passphrase| passphrase.expose().as_str())
        .filter(|passphrase| !passphrase.is_empty())
}

/// The text of the key file at `path`.
pub(super) fn read(path: &Path) -> Result<Secret<String>, Cause> {
    let unreadable = |cause| Cause::KeyUnreadable {
        path: path.to_owned(),
        cause,
    };
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST as u64 + 1).read_to_string(&mut text))
        .map_err(unreadable)?;
    Ok(Secret::new(text))
}

/// The folders that may hold key files of the platform.
#[derive(Debug, Clone, Default)]
pub struct KeyFolders(Vec<PathBuf>);

impl KeyFolders {
    /// These absolute folders and those below them; if empty, no key file is allowed.
    pub fn new(folders: Vec<PathBuf>) -> Self {
        Self(folders)
    }

    /// The file that `path` leads to, symlinks resolved, if it is below one of the folders.
    ///
    /// # Errors
    /// [`Cause::KeyFolder`] if it is not, and [`Cause::KeyUnreadable`].
    pub fn find(&self, path: &Path) -> Result<PathBuf, Cause> {
        let plain = path
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        let refused = || Cause::KeyFolder {
            path: path.to_owned(),
        };
        // A path that is not allowed is not opened either, so that its existence is not revealed.
        if !plain || !self.0.iter().any(|folder| path.starts_with(folder)) {
            return Err(refused());
        }
        let found = path.canonicalize().map_err(|cause| Cause::KeyUnreadable {
            path: path.to_owned(),
            cause,
        })?;
        let is_below = |folder: &PathBuf| {
            folder.is_absolute()
                && folder
                    .canonicalize()
                    .is_ok_and(|folder| found.starts_with(folder))
        };
        match self.0.iter().any(is_below) {
            true if found.is_file() => Ok(found),
            _ => Err(refused()),
        }
    }
}

/// Checks that the key file at `path` is allowed by the folders and that `passphrase` decrypts it.
///
/// # Errors
/// Those of [`KeyFolders::find`] and [`check_key`].
pub fn check_key_file(
    folders: &KeyFolders,
    path: &Path,
    passphrase: Option<&Secret<String>>,
) -> Result<(), Cause> {
    let key = read(&folders.find(path)?)?;
    check_key(&key, passphrase)
}

fn not_understood(reason: &str) -> Cause {
    Cause::KeyNotUnderstood {
        reason: reason.to_owned(),
    }
}

fn unusable(label: &str) -> Cause {
    not_understood(&format!("keys of the kind {label} cannot be used"))
}

/// The name of the key in its `BEGIN` line; refuses a text that is no private key, with a helpful
/// reason.
fn label(text: &str) -> Result<&str, Cause> {
    if text.len() > LONGEST {
        return Err(not_understood("it is longer than any key"));
    }
    if text.starts_with("PuTTY-User-Key-File-") {
        return Err(not_understood(
            "it is in PuTTY's format; convert it with `puttygen KEY.ppk -O private-openssh`",
        ));
    }
    if text.starts_with("ssh-") || text.starts_with("ecdsa-") || text.contains("BEGIN PUBLIC KEY") {
        return Err(not_understood(
            "this is the public half; the private key is needed",
        ));
    }
    let label = text
        .strip_prefix("-----BEGIN ")
        .and_then(|rest| rest.split_once("-----\n"))
        .map(|(label, _)| label)
        .ok_or_else(|| not_understood("it has no `-----BEGIN … PRIVATE KEY-----` line"))?;
    let whole = text
        .trim_end()
        .strip_suffix(&format!("-----END {label}-----"));
    match (whole, label) {
        (None, _) => Err(not_understood("its end is missing")),
        (_, "DSA PRIVATE KEY") => Err(not_understood("DSA keys are no longer supported")),
        (_, label) if label.ends_with("PRIVATE KEY") => Ok(label),
        (_, label) => Err(not_understood(&format!("it is a {label}"))),
    }
}

/// A key in OpenSSH's own format (its `PROTOCOL.key`), of a usable type.
fn openssh(text: &str) -> Result<ssh_key::PrivateKey, Cause> {
    let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    let key = STANDARD
        .decode(body)
        .ok()
        .and_then(|bytes| ssh_key::PrivateKey::from_bytes(&bytes).ok())
        .ok_or_else(|| not_understood("it is damaged"))?;
    match key.algorithm() {
        Algorithm::Ed25519 | Algorithm::Rsa { .. } | Algorithm::Ecdsa { .. } => {}
        Algorithm::Dsa => return Err(not_understood("DSA keys are no longer supported")),
        other => return Err(unusable(other.as_str())),
    }
    match key.kdf() {
        Kdf::Bcrypt { rounds, .. } if *rounds > MOST_ROUNDS => {
            Err(not_understood("its passphrase takes too long to check"))
        }
        _ => Ok(key),
    }
}

fn is_encrypted_pem(text: &str, label: &str) -> bool {
    label == "ENCRYPTED PRIVATE KEY" || text.contains("Proc-Type: 4,ENCRYPTED")
}

/// Checks a key in PEM or PKCS #8 format.
fn open_pem(text: &str, label: &str, passphrase: Option<&str>) -> Result<(), Cause> {
    let encrypted = is_encrypted_pem(text, label);
    let passphrase = match encrypted {
        true => passphrase.ok_or(Cause::PassphraseMissing)?,
        false => "",
    };
    // With a passphrase given, OpenSSL never asks for one on the terminal.
    let key = PKey::private_key_from_pem_passphrase(text.as_bytes(), passphrase.as_bytes())
        .map_err(|_| match encrypted {
            true => Cause::PassphraseWrong,
            false => not_understood("it is damaged"),
        })?;
    check_kind(&key)
}

fn check_kind(key: &PKey<Private>) -> Result<(), Cause> {
    match key.id() {
        Id::RSA | Id::ED25519 => Ok(()),
        Id::EC if key.ec_key().is_ok_and(|key| is_of_ssh(&key)) => Ok(()),
        Id::EC => Err(unusable("EC on another curve")),
        Id::DSA => Err(not_understood("DSA keys are no longer supported")),
        Id::RSA_PSS => Err(unusable("RSA-PSS")),
        _ => Err(unusable("PKCS #8 of another algorithm")),
    }
}

/// The curves of RFC 5656.
fn is_of_ssh(key: &EcKey<Private>) -> bool {
    let curves = [Nid::X9_62_PRIME256V1, Nid::SECP384R1, Nid::SECP521R1];
    key.group()
        .curve_name()
        .is_some_and(|curve| curves.contains(&curve))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::tests::sshd::{make_key, read_secret, run};

    fn check(key: &str, passphrase: Option<&str>) -> Result<(), Cause> {
        let passphrase = passphrase.map(|text| Secret::new(text.to_owned()));
        check_key(&Secret::new(key.to_owned()), passphrase.as_ref())
    }

    fn reason(key: &str) -> String {
        check(key, None).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_private_key_is_told_plainly() {
        assert!(reason("PuTTY-User-Key-File-3: ssh-ed25519\n").contains("puttygen"));
        assert!(reason("ssh-ed25519 AAAA me@here\n").contains("public half"));
        assert!(reason("hello\n").contains("BEGIN"));
        assert!(reason("").contains("BEGIN"));
        assert!(reason("-----BEGIN RSA PRIVATE KEY-----\nabc\n").contains("end is missing"));
        assert!(reason(&"x".repeat(LONGEST + 1)).contains("longer"));
        let of = |label: &str| format!("-----BEGIN {label}-----\nabc\n-----END {label}-----\n");
        for label in ["OPENSSH PRIVATE KEY", "RSA PRIVATE KEY", "PRIVATE KEY"] {
            assert!(reason(&of(label)).contains("damaged"), "{label}");
        }
        assert!(reason(&of("CERTIFICATE")).contains("CERTIFICATE"));
        assert!(reason(&of("DSA PRIVATE KEY")).contains("DSA"));
    }

    /// Each type of key in each of the common formats.
    fn keys(folder: &Path, passphrase: &str) -> Vec<(String, PathBuf)> {
        let mut keys = Vec::new();
        for kind in ["ed25519", "rsa", "ecdsa"] {
            let path = folder.join(kind);
            make_key(&path, kind, passphrase);
            keys.push((kind.to_owned(), path));
            for format in ["PEM", "PKCS8"] {
                let path = folder.join(format!("{kind}_{format}"));
                let at = path.to_str().unwrap();
                run(
                    "ssh-keygen",
                    &["-q", "-t", kind, "-m", format, "-N", passphrase, "-f", at],
                );
                keys.push((format!("{kind} {format}"), path));
            }
        }
        for cipher in [
            "aes128-ctr",
            "aes256-cbc",
            "aes256-gcm@openssh.com",
            "chacha20-poly1305@openssh.com",
        ] {
            let path = folder.join(cipher);
            let at = path.to_str().unwrap();
            let options = [
                "-q", "-t", "ed25519", "-Z", cipher, "-N", passphrase, "-f", at,
            ];
            run("ssh-keygen", &options);
            keys.push((cipher.to_owned(), path));
        }
        keys
    }

    #[test]
    fn whether_a_passphrase_opens_a_key_is_known_without_a_server() {
        let folder = tempfile::tempdir().unwrap();
        for (name, path) in keys(folder.path(), "open sesame") {
            let key = read_secret(&path);
            let key = key.expose();
            check(key, Some("open sesame")).unwrap_or_else(|cause| panic!("{name}: {cause}"));
            for none in [None, Some("")] {
                let cause = check(key, none).unwrap_err();
                assert!(matches!(cause, Cause::PassphraseMissing), "{name}: {cause}");
            }
            let cause = check(key, Some("open barley")).unwrap_err();
            assert!(matches!(cause, Cause::PassphraseWrong), "{name}: {cause}");
        }
    }

    #[test]
    fn keys_without_a_passphrase_need_none_and_a_cut_one_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        for (name, path) in keys(folder.path(), "") {
            let key = read_secret(&path);
            let key = key.expose();
            check(key, None).unwrap_or_else(|cause| panic!("{name}: {cause}"));
            check(&key.replace('\n', "\r\n"), Some("unneeded")).unwrap();
            let mut lines: Vec<&str> = key.lines().collect();
            lines.remove(lines.len() / 2);
            assert!(reason(&lines.join("\n")).contains("damaged"), "{name}");
        }
    }

    #[test]
    fn key_files_are_taken_from_the_allowed_folders_alone() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("keys")).unwrap();
        std::fs::create_dir(at("keys2")).unwrap();
        for key in ["keys/good", "keys2/other"] {
            make_key(&at(key), "ed25519", "");
        }
        std::os::unix::fs::symlink(at("keys2/other"), at("keys/link")).unwrap();
        let folders = KeyFolders::new(vec![at("keys")]);
        check_key_file(&folders, &at("keys/good"), None).unwrap();
        for refused in [
            at("keys2/other"),
            at("keys/link"),
            at("keys/../keys2/other"),
            at("keys"),
            "/etc/shadow".into(),
            "keys/good".into(),
        ] {
            let cause = check_key_file(&folders, &refused, None).unwrap_err();
            assert!(
                matches!(cause, Cause::KeyFolder { .. }),
                "{refused:?}: {cause}"
            );
        }
        let cause = check_key_file(&folders, &at("keys/missing"), None).unwrap_err();
        assert!(matches!(cause, Cause::KeyUnreadable { .. }), "{cause}");
        assert!(check_key_file(&KeyFolders::default(), &at("keys/good"), None).is_err());
    }

    #[test]
    fn kinds_that_servers_do_not_take_are_named() {
        let pem = |key: PKey<Private>| {
            String::from_utf8(key.private_key_to_pem_pkcs8().unwrap()).unwrap()
        };
        let group = openssl::ec::EcGroup::from_curve_name(Nid::SECP256K1).unwrap();
        let other_curve = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        assert!(reason(&pem(other_curve)).contains("another curve"));
        assert!(reason(&pem(PKey::generate_x25519().unwrap())).contains("another algorithm"));
    }
}
