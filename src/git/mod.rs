//! The git wrapper: mirrors, fetch, refs, commits, checkout, archive.
//!
//! [`Mirrors`] keeps one bare [`Mirror`] per [`Source`] and brings it up to date; everything else
//! reads the mirror. All calls block: run them on a blocking pool. One instance may be used from
//! many threads at once.
//!
//! libgit2 never opens a connection to the outside itself. It talks to a [`relay`] on loopback that
//! this module starts for each fetch. Only this way can a fetch be bound to the address that the
//! [`UrlPolicy`] allowed, end when the host falls silent, and be cancelled at once.
//!
//! | file | contents |
//! |---|---|
//! | `url` | the repository addresses that are allowed |
//! | `address` | the IP addresses that are allowed, and connecting to them |
//! | `relay`, `framing`, `advertisement` | the loopback relay between libgit2 and the git host; answers that libgit2 cannot read |
//! | `credential`, `host_key` | proof of our identity and of the host's |
//! | `mirror`, `fetch`, `health` | the mirror's folder and lock, bringing it up to date, repairing it |
//! | `sweep` | removing mirrors that nothing is released from any more |
//! | `refs`, `commit`, `object`, `revision`, `distance` | reading a mirror |
//! | `limits` | limits on the size of a repository |
//! | `tree` | a commit's files, listed and checked, with its submodules |
//! | `work_copy` | a clone that a person works in: pull, switching, reset |
//! | `content`, `checkout`, `archive` | reading the files, as a work tree, as a tar |
//! | `blob`, `large`, `pack`, `delta` | one file's content, in pieces if it is large |
//! | `snapshot` | a commit's files one by one |

mod address;
mod advertisement;
mod archive;
mod blob;
mod certificate;
mod checkout;
mod commit;
mod content;
mod credential;
mod delta;
mod distance;
mod error;
mod fetch;
mod framing;
mod health;
mod host_key;
mod large;
mod limits;
mod mirror;
mod object;
mod pack;
mod progress;
mod refs;
mod relay;
mod revision;
mod snapshot;
mod sweep;
mod tree;
mod trust;
mod url;
mod work_copy;

#[cfg(test)]
mod tests;

pub use checkout::Checkout;
pub use commit::{Commit, CommitId};
pub use credential::GitCredential;
pub use distance::Distance;
pub use error::{GitError, Limit};
pub use host_key::{HostKey, host_key};
pub use limits::Limits;
pub use mirror::{Mirror, MirrorOptions, Mirrors, Source};
pub use progress::{Progress, Report, Stage};
pub use refs::{Ref, Refs};
pub use revision::check as check_revision;
pub use snapshot::{BlobId, Contents, Item, Snapshot};
pub use tree::{Extent, Note, Paths, Tree, refused_link};
pub use trust::trust_ca_file;
pub use url::{RepoUrl, UrlError, UrlPolicy};
pub use work_copy::{Pulled, WorkCopy, WorkCopyError};
