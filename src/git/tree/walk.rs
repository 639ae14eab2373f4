//! The walk over a commit's tree.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use git2::{ErrorCode, ObjectType, Oid};

use super::attributes::{Attribute, Attributes};
use super::modules::Modules;
use super::note::Gathered;
use super::objects::{MODE_FILE, MODE_KIND};
use super::{Entry, Extent, Kind, Opened, Tree, links, name, objects, submodule, unsafe_path};
use crate::git::commit::CommitId;
use crate::git::error::{GitError, Limit, printable};
use crate::git::limits::Limits;
use crate::git::mirror::Mirror;
use crate::git::object::CommitObject;
use crate::git::progress::{Progress, Pulse, Report, Stage};

/// The deepest nesting of folders.
const MAX_DEPTH: usize = 256;
/// The longest target of a symlink, in bytes (PATH_MAX).
const MAX_TARGET: u64 = 4096;

const MODE_SYMLINK: i32 = 0o120_000;
const MODE_OWNER_EXECUTES: i32 = 0o100;

/// Lists `commit` of `mirror`.
pub(super) fn list(
    mirror: &Mirror,
    commit: &CommitId,
    extent: Extent,
    progress: Report<'_>,
) -> Result<Tree, GitError> {
    let mut walk = Walk {
        commit,
        extent,
        pulse: Pulse::new(progress),
        limits: mirror.options.limits,
        mirrors: Vec::new(),
        entries: Vec::new(),
        files: 0,
        bytes: 0,
        gathered: Gathered::default(),
        ignored_files: 0,
    };
    let time = walk.repository(mirror, *commit, Path::new(""), 0)?;
    walk.check_symlinks()?;
    let repositories: Result<_, _> = walk.mirrors.iter().map(Opened::new).collect();
    Ok(Tree {
        commit: *commit,
        time,
        repositories: repositories?,
        entries: walk.entries,
        files: walk.files,
        bytes: walk.bytes,
        notes: walk.gathered.notes(),
    })
}

/// State shared by the folders of one repository during the walk.
struct Place<'a> {
    opened: Opened,
    /// Its index in the tree's list.
    index: usize,
    /// Its path in the tree; empty for the commit's own.
    root: &'a Path,
    /// The number of submodules that contain it.
    nesting: usize,
    modules: Modules,
    attributes: Attributes,
}

struct Walk<'a> {
    commit: &'a CommitId,
    extent: Extent,
    pulse: Pulse<'a>,
    limits: Limits,
    /// The commit's own mirror, then those of submodules.
    mirrors: Vec<Mirror>,
    entries: Vec<Entry>,
    files: u64,
    bytes: u64,
    gathered: Gathered,
    /// The number of `export-ignore` entries that are not folders.
    ignored_files: u64,
}

