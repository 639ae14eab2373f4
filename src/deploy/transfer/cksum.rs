//! The checksum that `cksum` prints: CRC-32 of the content and its length, as specified by POSIX.
//! Every system has that tool. For 37 MB in 2,000 files `cksum` of GNU coreutils 9 takes 26 ms;
//! SHA-256 takes 68 ms with openssl and 195 ms with `sha256sum`.

use crc_fast::{CrcAlgorithm, Digest};

/// An incremental checksum.
pub(super) struct Cksum {
    digest: Digest,
    length: u64,
}

impl Cksum {
    pub(super) fn new() -> Self {
        Self {
            digest: Digest::new(CrcAlgorithm::Crc32Cksum),
            length: 0,
        }
    }

    pub(super) fn update(&mut self, content: &[u8]) {
        self.digest.update(content);
        self.length += content.len() as u64;
    }

    /// The checksum of the content so far.
    pub(super) fn finish(mut self) -> u32 {
        // The length follows, least significant byte first, without leading zeros.
        let length = self.length.to_le_bytes();
        let zeros = self.length.leading_zeros() as usize / 8;
        self.digest.update(&length[..length.len() - zeros]);
        self.digest.finalize() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    #[test]
    fn it_is_what_the_tool_prints() {
        let content: Vec<u8> = (0..300_000_u32)
            .map(|at| (at.wrapping_mul(at) / 7) as u8)
            .collect();
        for length in [0, 1, 3, 255, 256, 257, 4096, 65_535, 65_536, 300_000] {
            let content = &content[..length];
            let mut tool = Command::new("cksum")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            tool.stdin.take().unwrap().write_all(content).unwrap();
            let printed = tool.wait_with_output().unwrap().stdout;
            let mut cksum = Cksum::new();
            for piece in content.chunks(1000) {
                cksum.update(piece);
            }
            let ours = format!("{} {length}\n", cksum.finish());
            assert_eq!(String::from_utf8(printed).unwrap(), ours);
        }
    }
}
