//! The source of a submodule: an address like any other, checked against the same policy.

use super::modules;
use crate::git::error::GitError;
use crate::git::mirror::{Mirror, Source};
use crate::git::url::RepoUrl;
use crate::git::{GitCredential, UrlError};

/// The deepest nesting of submodules.
const MAX_NESTING: usize = 8;
/// The most submodules of a tree.
const MAX_COUNT: usize = 100;

/// The mirror of a submodule of the repository of `parent`, which lies in `nesting` others; `count`
/// are there already.
///
/// The parent's credential and accepted host key are used for the parent's own host and nowhere
/// else.
pub(super) fn mirror(
    parent: &Mirror,
    written: Option<&str>,
    nesting: usize,
    count: usize,
) -> Result<Mirror, GitError> {
    let refused = |reason: &str| GitError::Git {
        url: parent.source.url.as_str().to_owned(),
        reason: reason.to_owned(),
    };
    if nesting >= MAX_NESTING {
        return Err(refused("submodules lie too deep in each other"));
    }
    if count >= MAX_COUNT {
        return Err(refused("there are too many submodules"));
    }
    let written = written.ok_or_else(|| refused("no address of it is in .gitmodules"))?;
    let text =
        modules::resolve(&parent.source.url, written).ok_or(GitError::Url(UrlError::Path))?;
    let url = RepoUrl::parse(&text, &parent.options.policy)?;
    let same_host = url.is_on_host_of(&parent.source.url);
    let source = Source {
        credential: match same_host {
            true => parent.source.credential.clone(),
            false => GitCredential::None,
        },
        host_key: parent.source.host_key.clone().filter(|_| same_host),
        url,
        ..parent.source
    };
    Ok(parent.sibling(source))
}