impl Walk<'_> {
    /// Walks one repository; returns the commit's time.
    fn repository(
        &mut self,
        mirror: &Mirror,
        commit: CommitId,
        root: &Path,
        nesting: usize,
    ) -> Result<u64, GitError> {
        let opened = Opened::new(mirror)?;
        let found = opened.read(0, |repository| {
            match CommitObject::find(repository, commit.0) {
                Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
                found => found.map(|found| Some((found.tree, found.seconds))),
            }
        })?;
        let Some((top, time)) = found else {
            return Err(mirror.unknown(&commit.to_string()));
        };
        let modules = match mirror.source.submodules {
            true => objects::modules(&opened, top)?,
            false => Modules::default(),
        };
        let mut place = Place {
            opened,
            index: self.mirrors.len(),
            root,
            nesting,
            modules,
            attributes: Attributes::default(),
        };
        self.mirrors.push(mirror.clone());
        self.folder(&mut place, top, root, 0)?;
        Ok(u64::try_from(time).unwrap_or_default())
    }

    fn folder(
        &mut self,
        place: &mut Place<'_>,
        tree: Oid,
        below: &Path,
        depth: usize,
    ) -> Result<(), GitError> {
        if depth > MAX_DEPTH {
            let reason = "folders lie too deep in each other";
            return Err(unsafe_path(self.commit, below, reason));
        }
        let items = objects::items(&place.opened, tree)?;
        let inside = inside(place, below);
        let text = match items.iter().find(|item| item.name == b".gitattributes") {
            Some(item) => objects::config(&place.opened, item)?,
            None => Vec::new(),
        };
        place.attributes.enter(inside.as_os_str().as_bytes(), &text);
        let (mut names, mut folded) = (HashSet::new(), HashSet::new());
        for item in &items {
            name::check(&item.name).map_err(|reason| {
                unsafe_path(self.commit, &below.join(shown(&item.name)), reason)
            })?;
            let path = below.join(OsStr::from_bytes(&item.name));
            if !names.insert(item.name.as_slice()) {
                let reason = "it is there twice, perhaps in another spelling";
                return Err(unsafe_path(self.commit, &path, reason));
            }
            if !folded.insert(name::folded(&item.name)) {
                self.gathered.same_name.add(|| printed(&path));
            }
            self.item(place, item, path, depth)?;
        }
        place.attributes.leave();
        Ok(())
    }

    fn item(
        &mut self,
        place: &mut Place<'_>,
        item: &objects::Item,
        path: PathBuf,
        depth: usize,
    ) -> Result<(), GitError> {
        let is_folder = item.kind == Some(ObjectType::Tree);
        if self.is_left_out(place, &path, is_folder) {
            return Ok(());
        }
        match (item.kind, item.mode & MODE_KIND) {
            (Some(ObjectType::Tree), _) => {
                let before = (self.entries.len() + 1, self.gathered.ignored.count);
                let files = self.ignored_files;
                self.push(path.clone(), Kind::Folder)?;
                self.folder(place, item.id, &path, depth + 1)?;
                let now = (self.entries.len(), self.gathered.ignored.count);
                // As in git, a folder that held only ignored folders is omitted too.
                if now.0 == before.0 && now.1 > before.1 && self.ignored_files == files {
                    self.entries.pop();
                }
                Ok(())
            }
            (Some(ObjectType::Commit), _) => {
                self.push(path.clone(), Kind::Folder)?;
                self.submodule(place, &path, CommitId(item.id))
            }
            (_, MODE_SYMLINK) => {
                let target = self.target(place, item, &path)?;
                self.push(path, Kind::Symlink { target })
            }
            (_, MODE_FILE) => {
                let size = place.opened.size(item.id)?;
                let file = Kind::File {
                    repository: place.index,
                    blob: item.id,
                    size,
                    executable: item.mode & MODE_OWNER_EXECUTES != 0,
                };
                self.push(path, file)
            }
            _ => Err(unsafe_path(self.commit, &path, "of an unknown kind")),
        }
    }

    fn is_left_out(&mut self, place: &Place<'_>, path: &Path, is_folder: bool) -> bool {
        if self.extent == Extent::Whole || place.attributes.is_empty() {
            return false;
        }
        let inside = inside(place, path).as_os_str().as_bytes();
        let has = |attribute| place.attributes.has(attribute, inside, is_folder);
        if has(Attribute::ExportIgnore) {
            self.gathered.ignored.add(|| printed(path));
            self.ignored_files += u64::from(!is_folder);
            return true;
        }
        if !is_folder && has(Attribute::ExportSubst) {
            self.gathered.substituted.add(|| printed(path));
        }
        false
    }

    /// Adds an entry, if the limits allow one more.
    fn push(&mut self, path: PathBuf, kind: Kind) -> Result<(), GitError> {
        match &kind {
            Kind::Folder => {}
            Kind::Symlink { .. } => self.files += 1,
            Kind::File { size, .. } => {
                self.files += 1;
                self.bytes = self.bytes.saturating_add(*size);
            }
        }
        self.entries.push(Entry { path, kind });
        let limits = self.limits;
        let what = || self.commit.to_string();
        Limit::Files.hold(self.entries.len() as u64, limits.files, what)?;
        Limit::Bytes.hold(self.bytes, limits.bytes, what)?;
        let files = self.files as usize;
        self.pulse.beat(|| Progress {
            stage: Stage::Listing,
            objects: files,
            ..Progress::default()
        })
    }

    fn submodule(
        &mut self,
        place: &Place<'_>,
        path: &Path,
        commit: CommitId,
    ) -> Result<(), GitError> {
        let parent = place.opened.mirror();
        if !parent.source.submodules {
            self.gathered.left_out.add(|| printed(path));
            return Ok(());
        }
        let at = |cause: GitError| match cause {
            GitError::Cancelled => GitError::Cancelled,
            cause => GitError::Submodule {
                path: printed(path),
                cause: Box::new(cause),
            },
        };
        let count = self.gathered.submodules.len();
        let written = place
            .modules
            .url(inside(place, path).as_os_str().as_bytes());
        let (mirror, note) = submodule::mirror(parent, written, place.nesting, count)
            .and_then(|mirror| {
                mirror.bring(commit, self.pulse.report())?;
                let url = mirror.source.url.as_str().to_owned();
                let (path, commit) = (printed(path), commit.to_string());
                Ok((mirror, super::Note::Submodule { path, url, commit }))
            })
            .map_err(at)?;
        self.gathered.submodules.push(note);
        self.repository(&mirror, commit, path, place.nesting + 1)
            .map_err(|error| match error {
                nested @ (GitError::Submodule { .. } | GitError::UnsafePath { .. }) => nested,
                GitError::TooLarge { .. } => error,
                other => at(other),
            })?;
        Ok(())
    }

    fn target(
        &self,
        place: &Place<'_>,
        item: &objects::Item,
        path: &Path,
    ) -> Result<PathBuf, GitError> {
        let malformed = || unsafe_path(self.commit, path, "a malformed symlink");
        if item.name.eq_ignore_ascii_case(b".gitmodules") {
            return Err(malformed());
        }
        let length = place.opened.size(item.id)?;
        if length == 0 || length >= MAX_TARGET {
            return Err(malformed());
        }
        let target = objects::content(&place.opened, item.id)?;
        if target.contains(&0) {
            return Err(malformed());
        }
        Ok(PathBuf::from(OsString::from_vec(target)))
    }

    fn check_symlinks(&self) -> Result<(), GitError> {
        let links: HashMap<&Path, &Path> = self
            .entries
            .iter()
            .filter_map(|entry| match &entry.kind {
                Kind::Symlink { target } => Some((entry.path.as_path(), target.as_path())),
                Kind::Folder | Kind::File { .. } => None,
            })
            .collect();
        match links::refused_link(&links) {
            None => Ok(()),
            Some((link, reason)) => Err(unsafe_path(self.commit, link, reason)),
        }
    }
}

/// `path` relative to its repository.
fn inside<'a>(place: &Place<'_>, path: &'a Path) -> &'a Path {
    path.strip_prefix(place.root).unwrap_or(path)
}

fn printed(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

/// A name made fit for a message. A hostile name may be absolute or climb; joined to a path it must
/// not replace it.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).replace('/', "\u{2215}")
}
