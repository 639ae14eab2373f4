//! The steps on the platform: fetch and check out, build, list the files for the servers.

use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::build_cache;
use super::error::StepError;
use super::hook::Hook;
use super::local::{self, Account, Confinement, LocalCommand};
use super::plan::Step;
use super::recorder;
use super::run::{Run, StepFrame, bytes, empty_folder};
use super::said::{Message, Said};
use super::transfer::{Shipment, Source, Watch};
use crate::git::{CommitId, Extent, GitError, Progress, Report, Stage};
use crate::sandbox::Rooms;
use crate::store::Moment;
use crate::store::releases::ReleaseChange;

/// The result of a platform step for later steps.
#[derive(Default)]
pub(super) struct Made {
    pub(super) shipment: Option<Shipment>,
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
            let shipment = zip(run, frame)?;
            let (count, size) = (shipment.files(), bytes(shipment.bytes()));
            let said = Said::new("note.packed", format!("{count} files, {size}"))
                .arg("count", count)
                .arg("size", size);
            made.shipment = Some(shipment);
            Ok(said.into())
        }
        Step::Upload
        | Step::BeforeDeploy
        | Step::Switch
        | Step::Restart
        | Step::Health
        | Step::AfterDeploy => Ok(Message::default()),
    }
}

fn account(run: &Run) -> Result<Option<Account>, StepError> {
    run.options.run_as.as_deref().map(Account::find).transpose()
}

fn start(run: &Run) -> Result<Message, StepError> {
    empty_folder(&run.work)?;
    // Only the folders inside: an owner of the folder around them could replace them with a link.
    for folder in [run.tree(), run.temporary()] {
        empty_folder(&folder)?;
        give(&folder, owner(run)?)?;
    }
    Ok(Message::default())
}

/// The owner of the files that commands work on. `None`: the platform's account.
fn owner(run: &Run) -> Result<Option<(u32, u32)>, StepError> {
    let identity = account(run)?.map(|account| account.identity());
    Ok(run.options.sandbox.owner(identity.as_ref()))
}

/// Gives a tree to the account that builds in it.
fn give(path: &Path, owner: Option<(u32, u32)>) -> Result<(), StepError> {
    let Some((uid, gid)) = owner else {
        return Ok(());
    };
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).map_err(StepError::file(path))?;
    if path.is_dir() && !path.is_symlink() {
        for entry in std::fs::read_dir(path).map_err(StepError::file(path))? {
            give(&entry.map_err(StepError::file(path))?.path(), owner)?;
        }
    }
    Ok(())
}

/// Runs a hook or the build in the work tree.
fn command(run: &Run, frame: &StepFrame<'_>, text: &str) -> Result<Message, StepError> {
    let account = account(run)?;
    let options = &run.options;
    let caches = &options.caches;
    let cache = build_cache::open(caches, run.spec.project.id, owner(run)?)
        .map_err(StepError::file(caches))?;
    let (tree, temporary) = (run.tree(), run.temporary());
    let rooms = Rooms {
        tree: &tree,
        cache: &cache.home,
        temporary: &temporary,
    };
    if !options.sandbox.isolation().confines() {
        let reason = options.sandbox.refusal().unwrap_or("build_sandbox is off");
        frame.line(&format!(
            "this command runs without a full sandbox: {reason}"
        ));
    }
    let exit = local::run(
        &LocalCommand {
            text: &Hook::of(&run.spec.project, text).local_script(),
            folder: &tree,
            variables: &run.variables(),
            account: account.as_ref(),
            confinement: Some(Confinement {
                sandbox: &options.sandbox,
                rooms,
            }),
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
    let fetched_at = mirror.fetched_at().map(Moment::of_system);
    recorder::announce_refs(&run.keyring.store, [&run.spec.project.id], fetched_at, true)?;
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
    let summary = Message::Plain(id.chars().take(10).collect());
    let files = heard(frame, |report| {
        mirror.tree(&commit.id, Extent::Released, report)
    })?;
    if run.spec.project.is_released_as_committed() {
        frame.line(&format!(
            "{} files, {}",
            files.files(),
            bytes(files.bytes())
        ));
        for note in heard(frame, |report| files.told(report))? {
            frame.line(&note.to_string());
        }
        return Ok(summary);
    }
    let tree = run.tree();
    // Files of the hook before this step are not part of the release.
    empty_folder(&tree)?;
    let done = heard(frame, |report| files.checkout(&tree, report))?;
    frame.line(&format!("{} files, {}", done.files, bytes(done.bytes)));
    for note in done.notes {
        frame.line(&note.to_string());
    }
    give(&tree, owner(run)?)?;
    Ok(summary)
}

/// Runs a git operation that reports progress. The node shows it, and a stop or the step's time limit
/// ends it.
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

/// Lists and checksums the files for the servers.
fn zip(run: &Run, frame: &StepFrame<'_>) -> Result<Shipment, StepError> {
    let source = match run.commit() {
        Some(commit) if run.spec.project.is_released_as_committed() => Source::Commit {
            mirror: Box::new(run.mirrors.mirror(run.keyring.source(&run.spec.project)?)),
            commit: CommitId::parse(&commit)?,
        },
        _ => Source::Folder(run.tree()),
    };
    let watch = Watch {
        going: &|files| {
            frame.check()?;
            frame.progress(|| files.to_string());
            Ok(())
        },
        left_out: &|name| {
            let name = name.display();
            frame.line(&format!("left out, neither file nor link: {name}"));
        },
    };
    let manifests = &run.options.manifests;
    Shipment::prepare(
        run.release.id,
        &run.spec,
        source,
        manifests,
        &run.work,
        run.owner.clone(),
        &watch,
    )
}

/// Makes the folder for work trees. Mode 0711: only its owner can list it, others can enter a known
/// path.
///
/// # Errors
/// Those of the file system.
pub(super) fn prepare_work_folder(path: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o711))
}
