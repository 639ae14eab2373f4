//! The preferred cipher. Pure, except for detecting the processor's features.

/// The ciphers in order of preference. If the processor has AES instructions, AES-GCM costs both
/// ends less than the others; the others follow, for servers that lack it.
pub(super) fn preference(supported: &[&str], has_aes: bool) -> String {
    let is_first = |cipher: &&str| has_aes && cipher.ends_with("-gcm@openssh.com");
    let (mut first, last): (Vec<&str>, Vec<&str>) = supported.iter().copied().partition(is_first);
    // The shorter key comes first, since a longer one takes more rounds.
    first.sort_unstable();
    [first, last].concat().join(",")
}

/// True if the processor has AES instructions.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
pub(super) fn has_aes() -> bool {
    std::is_x86_feature_detected!("aes") && std::is_x86_feature_detected!("pclmulqdq")
}

/// True if the processor has AES instructions.
#[cfg(target_arch = "aarch64")]
pub(super) fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

/// False: AES instructions cannot be detected on this processor.
#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn has_aes() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aes_goes_first_where_it_is_cheap_and_no_cipher_is_lost() {
        let supported = [
            "chacha20-poly1305@openssh.com",
            "aes256-gcm@openssh.com",
            "aes128-gcm@openssh.com",
            "aes256-ctr",
        ];
        assert_eq!(
            preference(&supported, true),
            "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes256-ctr"
        );
        assert_eq!(preference(&supported, false), supported.join(","));
    }
}
