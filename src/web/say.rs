//! What the engine says, in the reader's language.

use crate::deploy::{Message, Said};
use crate::i18n::{self, Language};
use crate::store::releases::{Release, ReleaseRow};

fn catalogue(language: Language) -> impl Fn(&str, &[(&str, &str)]) -> Option<String> {
    // A key that a later version stored is in no catalogue of ours.
    move |key, args| Some(i18n::text(language, key, args)).filter(|text| text != key)
}

/// One thing said.
pub fn said(language: Language, said: &Said) -> String {
    match language {
        Language::English => said.english().to_owned(),
        Language::Chinese => said.told(&catalogue(language)),
    }
}

/// A message.
pub fn message(language: Language, message: &Message) -> String {
    match language {
        Language::English => message.english(),
        Language::Chinese => message.told(&catalogue(language)),
    }
}

/// The message of a node or a release as it is stored.
pub fn stored(language: Language, text: &str) -> String {
    message(language, &Message::read(text))
}

/// A release as the API gives it.
pub fn release(language: Language, mut release: Release) -> Release {
    release.message = stored(language, &release.message);
    release
}

/// A release as lists show it.
pub fn row(language: Language, mut row: ReleaseRow) -> ReleaseRow {
    row.release = release(language, row.release);
    row
}
