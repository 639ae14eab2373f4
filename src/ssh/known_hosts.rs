//! `known_hosts` files: host keys that a user has accepted elsewhere (sshd(8), "SSH_KNOWN_HOSTS
//! FILE FORMAT").

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use ssh_key::known_hosts::HostPatterns;

use super::host_key::HostKey;

/// The most lines that are read.
pub const MOST_LINES: usize = 5_000;

/// The port that is omitted after a host.
const PLAIN_PORT: u16 = 22;

/// The types of keys that can be pinned, in order of preference.
const KINDS: [&str; 5] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker {
    None,
    Authority,
    Revoked,
}

#[derive(Debug)]
struct Entry {
    marker: Marker,
    hosts: HostPatterns,
    key: HostKey,
}

/// The content of a file.
#[derive(Debug, Default)]
pub struct KnownHosts {
    entries: Vec<Entry>,
    /// The numbers of the lines, from 1, that could not be parsed.
    pub unread: Vec<usize>,
}

/// The keys of one host.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Its keys that are not revoked, in order of preference.
    pub keys: Vec<HostKey>,
    /// Its keys that must never be accepted.
    pub revoked: Vec<HostKey>,
    /// True if an authority is named that may certify its keys. Certificates are not supported.
    pub authority: bool,
}

impl KnownHosts {
    /// Parses a file's text, at most its first [`MOST_LINES`] lines.
    pub fn read(text: &str) -> Self {
        let mut read = Self::default();
        for (index, line) in text.lines().take(MOST_LINES).enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match entry(line) {
                Some(entry) => read.entries.push(entry),
                None => read.unread.push(index + 1),
            }
        }
        read
    }

    /// The keys of the sshd at `host` and `port`. A key that is revoked anywhere for this host is
    /// not among its keys.
    pub fn of(&self, host: &str, port: u16) -> Known {
        let host = host.to_lowercase();
        let name = match port {
            PLAIN_PORT => host,
            port => format!("[{host}]:{port}"),
        };
        let mut known = Known::default();
        for entry in self
            .entries
            .iter()
            .filter(|entry| names(&entry.hosts, &name))
        {
            let list = match entry.marker {
                Marker::Authority => {
                    known.authority = true;
                    continue;
                }
                Marker::Revoked => &mut known.revoked,
                Marker::None => &mut known.keys,
            };
            if !list.contains(&entry.key) {
                list.push(entry.key.clone());
            }
        }
        let revoked = &known.revoked;
        known.keys.retain(|key| !revoked.contains(key));
        known.keys.retain(|key| rank(key).is_some());
        known.keys.sort_by_key(rank);
        known
    }
}

fn rank(key: &HostKey) -> Option<usize> {
    KINDS.iter().position(|kind| *kind == key.kind)
}

fn entry(line: &str) -> Option<Entry> {
    let mut words = line.split_ascii_whitespace().peekable();
    let marker = match words.peek()? {
        &"@cert-authority" => Marker::Authority,
        &"@revoked" => Marker::Revoked,
        word if word.starts_with('@') => return None,
        _ => Marker::None,
    };
    if marker != Marker::None {
        words.next();
    }
    let hosts = words.next()?.parse().ok()?;
    let kind = words.next()?;
    let encoded = STANDARD.decode(words.next()?).ok()?;
    let key = HostKey::from_encoded(&encoded);
    (key.kind == kind).then_some(Entry { marker, hosts, key })
}

/// True if the patterns match `name`, a host in lower case, in brackets and with its port if that
/// is not 22.
fn names(hosts: &HostPatterns, name: &str) -> bool {
    match hosts {
        HostPatterns::HashedName { salt, hash } => {
            hashed(salt, name).is_some_and(|digest| openssl::memcmp::eq(&digest, hash))
        }
        HostPatterns::Patterns(patterns) => {
            let fits = |pattern: &str| fits(pattern.to_lowercase().as_bytes(), name.as_bytes());
            let refused = patterns
                .iter()
                .filter_map(|pattern| pattern.strip_prefix('!'))
                .any(fits);
            !refused
                && patterns
                    .iter()
                    .any(|pattern| !pattern.starts_with('!') && fits(pattern))
        }
    }
}

/// HMAC-SHA1, as OpenSSH hashes names; 20 bytes, or `None` if the system's OpenSSL lacks it.
fn hashed(salt: &[u8], name: &str) -> Option<[u8; 20]> {
    let key = PKey::hmac(salt).ok()?;
    let mut signer = Signer::new(MessageDigest::sha1(), &key).ok()?;
    signer
        .sign_oneshot_to_vec(name.as_bytes())
        .ok()?
        .try_into()
        .ok()
}

