//! How much a repository may bring.

/// How much a repository may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many files, folders and symlinks a commit may have.
    pub files: u64,
    /// How many bytes the files of a commit may have together.
    pub bytes: u64,
    /// How many bytes one fetch may receive.
    pub fetch_bytes: u64,
}

impl Default for Limits {
    /// 250,000 files; 10 GiB of each.
    fn default() -> Self {
        Self {
            files: 250_000,
            bytes: 10 << 30,
            fetch_bytes: 10 << 30,
        }
    }
}
