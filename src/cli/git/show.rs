//! Output of `longshore git`: results on standard output, everything else on standard error.

use std::io::{self, IsTerminal as _, Write as _};
use std::ops::ControlFlow;

use serde::Serialize;

use crate::cli::CliError;
use crate::cli::accounts::say;
use crate::git::{Commit, Note, Progress, Ref, Refs, Report, Stage};

/// Runs work that reports its progress, and shows it if standard error is a terminal.
pub(super) fn progress<T, E>(work: impl FnOnce(Report<'_>) -> Result<T, E>) -> Result<T, E> {
    let mut shown = 0;
    let is_seen = io::stderr().is_terminal();
    let result = work(&mut |progress| {
        if is_seen {
            let line = described(progress);
            // The padding erases a longer line before it.
            eprint!("\r{line:shown$}");
            let _ = io::stderr().flush();
            shown = line.chars().count();
        }
        ControlFlow::Continue(())
    });
    if shown > 0 {
        eprint!("\r{:shown$}\r", "");
    }
    result
}

fn described(progress: &Progress) -> String {
    let Progress {
        objects,
        total_objects,
        bytes,
        ..
    } = progress;
    match progress.stage {
        Stage::Waiting => "waiting for another fetch".to_owned(),
        Stage::Connecting => "connecting".to_owned(),
        Stage::Receiving => format!("receiving {objects}/{total_objects}, {} KiB", bytes >> 10),
        Stage::Resolving => format!("putting {total_objects} objects together"),
        Stage::Listing => format!("listing {objects} files"),
        Stage::Writing => format!("writing {objects}/{total_objects}, {} KiB", bytes >> 10),
    }
}

/// Prints one line on standard error.
pub(super) fn aside(line: &str) {
    eprintln!("{line}");
}

/// Prints the refs that are not listed.
pub(super) fn left_out(refs: &Refs) {
    for name in &refs.left_out {
        aside(&format!("{}: left out, its name is not UTF-8", plain(name)));
    }
}

pub(super) fn notes(notes: &[Note]) -> Result<(), CliError> {
    for note in notes {
        aside(&note.to_string());
    }
    Ok(())
}

/// A commit on one line.
pub(super) fn line(commit: &Commit) -> String {
    let Commit {
        commit,
        author,
        summary,
        date,
        ..
    } = commit;
    format!("{commit}  {date}  {}  {}", plain(author), plain(summary))
}

/// Replaces control characters, so that foreign text cannot control the terminal.
fn plain(text: &str) -> String {
    let hidden = |letter: char| letter.is_control() || ('\u{202a}'..='\u{202e}').contains(&letter);
    text.chars()
        .map(|letter| if hidden(letter) { ' ' } else { letter })
        .collect()
}

pub(super) fn refs(refs: &[Ref], json: bool) -> Result<(), CliError> {
    if json {
        return as_json(refs);
    }
    refs.iter()
        .try_for_each(|one| say(&format!("{}  {}", one.commit, plain(&one.name))))
}

pub(super) fn commits(commits: &[Commit], json: bool) -> Result<(), CliError> {
    if json {
        return as_json(commits);
    }
    commits.iter().try_for_each(|commit| say(&line(commit)))
}

fn as_json<T: Serialize + ?Sized>(value: &T) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(io::Error::other)
        .map_err(CliError::io("standard output"))?;
    say(&text)
}
