//! Limits on the size of a repository.

/// Limits on the size of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most files, folders and symlinks of a commit.
    pub files: u64,
    /// The most bytes that the files of a commit have together.
    pub bytes: u64,
    /// The most bytes that one fetch receives.
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
