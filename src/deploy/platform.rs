//! The steps on the platform: fetch and check out, build, pack.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::error::StepError;
use super::local::{self, Account, LocalCommand};
use super::plan::Step;
use super::run::{Run, StepFrame, bytes, empty_folder};
use super::said::{Message, Said};
use crate::git::{Extent, GitError, Progress, Report, Stage};
use crate::store::releases::ReleaseChange;

/// What goes to the servers.
#[derive(Clone, Debug)]
pub(super) struct Pack {
    pub(super) path: PathBuf,
    /// Its length in bytes.
    pub(super) length: u64,
    /// How many things that are no folders are in it.
    pub(super) entries: u64,
}

/// What a platform step leaves for the next ones.
#[derive(Default)]
pub(super) struct Made {
    pub(super) pack: Option<Pack>,
}

/// Runs one step of the platform's chain.
pub(super) fn act(
    run: &Run,
    step: Step,
    frame: &StepFrame<'_>,
    made: &mut Made,
) -> Result<Message, StepError> {
    let project = &run.spec.project;
    match step {
        Step::Start => start(run),
        Step::BeforeDownload => command(run, frame, &project.before_download),
        Step::Download => download(run, frame),
        Step::AfterDownload => command(run, frame, &project.after_download),
        Step::Compile if project.build.is_empty() => {
            Ok(Said::new("note.nothing_to_build", "nothing to build").into())
        }
        Step::Compile => command(run, frame, &project.build),
        Step::Zip => {
            let pack = zip(run, frame)?;
            let size = bytes(pack.length);
            let said = Said::new("note.packed", format!("{} files, {size}", pack.entries))
                .arg("count", pack.entries)
                .arg("size", size);
            made.pack = Some(pack);
            Ok(said.into())
        }
        Step::Upload | Step::BeforeDeploy | Step::Switch | Step::Restart | Step::AfterDeploy => {
            Ok(Message::default())
        }
    }
}

fn account(run: &Run) -> Result<Option<Account>, StepError> {
    run.options.run_as.as_deref().map(Account::find).transpose()
}

fn start(run: &Run) -> Result<Message, StepError> {
    empty_folder(&run.work)?;
    let tree = run.tree();
    empty_folder(&tree)?;
    if let Some(account) = account(run)? {
        // The tree alone: who owns the folder around it could put a link in the tree's place.
        give(&tree, &account)?;
    }
    Ok(Message::default())
}

/// Hands a tree to the account that builds in it.
fn give(path: &Path, account: &Account) -> Result<(), StepError> {
    std::os::unix::fs::lchown(path, Some(account.uid), Some(account.gid))
        .map_err(StepError::file(path))?;
    if path.is_dir() && !path.is_symlink() {
        for entry in std::fs::read_dir(path).map_err(StepError::file(path))? {
            give(&entry.map_err(StepError::file(path))?.path(), account)?;
        }
    }
    Ok(())
}

/// A hook or the build, in the work tree.
fn command(run: &Run, frame: &StepFrame<'_>, text: &str) -> Result<Message, StepError> {
    let account = account(run)?;
    let exit = local::run(
        &LocalCommand {
            text,
            folder: &run.tree(),
            variables: &run.variables(),
            account: account.as_ref(),
            time_limit: frame.command_limit(),
        },
        None,
        run.stop.cancel(),
        &mut |_, line| frame.line(line),
    )?;
    if exit.success() {
        Ok(Message::default())
    } else {
        Err(StepError::Command(exit))
    }
}

fn download(run: &Run, frame: &StepFrame<'_>) -> Result<Message, StepError> {
    let source = run.keyring.source(&run.spec.project)?;
    frame.line(&format!("fetching {}", source.url.as_str()));
    let mirror = run.mirrors.mirror(source);
    heard(frame, |report| mirror.fetch(report))?;
    let wanted = run
        .release
        .commit_id
        .as_deref()
        .unwrap_or(&run.release.revision);
    let (commit, was_deepened) = heard(frame, |report| mirror.find(wanted, report))?;
    if was_deepened {
        frame.line("it lies below the project's depth: the whole history was fetched");
    }
    let id = commit.id.to_string();
    run.set_commit(&id);
    run.recorder.release(&ReleaseChange {
        commit: Some((id.clone(), commit.summary.clone())),
        ..ReleaseChange::default()
    })?;
    frame.line(&format!(
        "{} is {id}: {}",
        run.release.revision, commit.summary
    ));
    let tree = run.tree();
    // What the hook before it left here is no part of the release.
    empty_folder(&tree)?;
    let files = heard(frame, |report| {
        mirror.tree(&commit.id, Extent::Released, report)
    })?;
    let done = heard(frame, |report| files.checkout(&tree, report))?;
    frame.line(&format!("{} files, {}", done.files, bytes(done.bytes)));
    for note in done.notes {
        frame.line(&note.to_string());
    }
    if let Some(account) = account(run)? {
        give(&tree, &account)?;
    }
    Ok(Message::Plain(id.chars().take(10).collect()))
}

