//! Whether a text is a whole private key, and whether it needs a passphrase. Keys are looked at,
//! not opened: only a login shows whether the passphrase is right.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The longest key, in bytes.
pub const LONGEST: usize = 16 << 10;

/// The beginning of what OpenSSH's own format encodes (OpenSSH, PROTOCOL.key).
const OPENSSH_MAGIC: &[u8] = b"openssh-key-v1\0";

/// A text that is a private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrivateKey {
    /// Whether a passphrase is needed to use it.
    pub encrypted: bool,
}

/// Looks at `text`, whose line ends are plain; none if it is not a whole private key.
pub fn look_at(text: &str) -> Option<PrivateKey> {
    let text = text.trim();
    let (label, rest) = text.strip_prefix("-----BEGIN ")?.split_once("-----\n")?;
    let body = rest.strip_suffix(&format!("\n-----END {label}-----"))?;
    if !label.ends_with("PRIVATE KEY") || body.contains("-----") {
        return None;
    }
    let (headers, body) = match body.split_once("\n\n") {
        Some((headers, body)) if headers.contains(':') => (headers, body),
        _ => ("", body),
    };
    let packed: String = body.split_ascii_whitespace().collect();
    let bytes = STANDARD.decode(packed).ok()?;
    let encrypted = match label {
        "OPENSSH PRIVATE KEY" => openssh_is_encrypted(&bytes)?,
        "ENCRYPTED PRIVATE KEY" => true,
        _ => headers.contains("ENCRYPTED"),
    };
    // What is encrypted as a whole shows nothing of its shape.
    let opaque = label == "OPENSSH PRIVATE KEY" || headers.contains("ENCRYPTED");
    (opaque || is_whole_der(&bytes)).then_some(PrivateKey { encrypted })
}

/// Reads cipher, KDF, its options, the number of keys, the public key and the private part; none if
/// the encoding ends early.
fn openssh_is_encrypted(bytes: &[u8]) -> Option<bool> {
    let mut rest = bytes.strip_prefix(OPENSSH_MAGIC)?;
    let cipher = take_string(&mut rest)?;
    let _kdf = take_string(&mut rest)?;
    let _options = take_string(&mut rest)?;
    rest = rest.get(4..)?;
    let _public = take_string(&mut rest)?;
    let _private = take_string(&mut rest)?;
    Some(cipher != b"none")
}

fn take_string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let length = u32::from_be_bytes(*length) as usize;
    let string = after.get(..length)?;
    *rest = after.get(length..)?;
    Some(string)
}

/// Whether `bytes` are one DER sequence (ITU-T X.690) with nothing missing and nothing after it.
fn is_whole_der(bytes: &[u8]) -> bool {
    let [0x30, first, rest @ ..] = bytes else {
        return false;
    };
    if *first < 0x80 {
        return rest.len() == usize::from(*first);
    }
    let digits = usize::from(first & 0x7f);
    match rest.split_at_checked(digits) {
        Some((length, content)) if digits <= 4 => {
            let length = length
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            content.len() == length
        }
        _ => false,
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A key in OpenSSH's format that opens nothing.
    pub fn openssh(cipher: &str, cut: usize) -> String {
        let mut bytes = OPENSSH_MAGIC.to_vec();
        for part in [cipher.as_bytes(), b"none", b""] {
            bytes.extend((part.len() as u32).to_be_bytes());
            bytes.extend(part);
        }
        bytes.extend(1_u32.to_be_bytes());
        for part in [[1; 51].as_slice(), &[2; 136]] {
            bytes.extend((part.len() as u32).to_be_bytes());
            bytes.extend(part);
        }
        bytes.truncate(bytes.len() - cut);
        pem("OPENSSH PRIVATE KEY", "", &bytes)
    }

    fn pem(label: &str, headers: &str, bytes: &[u8]) -> String {
        let body = STANDARD.encode(bytes);
        let lines: Vec<&str> = (0..body.len())
            .step_by(64)
            .map(|start| &body[start..body.len().min(start + 64)])
            .collect();
        let body = lines.join("\n");
        format!("-----BEGIN {label}-----\n{headers}{body}\n-----END {label}-----\n")
    }

    fn der(length: usize) -> Vec<u8> {
        let mut bytes = vec![0x30, 0x82, (length >> 8) as u8, length as u8];
        bytes.resize(4 + length, 7);
        bytes
    }

    #[test]
    fn whole_keys_are_told_from_broken_ones() {
        let plain = Some(PrivateKey { encrypted: false });
        let encrypted = Some(PrivateKey { encrypted: true });
        let headers = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n";
        let whole = openssh("none", 0);
        let cases = [
            (whole.clone(), plain),
            (openssh("aes256-ctr", 0), encrypted),
            (openssh("none", 1), None),
            (whole[..whole.len() - 10].to_owned(), None),
            (whole.replace("BEGIN", "begin"), None),
            (format!("{whole}{whole}"), None),
            (pem("RSA PRIVATE KEY", "", &der(300)), plain),
            (pem("PRIVATE KEY", "", &der(300)), plain),
            (pem("PRIVATE KEY", "", &der(300)[..200]), None),
            (pem("RSA PRIVATE KEY", headers, &[9; 304]), encrypted),
            (pem("ENCRYPTED PRIVATE KEY", "", &der(300)), encrypted),
            (pem("PUBLIC KEY", "", &der(300)), None),
            (pem("CERTIFICATE", "", &der(300)), None),
            ("ssh-ed25519 AAAA ann".to_owned(), None),
            (String::new(), None),
        ];
        for (number, (text, expected)) in cases.into_iter().enumerate() {
            assert_eq!(look_at(&text), expected, "case {number}: {text}");
        }
    }
}
