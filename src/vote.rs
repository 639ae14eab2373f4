//! Votes: a question, its options, one ballot per voter. The rules here are pure; [`Votes`] stores
//! their results and publishes them to the room `vote/NAME` in the same transaction.
//!
//! A voter is the logged-in account, else the browser by a token in its cookie, else (a program) the
//! name it gives itself. A ballot may be changed until the vote is closed.

mod book;

use serde::Serialize;
use serde_json::{Value, json};

pub use book::{VoteError, Votes};

use crate::names::is_blank;
use crate::secret::fingerprint;

/// The maximum length of a question, in characters.
pub const QUESTION_CHARS: usize = 200;
/// The maximum length of an option, in characters.
pub const OPTION_CHARS: usize = 80;
/// The minimum number of options.
pub const LEAST_OPTIONS: usize = 2;
/// The maximum number of options: more do not fit on a screen.
pub const MOST_OPTIONS: usize = 10;

/// Somebody who casts a ballot or opens a vote, in the stored form: it contains no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter(String);

impl Voter {
    /// The voter of a logged-in account.
    pub fn account(name: &str) -> Voter {
        Voter(format!("account:{name}"))
    }

    /// The voter of a browser, by its token.
    pub fn browser(token: &str) -> Voter {
        Voter(format!("browser:{}", fingerprint(token)))
    }

    /// The voter of a program, by the name it gives itself.
    pub fn program(name: &str) -> Voter {
        Voter(format!("name:{name}"))
    }

    /// The stored form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if it is an account.
    pub fn is_account(&self) -> bool {
        self.0.starts_with("account:")
    }
}

/// A question with its options: within bounds, without control characters, options distinct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    text: String,
    options: Vec<String>,
}

/// The reason that a question is invalid: the field and the code of the text that explains it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {code}")]
pub struct BadQuestion {
    /// `question` or `options`.
    pub field: &'static str,
    /// `required`, `too_long`, `invalid_characters`, `vote_options`, `vote_options_alike`.
    pub code: &'static str,
    /// The value of the text's `{max}`.
    pub most: usize,
}

impl Question {
    /// Parses a question and its options; blank options are skipped.
    ///
    /// # Errors
    /// [`BadQuestion`] names the first field that is out of bounds.
    pub fn new<'a>(
        text: &str,
        options: impl IntoIterator<Item = &'a str>,
    ) -> Result<Question, BadQuestion> {
        let text = line("question", text, QUESTION_CHARS)?;
        let bad = |code, most| BadQuestion {
            field: "options",
            code,
            most,
        };
        if is_blank(&text) {
            return Err(BadQuestion {
                field: "question",
                ..bad("required", QUESTION_CHARS)
            });
        }
        let mut read: Vec<String> = Vec::new();
        for option in options {
            let option = line("options", option, OPTION_CHARS)?;
            if read.contains(&option) {
                return Err(bad("vote_options_alike", MOST_OPTIONS));
            }
            if !is_blank(&option) {
                read.push(option);
            }
            // Each is compared with all before it, so the number is bounded here.
            if read.len() > MOST_OPTIONS {
                break;
            }
        }
        if !(LEAST_OPTIONS..=MOST_OPTIONS).contains(&read.len()) {
            return Err(bad("vote_options", MOST_OPTIONS));
        }
        Ok(Question {
            text,
            options: read,
        })
    }
}

fn line(field: &'static str, text: &str, most: usize) -> Result<String, BadQuestion> {
    let text = text.trim();
    let bad = |code| BadQuestion { field, code, most };
    if text.chars().any(char::is_control) {
        return Err(bad("invalid_characters"));
    }
    if text.chars().nth(most).is_some() {
        return Err(bad("too_long"));
    }
    Ok(text.to_owned())
}

/// Parses a ballot as sent on the wire: `{"choice":2}`, `{"choice":"2"}` or plain `2`. The options are
/// not known here.
///
/// # Errors
/// The name of the invalid field, `content` or `choice`.
pub fn read_choice(content: &str) -> Result<u32, &'static str> {
    let read: Value = serde_json::from_str(content.trim()).map_err(|_| "content")?;
    let choice = match &read {
        Value::Object(ballot) => ballot.get("choice").ok_or("choice")?,
        Value::Number(_) => &read,
        _ => return Err("content"),
    };
    let number = match choice {
        Value::Number(number) => number.as_u64(),
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    };
    let number = number.and_then(|number| u32::try_from(number).ok());
    number.filter(|number| *number > 0).ok_or("choice")
}

/// An option and its number of ballots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// Its text.
    pub text: String,
    /// The number of ballots for it.
    pub count: i64,
}

/// A vote at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Vote {
    /// Its name, as in the room `vote/NAME`.
    pub name: String,
    /// The question.
    pub question: String,
    /// True if ballots are accepted.
    pub open: bool,
    /// In their order; a ballot's choice is the position, from 1.
    pub options: Vec<Counted>,
    /// Incremented with every change: of two states the one with the higher version is newer.
    pub version: i64,
    /// The voter who opened it.
    #[serde(skip)]
    pub organiser: String,
}

impl Vote {
    /// The number of ballots.
    pub fn total(&self) -> i64 {
        self.options.iter().map(|option| option.count).sum()
    }

    /// True if there is an option at the position `choice`, from 1.
    fn has(&self, choice: u32) -> bool {
        usize::try_from(choice).is_ok_and(|choice| (1..=self.options.len()).contains(&choice))
    }

    /// True if `who` may set the question and close the vote: the organiser, and every account.
    pub fn may_organise(&self, who: &Voter) -> bool {
        who.is_account() || self.organiser == who.as_str()
    }

    /// The room's message about a ballot: `{"version","open","counts","total"}`. Every message has all
    /// counts, so readers need not add them up.
    pub fn counts(&self) -> Value {
        let counts: Vec<i64> = self.options.iter().map(|option| option.count).collect();
        json!({"version": self.version, "open": self.open, "counts": counts, "total": self.total()})
    }

    /// The room's message about a new question: the keys of the counts, `question` and `options`.
    pub fn whole(&self) -> Value {
        let mut whole = self.counts();
        let texts = self.options.iter().map(|option| option.text.clone());
        whole["question"] = self.question.clone().into();
        whole["options"] = texts.collect();
        whole
    }
}

#[cfg(test)]
mod tests;