/// Runs something of git's that tells how far it is: the node shows it, and a stop or the step's
/// time limit ends it.
fn heard<T>(
    frame: &StepFrame<'_>,
    work: impl FnOnce(Report<'_>) -> Result<T, GitError>,
) -> Result<T, StepError> {
    let mut ended = Ok(());
    let done = work(&mut |progress| {
        ended = frame.check();
        if ended.is_err() {
            return ControlFlow::Break(());
        }
        frame.progress(|| described(progress));
        ControlFlow::Continue(())
    });
    match done {
        Err(GitError::Cancelled) => Err(ended.err().unwrap_or(StepError::Stopped)),
        done => Ok(done?),
    }
}

fn described(progress: &Progress) -> String {
    match progress.stage {
        Stage::Receiving => format!(
            "{}/{} · {}",
            progress.objects,
            progress.total_objects,
            bytes(progress.bytes as u64)
        ),
        Stage::Writing => format!(
            "{}/{} · {}/{}",
            progress.objects,
            progress.total_objects,
            bytes(progress.bytes as u64),
            bytes(progress.total_bytes as u64)
        ),
        Stage::Listing => progress.objects.to_string(),
        Stage::Waiting | Stage::Connecting | Stage::Resolving => "…".to_owned(),
    }
}

/// Packs the work tree, once for all servers.
fn zip(run: &Run, frame: &StepFrame<'_>) -> Result<Pack, StepError> {
    let path = run.pack();
    let at = || StepError::file(&path);
    let file = File::create(&path).map_err(at())?;
    let zipped = GzEncoder::new(BufWriter::with_capacity(1 << 20, file), Compression::fast());
    let mut tar = tar::Builder::new(zipped);
    tar.follow_symlinks(false);
    let mut packer = Packer {
        tar,
        frame,
        entries: 0,
    };
    packer.folder(&run.tree(), Path::new(""))?;
    let entries = packer.entries;
    let mut file = packer
        .tar
        .into_inner()
        .and_then(GzEncoder::finish)
        .map_err(at())?;
    file.flush().map_err(at())?;
    let length = file.get_ref().metadata().map_err(at())?.len();
    Ok(Pack {
        path,
        length,
        entries,
    })
}

struct Packer<'a, W: Write> {
    tar: tar::Builder<W>,
    frame: &'a StepFrame<'a>,
    entries: u64,
}

impl<W: Write> Packer<'_, W> {
    /// Packs what is in `folder` as `name/…`, in the order of names, so that equal trees make equal
    /// packs. A `.git` at the top stays behind, and so do sockets, pipes and devices.
    fn folder(&mut self, folder: &Path, name: &Path) -> Result<(), StepError> {
        self.frame.check()?;
        let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
            .and_then(|entries| {
                entries
                    .map(|entry| entry.map(|entry| entry.path()))
                    .collect()
            })
            .map_err(StepError::file(folder))?;
        entries.sort();
        for path in entries {
            let Some(own_name) = path.file_name() else {
                continue;
            };
            let name = name.join(own_name);
            if name == Path::new(".git") {
                continue;
            }
            let kind = path
                .symlink_metadata()
                .map_err(StepError::file(&path))?
                .file_type();
            if kind.is_dir() {
                self.tar
                    .append_dir(&name, &path)
                    .map_err(StepError::file(&path))?;
                self.folder(&path, &name)?;
            } else if kind.is_file() || kind.is_symlink() {
                self.tar
                    .append_path_with_name(&path, &name)
                    .map_err(StepError::file(&path))?;
                self.entries += 1;
                if self.entries.is_multiple_of(256) {
                    self.frame.check()?;
                    self.frame.progress(|| self.entries.to_string());
                }
            } else {
                self.frame.line(&format!(
                    "left out, neither file nor link: {}",
                    name.display()
                ));
            }
        }
        Ok(())
    }
}

/// Makes the folder for work trees; only the platform and `run_as` can enter it.
pub(super) fn prepare_work_folder(path: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o711))
}
