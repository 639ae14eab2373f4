//! Pages of lists, and the navigation below a list.

use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::error::{Error, Result};
use super::input::query;
use super::render;
use crate::store::{Page, PageRequest};

/// The number of rows of a list on a page.
const ROWS: i64 = 20;

/// The requested page of a list, `?page=`; the first if malformed.
pub fn of_page(request: &HttpRequest) -> PageRequest {
    let page = query(request, "page")
        .ok()
        .flatten()
        .and_then(|page| page.parse().ok());
    PageRequest::new(page.unwrap_or(1), ROWS)
}

/// The requested page number, for links back.
pub fn number(request: &HttpRequest) -> i64 {
    let page = query(request, "page")
        .ok()
        .flatten()
        .and_then(|page| page.parse().ok());
    page.unwrap_or(1).max(1)
}

/// The values of the navigation below the list at `address`.
pub fn pager<T>(page: &Page<T>, address: &str) -> minijinja::Value {
    render::context! {
        page => page.page,
        pages => page.pages,
        total => page.total,
        base => format!("{address}?page="),
    }
}

/// The API's `?page=&limit=`; by default the largest page.
#[derive(Clone, Copy)]
pub struct ApiPage {
    page: i64,
    limit: i64,
}

impl ApiPage {
    /// Reads the query.
    ///
    /// # Errors
    /// [`Error::Parameter`] for numbers out of bounds.
    pub fn of(request: &HttpRequest) -> Result<Self> {
        Ok(Self {
            page: bounded(request, "page", 1, i64::MAX / PageRequest::LARGEST)?.unwrap_or(1),
            limit: bounded(request, "limit", 1, PageRequest::LARGEST)?
                .unwrap_or(PageRequest::LARGEST),
        })
    }

    /// The request for the store.
    pub fn request(self) -> PageRequest {
        PageRequest::new(self.page, self.limit)
    }

    /// The rows as a bare array; empty past the last page. `X-Total-Count` is the number of rows
    /// over all pages.
    pub fn respond<T, R: Serialize>(self, page: Page<T>, row: impl FnMut(T) -> R) -> HttpResponse {
        let rows: Vec<R> = if page.page == self.page {
            page.items.into_iter().map(row).collect()
        } else {
            Vec::new()
        };
        HttpResponse::Ok()
            .insert_header(("X-Total-Count", page.total.to_string()))
            .json(rows)
    }
}

/// A number in the query, within bounds.
///
/// # Errors
/// [`Error::Parameter`] if it is malformed or out of bounds.
pub fn bounded(
    request: &HttpRequest,
    name: &'static str,
    least: i64,
    most: i64,
) -> Result<Option<i64>> {
    match query(request, name)? {
        None => Ok(None),
        Some(text) => text
            .parse()
            .ok()
            .filter(|number| (least..=most).contains(number))
            .map(Some)
            .ok_or(Error::Parameter(name)),
    }
}
