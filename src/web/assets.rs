//! The embedded files of pages, identified by their hash.

use std::collections::HashMap;
use std::sync::LazyLock;

use actix_web::http::header::{self, CacheDirective, EntityTag, Header as _, IfNoneMatch};
use actix_web::{HttpRequest, HttpResponse};
use rust_embed::RustEmbed;

use super::error::{Error, Result};
use super::input::query;

/// The cache lifetime of a file whose address contains its hash, in seconds: a year.
const LONG: u32 = 365 * 24 * 60 * 60;

#[derive(RustEmbed)]
#[folder = "assets/"]
struct Assets;

/// Addresses used by pages of the course, with the files served there.
const ALIASES: [(&str, &str); 1] = [("jquery.min.js", "vendor/jquery.min.js")];

/// Each file's abbreviated hash.
static HASHES: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    Assets::iter()
        .filter_map(|path| {
            let file = Assets::get(&path)?;
            let hash = &file.metadata.sha256_hash()[..8];
            let hash = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            Some((path.into_owned(), hash))
        })
        .collect()
});

/// The address of the file `path` below `assets/`; it changes with the file's content.
pub fn address(path: &str) -> String {
    match HASHES.get(path) {
        Some(hash) => format!("/assets/{path}?v={hash}"),
        None => format!("/assets/{path}"),
    }
}

/// `GET /assets/{path}`
///
/// # Errors
/// [`Error::NoSuchAddress`] if there is no such file.
pub async fn show(request: HttpRequest) -> Result {
    let asked = request.match_info().query("path");
    let path = ALIASES
        .iter()
        .find(|(alias, _)| *alias == asked)
        .map_or(asked, |(_, path)| path);
    let (Some(file), Some(hash)) = (Assets::get(path), HASHES.get(path)) else {
        return Err(Error::NoSuchAddress);
    };
    let tag = EntityTag::new_strong(hash.clone());
    let caching = if query(&request, "v").ok().flatten().as_ref() == Some(hash) {
        header::CacheControl(vec![
            CacheDirective::Public,
            CacheDirective::MaxAge(LONG),
            CacheDirective::Extension("immutable".to_owned(), None),
        ])
    } else {
        header::CacheControl(vec![CacheDirective::NoCache])
    };
    let known = match IfNoneMatch::parse(&request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(&tag)),
        Err(_) => false,
    };
    let mut response = if known {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    response
        .insert_header(header::ETag(tag))
        .insert_header(caching);
    if known {
        return Ok(response.finish());
    }
    let kind = mime_guess::from_path(path).first_or_octet_stream();
    let kind = match kind.type_() {
        mime_guess::mime::TEXT => format!("{kind}; charset=utf-8"),
        _ => kind.to_string(),
    };
    Ok(response
        .insert_header((header::CONTENT_TYPE, kind))
        .body(file.data.into_owned()))
}
