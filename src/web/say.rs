//! Texts of the engine in the reader's language.

use crate::deploy::{Message, Said};
use crate::i18n::{self, Language};
use crate::store::releases::{Release, ReleaseRow};

fn catalogue(language: Language) -> impl Fn(&str, &[(&str, &str)]) -> Option<String> {
    // A key stored by a later version is missing in the catalogue.
    move |key, args| Some(i18n::text(language, key, args)).filter(|text| text != key)
}

/// A single text.
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

/// The stored message of a node or release.
pub fn stored(language: Language, text: &str) -> String {
    message(language, &Message::read(text))
}

/// A release in the API.
pub fn release(language: Language, mut release: Release) -> Release {
    release.message = stored(language, &release.message);
    release
}

/// A release in lists.
pub fn row(language: Language, mut row: ReleaseRow) -> ReleaseRow {
    row.release = release(language, row.release);
    row
}
