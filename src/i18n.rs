//! The Chinese and English catalogues, and the reader's choice between them.
//!
//! A catalogue is a flat JSON object from key to text; `{name}` in a text is a placeholder. Both are
//! embedded. The web module registers [`text`] as the template function `t`, and
//! [`script_catalogue`] as `script_text`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

type Catalogue = BTreeMap<String, String>;

static ENGLISH: LazyLock<Catalogue> = LazyLock::new(|| parse(include_str!("i18n/en.json")));
static CHINESE: LazyLock<Catalogue> = LazyLock::new(|| parse(include_str!("i18n/zh-CN.json")));

/// Prefixes of the keys that the browser's scripts may use.
const SCRIPT_PREFIXES: [&str; 2] = ["js.", "state."];

/// A language that the reader may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    /// English, code `en`; the default for readers who ask for neither.
    English,
    /// Simplified Chinese, code `zh-CN`.
    Chinese,
}

impl Language {
    /// All languages, in the order of the switch on the page.
    pub const ALL: [Language; 2] = [Language::Chinese, Language::English];

    /// Chooses a language: the value of the cookie `lang` if it names one, else the best match of
    /// the `Accept-Language` header by its weights (RFC 9110 section 12.5.4), else English.
    /// Any tag that begins with `zh` means Chinese.
    pub fn negotiate(cookie: Option<&str>, accept_language: Option<&str>) -> Language {
        if let Some(chosen) = cookie.and_then(Language::from_tag) {
            return chosen;
        }
        let mut best: Option<(f32, Language)> = None;
        for range in accept_language.unwrap_or_default().split(',') {
            let mut parts = range.split(';');
            let language = parts.next().and_then(Language::from_tag);
            let weight = parts
                .find_map(|part| part.trim().strip_prefix("q="))
                .map_or(1.0, |q| q.trim().parse().unwrap_or(0.0));
            if let Some(language) = language
                && weight > best.map_or(0.0, |(heaviest, _)| heaviest)
            {
                best = Some((weight, language));
            }
        }
        best.map_or(Language::English, |(_, language)| language)
    }

    /// The code for `<html lang>` and for the cookie `lang`.
    pub fn code(self) -> &'static str {
        match self {
            Language::English => "en",
            Language::Chinese => "zh-CN",
        }
    }

    /// Parses a language tag such as `zh-Hans-CN` or `en-GB`; `None` for other languages.
    pub fn from_tag(tag: &str) -> Option<Language> {
        match tag
            .trim()
            .split(['-', '_'])
            .next()?
            .to_ascii_lowercase()
            .as_str()
        {
            "zh" => Some(Language::Chinese),
            "en" => Some(Language::English),
            _ => None,
        }
    }

    fn catalogue(self) -> &'static Catalogue {
        match self {
            Language::English => &ENGLISH,
            Language::Chinese => &CHINESE,
        }
    }
}

/// The text of `key` in `language`, its placeholders filled from `args`. A missing key returns the key
/// itself; a placeholder without a value stays unchanged. The result is plain text, not HTML.
pub fn text(language: Language, key: &str, args: &[(&str, &str)]) -> String {
    match language.catalogue().get(key) {
        Some(text) => fill(text, args),
        None => key.to_owned(),
    }
}

/// The texts that the browser's scripts use, to be embedded in each page as JSON.
pub fn script_catalogue(language: Language) -> BTreeMap<&'static str, &'static str> {
    let wanted = |key: &str| SCRIPT_PREFIXES.iter().any(|prefix| key.starts_with(prefix));
    language
        .catalogue()
        .iter()
        .filter(|(key, _)| wanted(key))
        .map(|(key, text)| (key.as_str(), text.as_str()))
        .collect()
}

/// Fills `{name}` placeholders in one pass, so that a value that contains `{…}` is left alone.
fn fill(text: &str, args: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let Some(close) = rest[open..].find('}').map(|length| open + length) else {
            break;
        };
        let name = &rest[open + 1..close];
        filled.push_str(&rest[..open]);
        match args.iter().find(|(key, _)| *key == name) {
            Some((_, value)) => filled.push_str(value),
            None => filled.push_str(&rest[open..=close]),
        }
        rest = &rest[close + 1..];
    }
    filled.push_str(rest);
    filled
}

/// An embedded catalogue that does not parse is empty (every text shows its key); the tests below
/// prevent such a release.
fn parse(json: &str) -> Catalogue {
    serde_json::from_str(json).unwrap_or_default()
}

#[cfg(test)]
mod tests;
