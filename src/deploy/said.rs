//! Texts for people: the reason why a node or a release failed, the result of a check.
//!
//! A text is a key of the catalogues with arguments, so that every reader gets it in their own
//! language, with its English rendering for logs and the wire. It is stored as JSON in the `message`
//! columns. A stored value that is not such JSON is shown as it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod failure;
mod git;
mod reason;
pub(super) mod refusal;
mod ssh;
#[cfg(test)]
mod tests;

/// Renders the catalogue's text of a key with its arguments. `None` if the catalogue lacks the key.
pub type Tell<'a> = &'a dyn Fn(&str, &[(&str, &str)]) -> Option<String>;

/// A text for people: `{"key":"failure.command","args":{…},"text":"the command ended with …"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// The key in the catalogues.
    key: String,
    /// The values of the placeholders.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    args: BTreeMap<String, Arg>,
    /// The English text.
    text: String,
}

/// The value of a placeholder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Arg {
    /// A name, a number, or somebody else's words: the same in every language.
    Text(String),
    /// A text of the catalogues.
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

    /// A reason given by git or SSH: a text of the catalogues if it is one of the platform's, else as
    /// it is.
    pub fn of_reason(text: &str) -> Self {
        match reason::reason(text) {
            Arg::Said(said) => said,
            Arg::Text(text) => Self::new("failure.other", &text).arg("cause", &text),
        }
    }

    /// The English text.
    pub fn english(&self) -> &str {
        &self.text
    }

    /// The text in the language of `tell`'s catalogue, or in English if the catalogue lacks it.
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

/// The reasons why a release is not `succeeded`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Causes {
    causes: Vec<Cause>,
    /// The number of causes left out.
    #[serde(default)]
    more: usize,
}

/// The reason why nodes of one step are not `succeeded`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Cause {
    /// The servers' names; empty: the platform.
    #[serde(default)]
    servers: Vec<String>,
    /// The number of servers that are not named.
    #[serde(default)]
    unnamed: usize,
    /// The step's id.
    step: String,
    cause: Arg,
}

impl Cause {
    /// The servers: `web-1, web-2 (+3)`.
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
    /// Adds the message of the node of `step`. Servers with the same message share a cause. At most
    /// `most` causes are kept, with at most `most` server names each.
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
    /// The same text for every reader; may be empty.
    Plain(String),
    /// A text of the catalogues.
    Said(Said),
    /// The messages of several nodes.
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
    /// The platform stopped during the work.
    pub(super) fn platform_stopped() -> Self {
        Said::new("failure.platform_stopped", "the platform was stopped").into()
    }

    /// The platform itself failed, which is not the release's fault.
    pub(super) fn platform_failed() -> Self {
        let text = "the platform failed; its own log says why";
        Said::new("failure.platform_failed", text).into()
    }

    /// Reads a stored message.
    pub fn read(stored: &str) -> Self {
        let json = || serde_json::from_str(stored).map(Self::Said);
        let causes = || serde_json::from_str(stored).map(Self::Causes);
        match stored.starts_with('{') {
            true => json().or_else(|_| causes()).ok(),
            false => None,
        }
        .unwrap_or_else(|| Self::Plain(stored.to_owned()))
    }

    /// The message as it is stored.
    pub(super) fn stored(&self) -> String {
        let json = match self {
            Self::Plain(text) => return text.clone(),
            Self::Said(said) => serde_json::to_string(said),
            Self::Causes(causes) => serde_json::to_string(causes),
        };
        json.unwrap_or_else(|_| self.english())
    }

    /// The English text.
    pub fn english(&self) -> String {
        match self {
            Self::Plain(text) => text.clone(),
            Self::Said(said) => said.text.clone(),
            Self::Causes(causes) => causes.english(),
        }
    }

    /// The text in the language of `tell`'s catalogue, or in English if the catalogue lacks it.
    pub fn told(&self, tell: Tell<'_>) -> String {
        match self {
            Self::Plain(text) => text.clone(),
            Self::Said(said) => said.told(tell),
            Self::Causes(causes) => causes.told(tell).unwrap_or_else(|| causes.english()),
        }
    }
}
