//! Votes: a question, its options, one ballot a voter. The rules here are pure; [`Votes`] keeps what
//! they decide in the store and tells it to the room `vote/NAME` in the same breath.
//!
//! Who a voter is: the account that is logged in, else the browser by a token in its cookie, else (a
//! program) the name that it gives itself. A ballot may be changed until the vote is closed.

mod book;

use serde::Serialize;
use serde_json::{Value, json};

pub use book::{VoteError, Votes};

use crate::names::is_blank;
use crate::secret::fingerprint;

/// The longest question, in characters.
pub const QUESTION_CHARS: usize = 200;
/// The longest option, in characters.
pub const OPTION_CHARS: usize = 80;
/// The fewest options.
pub const LEAST_OPTIONS: usize = 2;
/// The most options: more do not fit on a screen.
pub const MOST_OPTIONS: usize = 10;

/// Who casts a ballot or opens a vote, in the form that is stored: no token stands in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter(String);

impl Voter {
    /// Somebody who is logged in.
    pub fn account(name: &str) -> Voter {
        Voter(format!("account:{name}"))
    }

    /// A browser, by its token.
    pub fn browser(token: &str) -> Voter {
        Voter(format!("browser:{}", fingerprint(token)))
    }

    /// A program, by the name that it gives itself.
    pub fn program(name: &str) -> Voter {
        Voter(format!("name:{name}"))
    }

    /// As it is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is an account.
    pub fn is_account(&self) -> bool {
        self.0.starts_with("account:")
    }
}

/// What is asked: within bounds, without control characters, options that differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    text: String,
    options: Vec<String>,
}

/// Why a question is none: the field, and the code of the text that says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {code}")]
pub struct BadQuestion {
    /// `question` or `options`.
    pub field: &'static str,
    /// `required`, `too_long`, `invalid_characters`, `vote_options`, `vote_options_alike`.
    pub code: &'static str,
    /// What the text's `{max}` stands for.
    pub most: usize,
}

impl Question {
    /// Reads a question and its options; blank ones are passed over.
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
            // Each is compared with all before it.
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

/// Reads a ballot as it comes by the wire: `{"choice":2}`, `{"choice":"2"}` or plainly `2`. Which
/// options there are is not known here.
///
/// # Errors
/// The field that is wrong, `content` or `choice`.
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

/// One option and how many ballots name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// What it says.
    pub text: String,
    /// How many ballots name it.
    pub count: i64,
}

/// A vote at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Vote {
    /// Its name, as in the room `vote/NAME`.
    pub name: String,
    /// What is asked.
    pub question: String,
    /// Whether ballots are taken.
    pub open: bool,
    /// In their order; a ballot's choice is the place, from 1.
    pub options: Vec<Counted>,
    /// Grows with every change: of two states the one with the higher version is newer.
    pub version: i64,
    /// Who opened it.
    #[serde(skip)]
    pub organiser: String,
}

impl Vote {
    /// How many ballots there are.
    pub fn total(&self) -> i64 {
        self.options.iter().map(|option| option.count).sum()
    }

    /// The option with the place `choice`, from 1.
    fn has(&self, choice: u32) -> bool {
        usize::try_from(choice).is_ok_and(|choice| (1..=self.options.len()).contains(&choice))
    }

    /// Whether `who` may set the question and close it: whoever opened it, and every account.
    pub fn may_organise(&self, who: &Voter) -> bool {
        who.is_account() || self.organiser == who.as_str()
    }

    /// What the room is told of a ballot: `{"version","open","counts","total"}`. Every message has all
    /// counts, so none has to be added up.
    pub fn counts(&self) -> Value {
        let counts: Vec<i64> = self.options.iter().map(|option| option.count).collect();
        json!({"version": self.version, "open": self.open, "counts": counts, "total": self.total()})
    }

    /// What the room is told of a new question: the counts' keys, `question` and `options`.
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
