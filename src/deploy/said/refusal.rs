//! Refusals of the platform's scripts: a word and its details, which the script prints as its last
//! line of errors.

use std::fmt;

/// The start of such a line. The word and the details follow, each after a tab.
pub(in crate::deploy) const MARK: &str = "longshore-refused";

/// The length of a detail in the node's message, in characters.
const LONGEST_DETAIL: usize = 500;

/// A word, the names of its details in the order of the scripts, and the English text.
type Word = (&'static str, &'static [&'static str], &'static str);

pub(in crate::deploy) const NOT_A_LINK: Word = (
    "not_a_link",
    &["path"],
    "{path} is there and is not a link; move it away first",
);
pub(in crate::deploy) const FOREIGN_RELEASE: Word = (
    "foreign_release",
    &["path", "release"],
    "{path} is a release {release} already, of another installation; move it away first",
);
pub(in crate::deploy) const DAMAGED: Word = (
    "damaged",
    &["path", "reason"],
    "what arrived in {path} is not what was sent: {reason}",
);
pub(in crate::deploy) const RELEASE_GONE: Word = (
    "release_gone",
    &["release"],
    "release {release} is not on this server any more",
);
pub(in crate::deploy) const NOT_REPLACED: Word =
    ("not_replaced", &["path"], "{path} cannot be replaced");
/// The refusal of a script that was frozen and continues after its release is over.
const OVERTAKEN: Word = (
    "overtaken",
    &["path"],
    "another release has taken its turn to replace {path} meanwhile",
);
pub(in crate::deploy) const TOOL_MISSING: Word =
    ("tool_missing", &["tool"], "{tool} is not installed");
pub(in crate::deploy) const ROOT_NOT_MADE: Word = (
    "root_not_made",
    &["path"],
    "the folder {path} is not there and cannot be made",
);
/// Never printed by a script: without a shell there is none.
pub(in crate::deploy) const NO_COMMANDS: Word = (
    "no_commands",
    &[],
    "the server runs no commands, so the project's hooks, restart command and health check cannot run there",
);
/// A script could not build the release from the files of an earlier one.
const DELTA_FAILED: Word = (
    "delta_failed",
    &["release", "reason"],
    "the files of release {release} on this server are not what they were, so all files are sent: {reason}",
);

/// A script could not reuse the folder of the release that was removed last.
const SPARE_FAILED: Word = (
    "spare_failed",
    &["release", "reason"],
    "the folder of release {release} cannot be used again, so a new one is made: {reason}",
);

const WORDS: [Word; 17] = [
    NOT_A_LINK,
    (
        "releases_not_made",
        &["path", "reason"],
        "the folder {path} cannot be made or written: {reason}",
    ),
    (
        "releases_not_written",
        &["path", "reason"],
        "the folder {path} cannot be written: {reason}",
    ),
    FOREIGN_RELEASE,
    (
        "not_unpacked",
        &["path", "reason"],
        "the files could not be unpacked in {path}: {reason}",
    ),
    (
        "disk_full",
        &["path", "reason"],
        "{path}: the disk is full ({reason})",
    ),
    (
        "incomplete",
        &["path", "reason"],
        "not all files arrived in {path}: {reason}",
    ),
    DAMAGED,
    DELTA_FAILED,
    SPARE_FAILED,
    RELEASE_GONE,
    NOT_REPLACED,
    ("folder_gone", &["path"], "the folder {path} is not there"),
    TOOL_MISSING,
    ROOT_NOT_MADE,
    NO_COMMANDS,
    OVERTAKEN,
];

/// A script's refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::deploy) struct Refusal {
    word: &'static str,
    names: &'static [&'static str],
    english: &'static str,
    values: Vec<String>,
}

impl Refusal {
    /// Reads a script's line. `None` if it is not a refusal.
    pub(in crate::deploy) fn read(line: &str) -> Option<Self> {
        let mut parts = line.strip_prefix(MARK)?.split('\t').skip(1);
        let word = parts.next()?;
        let word = WORDS.into_iter().find(|(ours, ..)| *ours == word)?;
        Some(Self::of(word, &parts.collect::<Vec<_>>()))
    }

    /// A refusal that is made here instead of read from a script.
    pub(in crate::deploy) fn of((word, names, english): Word, values: &[&str]) -> Self {
        let shortened = |part: &&str| part.chars().take(LONGEST_DETAIL).collect();
        let mut values: Vec<String> = values.iter().map(shortened).collect();
        values.resize(names.len(), String::new());
        Self {
            word,
            names,
            english,
            values,
        }
    }

    /// True if sending all files may help.
    pub(in crate::deploy) fn is_of_a_delta(&self) -> bool {
        self.word == DELTA_FAILED.0
    }

    /// True if a new folder may help.
    pub(in crate::deploy) fn is_of_a_spare(&self) -> bool {
        self.word == SPARE_FAILED.0
    }

    pub(super) fn word(&self) -> &'static str {
        self.word
    }

    /// The details with their names.
    pub(super) fn details(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.names
            .iter()
            .copied()
            .zip(self.values.iter().map(String::as_str))
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.english;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').unwrap_or((after, ""));
            let value = self.details().find(|(known, _)| *known == name);
            formatter.write_str(before)?;
            formatter.write_str(value.map_or("", |(_, value)| value))?;
            rest = after;
        }
        formatter.write_str(rest)
    }
}

#[cfg(test)]
impl Refusal {
    /// A refusal of every word.
    pub(in crate::deploy) fn samples() -> Vec<Self> {
        WORDS
            .iter()
            .map(|(word, names, _)| {
                let details: String = names.iter().map(|name| format!("\tthe {name}")).collect();
                Self::read(&format!("{MARK}\t{word}{details}")).unwrap()
            })
            .collect()
    }
}
