//! The objects that the walk reads: trees, and the small files that configure it.

use git2::{ObjectType, Oid};

use super::modules::Modules;
use crate::git::blob::Opened;
use crate::git::error::GitError;

/// The bits of a mode that hold the file type.
pub(super) const MODE_KIND: i32 = 0o170_000;
/// The file type of a regular file.
pub(super) const MODE_FILE: i32 = 0o100_000;
/// The longest `.gitattributes` and `.gitmodules` that are read, in bytes.
const MAX_CONFIG: u64 = 1 << 20;

/// One entry of a tree object.
pub(super) struct Item {
    pub(super) name: Vec<u8>,
    pub(super) id: Oid,
    pub(super) mode: i32,
    pub(super) kind: Option<ObjectType>,
}

/// The entries of a tree object.
pub(super) fn items(opened: &Opened, tree: Oid) -> Result<Vec<Item>, GitError> {
    opened.read(0, |repository| {
        let tree = repository.find_tree(tree)?;
        Ok(tree
            .iter()
            .map(|entry| Item {
                name: entry.name_bytes().to_owned(),
                id: entry.id(),
                mode: entry.filemode_raw(),
                kind: entry.kind(),
            })
            .collect())
    })
}

/// The content of a small blob.
pub(super) fn content(opened: &Opened, id: Oid) -> Result<Vec<u8>, GitError> {
    opened.read(0, |repository| {
        Ok(repository.find_blob(id)?.content().to_owned())
    })
}

/// The text of a configuration file; empty if it is not a regular file or is too large.
pub(super) fn config(opened: &Opened, item: &Item) -> Result<Vec<u8>, GitError> {
    let is_file = item.kind == Some(ObjectType::Blob) && item.mode & MODE_KIND == MODE_FILE;
    if !is_file || opened.size(item.id)? > MAX_CONFIG {
        return Ok(Vec::new());
    }
    content(opened, item.id)
}

/// The contents of the `.gitmodules` in the top folder.
pub(super) fn modules(opened: &Opened, top: Oid) -> Result<Modules, GitError> {
    let items = items(opened, top)?;
    let file = items.iter().find(|item| item.name == b".gitmodules");
    Ok(match file {
        Some(item) => Modules::read(&config(opened, item)?),
        None => Modules::default(),
    })
}
