//! Request input: the fields of a form or of a JSON object, in one representation.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Ready, ready};
use std::str::FromStr;

use actix_web::dev::Payload;
use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor as Visit};
use serde_json::Value;

use super::error::{Error, Result};
use super::forms::FieldErrors;
use super::visitor::Visitor;
use crate::http::{NotUtf8, pairs};

/// The fields that a form never shows again.
const UNSHOWN: [&str; 5] = ["csrf", "secret", "passphrase", "password", "password_again"];
/// The largest number of fields of a form or JSON object: twice that of the largest form.
pub const MOST_FIELDS: usize = 64;
/// The largest number of values of a form, counting repeated fields.
const MOST_VALUES: usize = 10_000;

/// The body of a request, read by the guard.
pub struct Body(pub Bytes);

/// One field's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// Text; numbers, `true` and `false` in their JSON spelling.
    Text(String),
    /// Several texts.
    List(Vec<String>),
    /// JSON of another kind.
    Other,
}

/// Fields by name.
#[derive(Clone, Default)]
pub struct Fields(BTreeMap<String, Given>);

/// Prints only the names, because values may be secrets.
impl fmt::Debug for Fields {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

impl Fields {
    /// The fields of a URL-encoded form.
    ///
    /// # Errors
    /// A wrong content type, text that is not UTF-8, or too many fields.
    pub fn from_form(content_type: &str, body: &[u8]) -> Result<Self> {
        if content_type != "application/x-www-form-urlencoded"
            && !(content_type.is_empty() && body.is_empty())
        {
            return Err(Error::ContentType);
        }
        let mut fields: BTreeMap<String, Given> = BTreeMap::new();
        for (count, pair) in pairs(body).enumerate() {
            let name = pair.name.map_err(|NotUtf8| Error::Malformed("form"))?;
            let text = pair
                .value
                .map_err(|NotUtf8| Error::NotText(name.to_string()))?;
            if count >= MOST_VALUES || fields.len() >= MOST_FIELDS && !fields.contains_key(&*name) {
                return Err(Error::TooManyFields);
            }
            let text = text.into_owned();
            match fields.get_mut(&*name) {
                Some(given) => given.push(text),
                None => drop(fields.insert(name.into_owned(), Given::Text(text))),
            }
        }
        Ok(Self(fields))
    }

    /// The fields of a JSON object.
    ///
    /// # Errors
    /// A wrong content type, malformed JSON, or too many fields.
    pub fn from_json(content_type: &str, body: &[u8]) -> Result<Self> {
        let is_json = content_type == "application/json"
            || (content_type.starts_with("application/") && content_type.ends_with("+json"));
        if !is_json {
            return Err(Error::ContentType);
        }
        let Object(fields) = serde_json::from_slice(body).map_err(|_| Error::Malformed("JSON"))?;
        fields.map(Self).ok_or(Error::TooManyFields)
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&Given> {
        self.0.get(name)
    }

    /// The value of `name`, if it is a single text.
    pub fn line(&self, name: &str) -> Option<String> {
        match self.get(name) {
            Some(Given::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    /// The value of `name`, which must be a non-empty text.
    ///
    /// # Errors
    /// [`Error::Fields`] if it is missing or empty.
    pub fn required(&self, name: &str) -> Result<String> {
        self.line(name)
            .filter(|text| !text.is_empty())
            .ok_or_else(|| {
                let mut errors = FieldErrors::default();
                errors.add(name, "required");
                errors.into()
            })
    }

    /// Adds an empty `name` if it is absent.
    pub fn or_empty(&mut self, name: &str) {
        self.0
            .entry(name.to_owned())
            .or_insert(Given::Text(String::new()));
    }

    /// Refuses fields that are neither in `known` nor in `ignored`.
    ///
    /// # Errors
    /// [`Error::Fields`] for each unknown field.
    pub fn only(&self, known: &[&str], ignored: &[&str]) -> Result<()> {
        let mut errors = FieldErrors::default();
        for name in self.0.keys() {
            if !known.contains(&name.as_str()) && !ignored.contains(&name.as_str()) {
                errors.add(name, "unknown_field");
            }
        }
        errors.or(()).map_err(Error::from)
    }

    /// The values that a refused form shows again.
    pub fn typed(&self) -> BTreeMap<&str, minijinja::Value> {
        self.0
            .iter()
            .filter(|(name, _)| !UNSHOWN.contains(&name.as_str()))
            .map(|(name, given)| {
                let value = match given {
                    Given::Text(text) if name == "server_ids" => vec![text.clone()].into(),
                    Given::Text(text) => text.clone().into(),
                    Given::List(list) => list.clone().into(),
                    Given::Other => minijinja::Value::UNDEFINED,
                };
                (name.as_str(), value)
            })
            .collect()
    }
}

/// A JSON object's fields, or `None` beyond [`MOST_FIELDS`]. The rest is skipped, at no cost but
/// reading its bytes.
struct Object(Option<BTreeMap<String, Given>>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(Bounded)
    }
}

struct Bounded;

impl<'de> Visit<'de> for Bounded {
    type Value = Object;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Object, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            fields.insert(name, Given::from_json(value));
            if fields.len() > MOST_FIELDS {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                return Ok(Object(None));
            }
        }
        Ok(Object(Some(fields)))
    }
}

impl Given {
    fn from_json(value: Value) -> Self {
        match value {
            Value::Null => Self::Text(String::new()),
            Value::String(text) => Self::Text(text),
            Value::Number(number) => Self::Text(number.to_string()),
            Value::Bool(flag) => Self::Text(flag.to_string()),
            Value::Array(items) => items
                .into_iter()
                .map(|item| match item {
                    Value::String(text) => Some(text),
                    Value::Number(number) => Some(number.to_string()),
                    _ => None,
                })
                .collect::<Option<_>>()
                .map_or(Self::Other, Self::List),
            Value::Object(_) => Self::Other,
        }
    }