/// True if `name` matches `pattern`, in which `*` matches any characters and `?` one.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    // The positions to go back to when the last star must match one character more.
    let mut retry: Option<(usize, usize)> = None;
    while from < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                retry = Some((at + 1, from));
                at += 1;
            }
            Some(&letter) if letter == b'?' || letter == name[from] => {
                at += 1;
                from += 1;
            }
            _ => match retry {
                Some((star, taken)) => {
                    at = star;
                    from = taken + 1;
                    retry = Some((star, from));
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&letter| letter == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::tests::sshd::{make_key, run};
    use proptest::prelude::*;

    fn encoded(kind: &str, rest: u8) -> String {
        let mut bytes = (kind.len() as u32).to_be_bytes().to_vec();
        bytes.extend(kind.as_bytes());
        bytes.extend([0, 0, 0, 1, rest]);
        STANDARD.encode(bytes)
    }

    fn line(hosts: &str, kind: &str, rest: u8) -> String {
        format!("{hosts} {kind} {} comment\n", encoded(kind, rest))
    }

    fn key(kind: &str, rest: u8) -> HostKey {
        HostKey::from_encoded(&STANDARD.decode(encoded(kind, rest)).unwrap())
    }

    const ED: &str = "ssh-ed25519";
    const RSA: &str = "ssh-rsa";

    #[test]
    fn names_ports_patterns_and_negations_are_understood() {
        let text = line("web.example,192.0.2.1", ED, 1)
            + &line("[web.example]:2222", ED, 2)
            + &line("*.example,!web.example", RSA, 3)
            + &line("db?.EXAMPLE", ED, 4)
            + "# a comment\n\n"
            + &line("2001:db8::1", ED, 5);
        let read = KnownHosts::read(&text);
        assert!(read.unread.is_empty());
        let keys = |host: &str, port| read.of(host, port).keys;
        assert_eq!(keys("web.example", 22), [key(ED, 1)]);
        assert_eq!(keys("WEB.example", 2222), [key(ED, 2)]);
        assert_eq!(keys("192.0.2.1", 22), [key(ED, 1)]);
        assert_eq!(keys("192.0.2.1", 2222), []);
        assert_eq!(keys("db1.example", 22), [key(ED, 4), key(RSA, 3)]);
        assert_eq!(keys("2001:db8::1", 22), [key(ED, 5)]);
        assert_eq!(keys("example", 22), []);
    }

    #[test]
    fn revoked_keys_and_authorities_are_no_keys() {
        let text = line("web", ED, 1)
            + &line("web", RSA, 2)
            + &format!("@revoked {}", line("*", ED, 1))
            + &format!("@cert-authority {}", line("*.example,web", RSA, 9));
        let known = KnownHosts::read(&text).of("web", 22);
        assert_eq!(known.keys, [key(RSA, 2)]);
        assert_eq!(known.revoked, [key(ED, 1)]);
        assert!(known.authority);
        assert!(!KnownHosts::read(&text).of("other", 22).authority);
    }

    #[test]
    fn the_best_kind_comes_first_and_others_are_left_out() {
        let text = line("web", RSA, 1)
            + &line("web", "sk-ssh-ed25519@openssh.com", 2)
            + &line("web", "ecdsa-sha2-nistp256", 3)
            + &line("web", ED, 4)
            + &line("web", "ssh-dss", 5);
        let known = KnownHosts::read(&text).of("web", 22);
        let kinds: Vec<&str> = known.keys.iter().map(|key| key.kind.as_str()).collect();
        assert_eq!(kinds, [ED, "ecdsa-sha2-nistp256", RSA]);
    }

    #[test]
    fn lines_that_cannot_be_read_are_told_by_their_number() {
        let good = line("web", ED, 1);
        let text = format!(
            "{good}web {ED}\nweb {ED} !!!!\n@odd web {ED} {0}\nweb {RSA} {0}\n|1|x|y {ED} {0}\n",
            encoded(ED, 1)
        );
        let read = KnownHosts::read(&text);
        assert_eq!(read.unread, [2, 3, 4, 5, 6]);
        assert_eq!(read.of("web", 22).keys.len(), 1);
        let many = good.repeat(MOST_LINES + 10);
        assert_eq!(KnownHosts::read(&many).entries.len(), MOST_LINES);
    }

    #[test]
    fn what_ssh_keygen_hashes_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let host = folder.path().join("host");
        make_key(&host, "ed25519", "");
        let public = std::fs::read_to_string(host.with_extension("pub")).unwrap();
        let file = folder.path().join("known_hosts");
        std::fs::write(
            &file,
            format!("web.example {public}[web.example]:2222 {public}"),
        )
        .unwrap();
        run("ssh-keygen", &["-q", "-H", "-f", file.to_str().unwrap()]);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("|1|") && !text.contains("web.example"));
        let read = KnownHosts::read(&text);
        for port in [22, 2222] {
            let known = read.of("web.example", port);
            let listed = run("ssh-keygen", &["-l", "-f", host.to_str().unwrap()]);
            assert!(listed.contains(&known.keys[0].fingerprint), "{listed}");
        }
        assert_eq!(read.of("web.example", 2223), Known::default());
    }

    proptest! {
        #[test]
        fn patterns_fit_as_their_plain_meaning_says(
            pattern in "[ab*?]{0,8}", name in "[ab]{0,10}",
        ) {
            fn plain(pattern: &[u8], name: &[u8]) -> bool {
                match (pattern.split_first(), name.split_first()) {
                    (None, None) => true,
                    (Some((b'*', rest)), _) => {
                        plain(rest, name) || (!name.is_empty() && plain(pattern, &name[1..]))
                    }
                    (Some((b'?', rest)), Some((_, after))) => plain(rest, after),
                    (Some((letter, rest)), Some((other, after))) => {
                        letter == other && plain(rest, after)
                    }
                    _ => false,
                }
            }
            let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
            prop_assert_eq!(fits(pattern, name), plain(pattern, name));
        }

        #[test]
        fn no_text_is_a_panic(text in "\\PC{0,200}") {
            KnownHosts::read(&text).of("web", 22);
        }
    }
}
