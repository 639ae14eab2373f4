//! `longshore git`: the platform's work with repositories from a shell, by the same rules.

mod login;
mod places;
mod show;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use flate2::Compression;
use flate2::write::GzEncoder;

use self::places::{Access, Opened};
use super::CliError;
use super::accounts::say;
use crate::git::{
    Checkout, Extent, GitError, Mirror, Pulled, WorkCopy, WorkCopyError, check_revision, host_key,
};

#[derive(Debug, Subcommand)]
pub(super) enum GitCommand {
    /// Clone a repository into a folder, as a work copy with `.git` that git itself can use too.
    Clone {
        /// The repository's address: https, ssh (`user@host:path` as well) or git.
        url: String,
        /// The folder, which has to be empty or absent.
        folder: PathBuf,
        /// The branch, tag or commit to check out; by default the host's default branch.
        #[arg(long = "ref", value_name = "REF")]
        revision: Option<String>,
        #[command(flatten)]
        access: Access,
    },
    /// Bring a work copy up to date: fetch, then fast-forward its branch.
    Pull {
        /// The work copy.
        folder: PathBuf,
        #[command(flatten)]
        access: Access,
    },
    /// List the branches of a repository.
    Branches(Listed),
    /// List the tags of a repository.
    Tags(Listed),
    /// List the last commits of a branch, a tag or a commit.
    Commits {
        #[command(flatten)]
        listed: Listed,
        /// The branch, tag or commit; by default what is checked out or the host's default branch.
        #[arg(long = "ref", value_name = "REF")]
        revision: Option<String>,
        /// The number of commits.
        #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
        number: usize,
    },
    /// Switch a work copy to a branch, a tag or a commit; or write its files into a folder.
    Checkout {
        /// The work copy; with --into any repository's address or folder.
        source: String,
        /// The branch, tag or commit.
        revision: String,
        /// Write the files into this folder, without `.git`; it has to be empty or absent.
        #[arg(long, value_name = "DIR")]
        into: Option<PathBuf>,
        #[command(flatten)]
        access: Access,
    },
    /// Move a work copy and its branch to a commit. Changes to its files are lost.
    Reset {
        /// The work copy.
        folder: PathBuf,
        /// The commit, or a branch or tag.
        commit: String,
        /// Switch to this branch first.
        #[arg(long, value_name = "BRANCH")]
        branch: Option<String>,
        #[command(flatten)]
        access: Access,
    },
    /// Pack the released files of a commit, without those marked `export-ignore`.
    Archive {
        /// The repository's address or folder.
        source: String,
        /// The branch, tag or commit.
        revision: String,
        /// The file: .tar, .tar.gz or .tgz; `-` is standard output, as tar.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// A folder that everything is put in, such as `app-1.0/`.
        #[arg(long, value_name = "DIR", default_value = "")]
        prefix: String,
        #[command(flatten)]
        access: Access,
    },
    /// Show the ssh key of a git host, to be given as --host-key once it is verified.
    HostKey {
        /// The repository's ssh address.
        url: String,
        #[command(flatten)]
        access: Access,
    },
}

#[derive(Debug, Args)]
pub(super) struct Listed {
    /// The repository's address or folder.
    source: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: Access,
}

impl GitCommand {
    fn access(&self) -> &Access {
        match self {
            Self::Branches(listed) | Self::Tags(listed) | Self::Commits { listed, .. } => {
                &listed.access
            }
            Self::Clone { access, .. }
            | Self::Pull { access, .. }
            | Self::Checkout { access, .. }
            | Self::Reset { access, .. }
            | Self::Archive { access, .. }
            | Self::HostKey { access, .. } => access,
        }
    }
}

