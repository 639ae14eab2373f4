//! What the engine says to people: why a node or a release failed, what a check found.
//!
//! It is kept as a key of the catalogues with its arguments, so that every reader gets it in their
//! own language, beside its English text, which the log and the wire carry. Stored as JSON in the
//! `message` columns; what is stored there and is no such JSON is shown as it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod failure;
mod git;
mod reason;
pub(super) mod refusal;
mod ssh;
#[cfg(test)]
mod tests;

/// Gives the catalogue's text of a key, its placeholders filled; none where it has no such key.
pub type Tell<'a> = &'a dyn Fn(&str, &[(&str, &str)]) -> Option<String>;

/// One thing said: `{"key":"failure.command","args":{…},"text":"the command ended with …"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// Its text in the catalogues.
    key: String,
    /// What the placeholders stand for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    args: BTreeMap<String, Arg>,
    /// It in English.
    text: String,
}

/// What a placeholder stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Arg {
    /// A name, a number, or words that are not ours: the same in every language.
    Text(String),
    /// Our own words.
    Said(Said),
}

impl Said {
    pub(super) fn new(key: &str, text: impl ToString) -> Self {
        Self {
            key: key.to_owned(),
            args: BTreeMap::new(),
            text: text.to_string(),
        }
    }

    pub(super) fn arg(self, name: &str, value: impl ToString) -> Self {
        self.with(name, Arg::Text(value.to_string()))
    }

    fn said(self, name: &str, value: impl Into<Self>) -> Self {
        self.with(name, Arg::Said(value.into()))
    }

    fn with(mut self, name: &str, value: Arg) -> Self {
        self.args.insert(name.to_owned(), value);
        self
    }

    /// A reason that git or ssh gives: in our words where they are ours, else as it is.
    pub fn of_reason(text: &str) -> Self {
        match reason::reason(text) {
            Arg::Said(said) => said,
            Arg::Text(text) => Self::new("failure.other", &text).arg("cause", &text),
        }
    }

    /// It in English.
    pub fn english(&self) -> &str {
        &self.text
    }

    /// It in the language of `tell`'s catalogue; in English where that lacks it.
    pub fn told(&self, tell: Tell<'_>) -> String {
        let args: Vec<(&str, String)> = self
            .args
            .iter()
            .map(|(name, value)| (name.as_str(), value.told(tell)))
            .collect();
        let args: Vec<(&str, &str)> = args
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        tell(&self.key, &args).unwrap_or_else(|| self.text.clone())
    }
}

impl Arg {
    fn told(&self, tell: Tell<'_>) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Said(said) => said.told(tell),
        }
    }

    fn english(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Said(said) => said.english(),
        }
    }
}

/// Why a release is not `succeeded`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Causes {
    causes: Vec<Cause>,
    /// How many more there are.
    #[serde(default)]
    more: usize,
}

/// Why nodes of one step are not `succeeded`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Cause {
    /// The servers' names; none: the platform.
    #[serde(default)]
    servers: Vec<String>,
    /// How many servers there are beside those that are named.
    #[serde(default)]
    unnamed: usize,
    /// The step's id.
    step: String,
    cause: Arg,
}

impl Cause {
    /// Where it was: `web-1, web-2 (+3)`.
    fn place(&self) -> Option<String> {
        let names = self.servers.join(", ");
        match (self.servers.is_empty(), self.unnamed) {
            (true, _) => None,
            (false, 0) => Some(names),
            (false, more) => Some(format!("{names} (+{more})")),
        }
    }
}

