//! Pages from templates, in the reader's language.

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, Value};
use rust_embed::RustEmbed;
use serde::Serialize;

use super::assets;
use super::error::{Error, Result};
use super::flash::Flash;
use super::forms::FieldErrors;
use super::visitor::Visitor;
use crate::i18n::{self, Language};

#[derive(RustEmbed)]
#[folder = "templates/"]
struct Templates;

/// Converts any serializable value for templates.
pub fn value(of: impl Serialize) -> Value {
    Value::from(Serde(of))
}

/// A template's variables: `context! { name => value, name, ..rest }`, of any serializable values.
macro_rules! context {
    (@ $key:ident $value:expr) => { $value };
    (@ $key:ident) => { $key };
    ($($key:ident $(=> $value:expr)?),* $(, ..$rest:expr)* $(,)?) => {
        minijinja::context! {
            $($key => $crate::web::render::value(
                &$crate::web::render::context!(@ $key $($value)?)
            ),)*
            $(..$rest,)*
        }
    };
}
pub(super) use context;

/// One environment per language, so that macros know the reader's language.
static ENVIRONMENTS: LazyLock<Vec<(Language, Environment<'static>)>> = LazyLock::new(|| {
    Language::ALL
        .iter()
        .map(|language| (*language, environment(*language)))
        .collect()
});

fn environment(language: Language) -> Environment<'static> {
    let mut environment = Environment::new();
    for path in Templates::iter() {
        let source = Templates::get(&path).map(|file| file.data.into_owned());
        let Some(Ok(source)) = source.map(String::from_utf8) else {
            continue;
        };
        if let Err(error) = environment.add_template_owned(path.clone().into_owned(), source) {
            tracing::error!(template = %path, error = %format!("{error:#}"), "template refused");
        }
    }
    environment.add_function("t", move |key: &str, args: Kwargs| {
        let mut filled = Vec::new();
        for name in args.args() {
            filled.push((name, args.get::<Value>(name)?.to_string()));
        }
        let filled: Vec<(&str, &str)> = filled
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        Ok::<_, minijinja::Error>(i18n::text(language, key, &filled))
    });
    environment.add_function("asset", assets::address);
    environment.add_function("script_text", move || {
        value(i18n::script_catalogue(language))
    });
    environment
}

/// The page of `template` for `visitor`, with the menu entry `menu` marked.
///
/// # Errors
/// [`Error::Template`] if the template fails.
pub fn page(
    visitor: &Visitor,
    status: StatusCode,
    template: &str,
    menu: &str,
    context: Value,
) -> Result {
    let language = visitor.language();
    let (_, environment) = ENVIRONMENTS
        .iter()
        .find(|(of, _)| *of == language)
        .ok_or(Error::NoSuchAddress)?;
    let identity = visitor.identity();
    let whole = context! {
        lang => language.code(),
        theme => visitor.theme(),
        path => visitor.path(),
        csrf => identity.and_then(|identity| identity.csrf.as_deref()).unwrap_or_default(),
        user => identity.map(|identity| context! { name => identity.name, role => identity.role }),
        page => menu,
        flash => visitor.flash().map(|flash| flash_context(language, flash)),
        ..context
    };
    let html = environment.get_template(template)?.render(whole)?;
    let mut response = HttpResponse::build(status);
    if visitor.flash().is_some() {
        response.cookie(Flash::no_cookie());
    }
    Ok(response.content_type("text/html; charset=utf-8").body(html))
}

/// Like [`page`], with the status 200.
///
/// # Errors
/// [`Error::Template`] if the template fails.
pub fn found(visitor: &Visitor, template: &str, menu: &str, context: Value) -> Result {
    page(visitor, StatusCode::OK, template, menu, context)
}

fn flash_context(language: Language, flash: &Flash) -> Value {
    let key = format!("flash.{}", flash.key);
    context! {
        kind => "success",
        text => i18n::text(language, &key, &[("name", &flash.name)]),
    }
}

/// A form's errors in the format of templates.
pub fn errors(visitor: &Visitor, errors: &FieldErrors) -> Value {
    let messages = errors.messages(visitor.language());
    value(
        messages
            .into_iter()
            .collect::<std::collections::BTreeMap<_, _>>(),
    )
}

/// Redirects to `address` on this server, with GET (303).
pub fn redirect(address: &str) -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((header::LOCATION, address))
        .finish()
}

/// Like [`redirect`], with a flash message.
pub fn redirect_saying(address: &str, flash: &Flash) -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((header::LOCATION, address))
        .cookie(flash.cookie())
        .finish()
}