    fn push(&mut self, value: String) {
        match self {
            Self::List(list) => list.push(value),
            Self::Text(first) => *self = Self::List(vec![std::mem::take(first), value]),
            Self::Other => {}
        }
    }
}

fn body_of(
    request: &HttpRequest,
    read: impl FnOnce(&str, &[u8]) -> Result<Fields>,
) -> Result<Fields> {
    let extensions = request.extensions();
    // An API request without a login gets 401 before any error about its body.
    let known = extensions
        .get::<Visitor>()
        .is_some_and(|visitor| visitor.identity().is_some() || !visitor.is_api());
    if !known {
        return Err(Error::NotLoggedIn);
    }
    match extensions.get::<Body>() {
        Some(Body(body)) => read(request.content_type(), body),
        None => read(request.content_type(), b""),
    }
}

/// A form's fields.
pub struct Form(pub Fields);

impl FromRequest for Form {
    type Error = Error;
    type Future = Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(body_of(request, Fields::from_form).map(Self))
    }
}

/// A JSON object's fields.
pub struct Json(pub Fields);

impl FromRequest for Json {
    type Error = Error;
    type Future = Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(body_of(request, Fields::from_json).map(Self))
    }
}

/// The path parameter `{id}`. A malformed id is treated as an unknown address.
pub struct Id<T>(pub T);

impl<T: FromStr> FromRequest for Id<T> {
    type Error = Error;
    type Future = Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let text = request.match_info().get("id").unwrap_or_default();
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let id = digits.then(|| text.parse().ok()).flatten();
        ready(id.map(Self).ok_or(Error::NoSuchAddress))
    }
}

/// The first value of `name` in the query.
///
/// # Errors
/// [`Error::Parameter`] if the value is not UTF-8.
pub fn query(request: &HttpRequest, name: &'static str) -> Result<Option<String>> {
    pairs(request.query_string().as_bytes())
        .find(|pair| pair.name.as_deref() == Ok(name))
        .map(|pair| match pair.value {
            Ok(text) => Ok(text.into_owned()),
            Err(NotUtf8) => Err(Error::Parameter(name)),
        })
        .transpose()
}

/// `text` if it is an address on this server, so that redirects stay here.
pub fn local_address(text: &str) -> Option<&str> {
    let second = text.as_bytes().get(1);
    let fits = text.starts_with('/')
        && !matches!(second, Some(b'/' | b'\\'))
        && !text.chars().any(|c| c.is_control() || c == '\\')
        && text.is_ascii();
    fits.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_read_into_the_shape_of_forms() {
        let json = br#"{"a":"x","b":22,"c":null,"d":[1,"2"],"e":{},"f":[true],"g":true}"#;
        let fields = Fields::from_json("application/json", json).unwrap();
        assert_eq!(fields.line("a").as_deref(), Some("x"));
        assert_eq!(fields.line("b").as_deref(), Some("22"));
        assert_eq!(fields.line("c").as_deref(), Some(""));
        let list = Given::List(vec!["1".into(), "2".into()]);
        assert_eq!(fields.get("d"), Some(&list));
        assert_eq!(fields.get("e"), Some(&Given::Other));
        assert_eq!(fields.get("f"), Some(&Given::Other));
        assert_eq!(fields.line("g").as_deref(), Some("true"));
        let form = Fields::from_form("application/x-www-form-urlencoded", b"d=1&d=2&a=%E4%B8%AD");
        let form = form.unwrap();
        assert_eq!(form.get("d"), Some(&list));
        assert_eq!(form.line("a").as_deref(), Some("中"));
    }

    #[test]
    fn malformed_json_is_malformed() {
        let deep = "[".repeat(10_000);
        let deep = format!("{{\"a\":{deep}");
        for text in [
            "{",
            "",
            "[]",
            "1",
            "{\"a\":\"\\ud800\"}",
            deep.as_str(),
            "{\"a\":1}x",
        ] {
            let error = Fields::from_json("application/json", text.as_bytes());
            assert!(matches!(error, Err(Error::Malformed(_))), "{text:.20}");
        }
        let plain = Fields::from_json("text/plain", b"{}");
        assert!(matches!(plain, Err(Error::ContentType)));
    }

    #[test]
    fn redirects_stay_here() {
        for address in ["/", "/servers?page=2", "/a%20b"] {
            assert_eq!(local_address(address), Some(address));
        }
        for address in [
            "",
            "servers",
            "//evil",
            "/\\evil",
            "http://evil",
            "/a\nb",
            "/\t/evil",
        ] {
            assert_eq!(local_address(address), None, "{address:?}");
        }
    }
}