impl Causes {
    /// Adds what the node of `step` said. Servers that say the same are told together; at most `most`
    /// causes, and as many servers of each, are told by name.
    pub(super) fn add(&mut self, server: Option<&str>, step: &str, message: Message, most: usize) {
        let cause = match message {
            Message::Said(said) => Arg::Said(said),
            other => Arg::Text(other.english()),
        };
        let is_full = self.causes.len() >= most;
        let mut told = self.causes.iter_mut();
        let same = told.find(|told| {
            server.is_some() && !told.servers.is_empty() && told.step == step && told.cause == cause
        });
        match (same, server) {
            (Some(same), Some(server)) if same.servers.len() < most => {
                same.servers.push(server.to_owned());
            }
            (Some(same), _) => same.unnamed += 1,
            (None, _) if is_full => self.more += 1,
            (None, _) => self.causes.push(Cause {
                servers: server.map(str::to_owned).into_iter().collect(),
                unnamed: 0,
                step: step.to_owned(),
                cause,
            }),
        }
    }

    fn english(&self) -> String {
        let mut parts: Vec<String> = self
            .causes
            .iter()
            .map(
                |cause| match (cause.place(), &cause.step, cause.cause.english()) {
                    (Some(place), step, why) => format!("{place}: {step}: {why}"),
                    (None, step, why) => format!("{step}: {why}"),
                },
            )
            .collect();
        if self.more > 0 {
            parts.push(format!("and {} more", self.more));
        }
        parts.join("; ")
    }

    fn told(&self, tell: Tell<'_>) -> Option<String> {
        let mut parts = Vec::new();
        for told in &self.causes {
            let (place, step) = (told.place(), &told.step);
            let step = tell(&format!("failure.step.{step}"), &[]).unwrap_or_else(|| step.clone());
            let cause = told.cause.told(tell);
            let mut args = vec![("step", step.as_str()), ("cause", cause.as_str())];
            let key = match &place {
                Some(place) => {
                    args.push(("server", place));
                    "failure.cause_on_server"
                }
                None => "failure.cause",
            };
            parts.push(tell(key, &args)?);
        }
        if self.more > 0 {
            let count = self.more.to_string();
            parts.push(tell("failure.more", &[("count", &count)])?);
        }
        Some(parts.join(&tell("failure.separator", &[])?))
    }
}

/// The message of a node, a release or a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The same text for every reader, or none.
    Plain(String),
    /// A sentence of the catalogues.
    Said(Said),
    /// What each of several nodes said.
    Causes(Causes),
}

impl Default for Message {
    fn default() -> Self {
        Self::Plain(String::new())
    }
}

impl<T: Into<Said>> From<T> for Message {
    fn from(said: T) -> Self {
        Self::Said(said.into())
    }
}

impl Message {
    /// The platform ended while it worked on this.
    pub(super) fn platform_stopped() -> Self {
        Said::new("failure.platform_stopped", "the platform was stopped").into()
    }

    /// The platform itself failed, which is not the release's fault.
    pub(super) fn platform_failed() -> Self {
        let text = "the platform failed; its own log says why";
        Said::new("failure.platform_failed", text).into()
    }

    /// As it was stored.
    pub fn read(stored: &str) -> Self {
        let json = || serde_json::from_str(stored).map(Self::Said);
        let causes = || serde_json::from_str(stored).map(Self::Causes);
        match stored.starts_with('{') {
            true => json().or_else(|_| causes()).ok(),
            false => None,
        }
        .unwrap_or_else(|| Self::Plain(stored.to_owned()))
    }

    /// As it is stored.
    pub(super) fn stored(&self) -> String {
        let json = match self {
            Self::Plain(text) => return text.clone(),
            Self::Said(said) => serde_json::to_string(said),
            Self::Causes(causes) => serde_json::to_string(causes),
        };
        json.unwrap_or_else(|_| self.english())
    }

    /// It in English.
    pub fn english(&self) -> String {
        match self {
            Self::Plain(text) => text.clone(),
            Self::Said(said) => said.text.clone(),
            Self::Causes(causes) => causes.english(),
        }
    }

    /// It in the language of `tell`'s catalogue; in English where that lacks it.
    pub fn told(&self, tell: Tell<'_>) -> String {
        match self {
            Self::Plain(text) => text.clone(),
            Self::Said(said) => said.told(tell),
            Self::Causes(causes) => causes.told(tell).unwrap_or_else(|| causes.english()),
        }
    }
}