pub(super) fn run(command: GitCommand) -> Result<(), CliError> {
    let options = command.access().options()?;
    match command {
        GitCommand::Clone {
            url,
            folder,
            revision,
            access,
        } => {
            let source = access.source(&url, &options)?;
            let copy = show::progress(|report| {
                WorkCopy::clone(&source, &options, &folder, revision.as_deref(), report)
            })?;
            match copy.reading().head() {
                Ok(commit) => say(&format!("{}: {}", folder.display(), show::line(&commit))),
                Err(_) => say(&format!("{}: the repository is empty", folder.display())),
            }
        }
        GitCommand::Pull { folder, access } => {
            let copy = WorkCopy::open(&folder, &options)?;
            let source = access.source(&copy.origin()?, &options)?;
            let pulled = show::progress(|report| copy.pull(&source, &options, report))?;
            say(&match pulled {
                Pulled::Forward { branch, now } => format!("{branch}: {}", show::line(&now)),
                Pulled::UpToDate { branch } => format!("{branch}: up to date"),
                Pulled::Detached => "fetched; no branch is checked out".to_owned(),
            })
        }
        GitCommand::Branches(listed) => {
            let refs = listed.access.open(&listed.source, &options)?.0.refs()?;
            show::left_out(&refs);
            show::refs(&refs.branches, listed.json)
        }
        GitCommand::Tags(listed) => {
            let refs = listed.access.open(&listed.source, &options)?.0.refs()?;
            show::left_out(&refs);
            show::refs(&refs.tags, listed.json)
        }
        GitCommand::Commits {
            listed,
            revision,
            number,
        } => {
            checked(revision.as_deref())?;
            let opened = listed.access.open(&listed.source, &options)?;
            let start = match revision {
                Some(revision) => opened.find(&revision)?,
                None => opened.0.head()?,
            };
            let commits = opened.0.commits(&start.id.to_string(), number)?;
            show::commits(&commits, listed.json)
        }
        GitCommand::Checkout {
            source,
            revision,
            into: Some(into),
            access,
        } => {
            checked(Some(&revision))?;
            let opened = access.open(&source, &options)?;
            let commit = opened.find(&revision)?;
            let tree = show::progress(|report| opened.0.tree(&commit.id, Extent::Whole, report))?;
            let done = show::progress(|report| tree.checkout(&into, report))?;
            written(&into, &done)
        }
        GitCommand::Checkout {
            source, revision, ..
        } => {
            let copy = WorkCopy::open(Path::new(&source), &options)?;
            let commit = show::progress(|report| copy.checkout(&revision, report))?;
            say(&format!("{revision}: {}", show::line(&commit)))
        }
        GitCommand::Reset {
            folder,
            commit,
            branch,
            ..
        } => {
            let copy = WorkCopy::open(&folder, &options)?;
            checked(Some(&commit))?;
            if let Some(branch) = branch {
                show::progress(|report| copy.checkout(&branch, report))?;
            }
            let commit = show::progress(|report| copy.reset(&commit, report))?;
            say(&format!("now at {}", show::line(&commit)))
        }
        GitCommand::Archive {
            source,
            revision,
            output,
            prefix,
            access,
        } => {
            checked(Some(&revision))?;
            let opened = access.open(&source, &options)?;
            archive(&opened, &revision, &prefix, &output)
        }
        GitCommand::HostKey { url, access } => {
            let source = access.source(&url, &options)?;
            let key = host_key(&source.url, &options.policy, options.stall_timeout)?;
            say(&format!("{} {}", key.kind, key.fingerprint))
        }
    }
}

/// Rejects text that cannot be a revision before anything is opened.
fn checked(revision: Option<&str>) -> Result<(), GitError> {
    revision.map_or(Ok(()), check_revision)
}

fn archive(opened: &Opened, revision: &str, prefix: &str, output: &Path) -> Result<(), CliError> {
    let commit = opened.find(revision)?;
    let tree = show::progress(|report| opened.0.tree(&commit.id, Extent::Released, report))?;
    if output == Path::new("-") {
        let out = BufWriter::new(io::stdout().lock());
        let done = show::progress(|report| tree.archive(prefix, out, report))?;
        return show::notes(&done.notes);
    }
    let at = || CliError::io(output.display().to_string());
    // An existing file stays until the new one is complete.
    let mut name = output.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    let file = BufWriter::with_capacity(1 << 20, File::create(&part).map_err(at())?);
    let is_packed = ["gz", "tgz"]
        .iter()
        .any(|ending| output.extension().is_some_and(|found| found == *ending));
    let packed = show::progress(|report| match is_packed {
        true => {
            let mut out = GzEncoder::new(file, Compression::default());
            let done = tree.archive(prefix, &mut out, report)?;
            let finished = out.finish().and_then(|mut file| file.flush());
            finished.map(|()| done).map_err(|cause| GitError::Archive {
                commit: commit.id.to_string(),
                cause,
            })
        }
        false => tree.archive(prefix, file, report),
    });
    match packed {
        Ok(done) => {
            std::fs::rename(&part, output).map_err(at())?;
            written(output, &done)
        }
        Err(error) => {
            // The first error is the one reported.
            let _ = std::fs::remove_file(&part);
            Err(error.into())
        }
    }
}

fn written(place: &Path, done: &Checkout) -> Result<(), CliError> {
    show::notes(&done.notes)?;
    say(&format!(
        "{}: {} files, {} bytes",
        place.display(),
        done.files,
        done.bytes
    ))
}

/// True if the error is about the request itself, not about its execution.
pub(super) fn is_refusal(error: &GitError) -> bool {
    matches!(
        error,
        GitError::Url(_) | GitError::InvalidRevision { .. } | GitError::UnfitCredential { .. }
    )
}

/// [`is_refusal`] for work copies.
pub(super) fn is_copy_refusal(error: &WorkCopyError) -> bool {
    matches!(error, WorkCopyError::Git(error) if is_refusal(error))
}

impl Opened {
    /// The commit that `revision` names; fetches the whole history if needed.
    fn find(&self, revision: &str) -> Result<crate::git::Commit, GitError> {
        let mirror: &Mirror = &self.0;
        if self.1 {
            return mirror.resolve(revision);
        }
        let (commit, was_deepened) = show::progress(|report| mirror.find(revision, report))?;
        if was_deepened {
            show::aside("it lies below the depth: the whole history was fetched");
        }
        Ok(commit)
    }
}
