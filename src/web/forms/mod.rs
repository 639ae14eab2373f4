//! Validation of input, the same for forms and the API, and storage of valid input: nothing is
//! saved if any field is refused.

use std::str::FromStr;

use super::input::{Fields, Given};
use super::say;
use crate::deploy::Said;
use crate::i18n::{self, Language};
use crate::names::is_blank;

pub mod credential;
pub mod path;
pub mod project;
pub mod release;
pub mod server;

/// The largest number of errors reported for one request: their messages cost time, and nobody
/// reads more.
const TOLD_ERRORS: usize = 16;
/// The longest name or title, in characters.
const LONGEST_NAME: usize = 64;

/// An error of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The field; `form` for the form as a whole.
    pub field: String,
    /// The text's key in the catalogues, without `error.`.
    pub code: &'static str,
    /// The values of the text's placeholders.
    pub args: Vec<(&'static str, String)>,
    /// The value of `{cause}`, rendered in the reader's language.
    pub cause: Option<Said>,
}

impl FieldError {
    /// The text in `language`.
    pub fn message(&self, language: Language) -> String {
        let cause = self.cause.as_ref().map(|cause| say::said(language, cause));
        let args: Vec<(&str, &str)> = self
            .args
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .chain(cause.as_deref().map(|cause| ("cause", cause)))
            .collect();
        let key = format!("error.{}", self.code);
        let text = i18n::text(language, &key, &args);
        debug_assert_ne!(text, key, "the catalogue lacks it");
        text
    }
}

/// The errors of a form: the first one of each field, for at most 16 fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    /// A single error.
    pub fn one(error: FieldError) -> Self {
        Self(vec![error])
    }

    /// Refuses `field`.
    pub fn add(&mut self, field: &str, code: &'static str) {
        self.add_with(field, code, &[]);
    }

    /// Refuses `field` with a text that has placeholders.
    pub fn add_with(&mut self, field: &str, code: &'static str, args: &[(&'static str, &str)]) {
        if self.0.len() < TOLD_ERRORS && !self.has(field) {
            let args = args
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()));
            self.0.push(FieldError {
                field: field.to_owned(),
                code,
                args: args.collect(),
                cause: None,
            });
        }
    }

    /// A single error of `field`, with its cause in the reader's language.
    pub fn caused(field: &str, code: &'static str, cause: impl Into<Said>) -> Self {
        Self::one(FieldError {
            field: field.to_owned(),
            code,
            args: Vec::new(),
            cause: Some(cause.into()),
        })
    }

    /// True if `field` is refused.
    pub fn has(&self, field: &str) -> bool {
        self.0.iter().any(|error| error.field == field)
    }

    /// The first error, in form order.
    pub fn first(&self) -> Option<&FieldError> {
        self.0.first()
    }

    /// The text for each refused field.
    pub fn messages(&self, language: Language) -> Vec<(String, String)> {
        self.0
            .iter()
            .map(|error| (error.field.clone(), error.message(language)))
            .collect()
    }

    /// `value` if nothing is refused.
    ///
    /// # Errors
    /// The errors, if there are any.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(self)
        }
    }
}

/// Reads fields one by one and collects their errors. An absent field keeps the present value; null
/// and empty text count as empty.
struct Check<'a> {
    fields: &'a Fields,
    errors: FieldErrors,
}

impl<'a> Check<'a> {
    fn new(fields: &'a Fields) -> Self {
        Self {
            fields,
            errors: FieldErrors::default(),
        }
    }

    fn refuse(&mut self, field: &str, code: &'static str) {
        self.errors.add(field, code);
    }

    fn refuse_with(&mut self, field: &str, code: &'static str, args: &[(&'static str, &str)]) {
        self.errors.add_with(field, code, args);
    }

    /// The text of `field` as given; `None` if it is absent or not text.
    fn given(&mut self, field: &str) -> Option<&'a str> {
        match self.fields.get(field) {
            None => None,
            Some(Given::Text(text)) => Some(text),
            Some(_) => {
                self.refuse(field, "invalid_type");
                None
            }
        }
    }

    /// One line of text without control characters, at most `longest` characters; may be empty.
    fn line(&mut self, field: &str, present: Option<&str>, longest: usize) -> String {
        let text = match self.given(field) {
            Some(text) => text.trim_matches(' '),
            None => present.unwrap_or_default(),
        };
        if text.chars().any(char::is_control) {
            self.refuse(field, "invalid_characters");
        } else if text.chars().nth(longest).is_some() {
            self.refuse_with(field, "too_long", &[("max", &longest.to_string())]);
        }
        text.to_owned()
    }

    /// Like [`line`](Self::line), but must not be empty.
    fn name(&mut self, field: &str, present: Option<&str>) -> String {
        let text = self.line(field, present, LONGEST_NAME);
        if is_blank(&text) {
            self.refuse(field, "required");
        }
        text
    }

    /// A whole number from `least` to `most`; `default` if empty.
    fn number(&mut self, field: &str, present: Option<i32>, bounds: Bounds) -> i32 {
        let default = present.unwrap_or(bounds.default);
        let Some(text) = self.given(field).map(str::trim) else {
            return default;
        };
        if text.is_empty() {
            return bounds.default;
        }
        match text.parse::<i32>() {
            Ok(number) if (bounds.least..=bounds.most).contains(&number) => number,
            Ok(_) | Err(_) => {
                let (min, max) = (bounds.least.to_string(), bounds.most.to_string());
                self.refuse_with(field, bounds.code, &[("min", &min), ("max", &max)]);
                default
            }
        }
    }

    /// Like [`number`](Self::number), but `None` if empty.
    fn optional_number(
        &mut self,
        field: &str,
        present: Option<i32>,
        bounds: Bounds,
    ) -> Option<i32> {
        let given = self.given(field).map(str::trim);
        match given {
            None => present,
            Some("") => None,
            Some(_) => Some(self.number(field, present, bounds)),
        }
    }

    /// One of a choice's names; if empty or absent, the present one or else `default`.
    fn choice<T: FromStr + Copy>(&mut self, field: &str, present: Option<T>, default: T) -> T {
        let default = present.unwrap_or(default);
        match self.given(field).map(str::trim) {
            None | Some("") => default,
            Some(text) => text.parse().unwrap_or_else(|_| {
                self.refuse(field, "unknown_choice");
                default
            }),
        }
    }

    /// An id, or `None`.
    fn id<T: FromStr>(&mut self, field: &str, present: Option<T>) -> Option<T> {
        match self.given(field).map(str::trim) {
            None => present,
            Some("") => None,
            Some(text) => {
                let id = text.parse().ok();
                if id.is_none() {
                    self.refuse(field, "unknown_choice");
                }
                id
            }
        }
    }

    /// `value`, or the errors, in the order of `fields`, if any field is refused.
    fn finish<T>(mut self, fields: &[&str], value: T) -> Result<T, FieldErrors> {
        let place = |field: &str| fields.iter().position(|known| *known == field);
        self.errors.0.sort_by_key(|error| place(&error.field));
        self.errors.or(value)
    }
}

/// The bounds of a number.
struct Bounds {
    least: i32,
    most: i32,
    default: i32,
    code: &'static str,
}

/// Adds the value to the error "taken".
fn taken(error: crate::store::StoreError, fields: &Fields) -> super::error::Error {
    match error {
        crate::store::StoreError::Taken { field } => {
            let value = fields.line(field).unwrap_or_default();
            let mut errors = FieldErrors::default();
            errors.add_with(field, "taken", &[("value", &value)]);
            errors.into()
        }
        other => other.into(),
    }
}
