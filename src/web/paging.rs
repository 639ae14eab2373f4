//! Which part of a list is asked for, and what a list's foot shows.

use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::error::{Error, Result};
use super::input::query;
use super::render;
use crate::store::{Page, PageRequest};

/// How many rows a page's list shows.
const ROWS: i64 = 20;

/// The part of a list that a page shows: `?page=`, where nonsense means the first.
pub fn of_page(request: &HttpRequest) -> PageRequest {
    let page = query(request, "page")
        .ok()
        .flatten()
        .and_then(|page| page.parse().ok());
    PageRequest::new(page.unwrap_or(1), ROWS)
}

/// The page number that an address asks for, to come back to.
pub fn number(request: &HttpRequest) -> i64 {
    let page = query(request, "page")
        .ok()
        .flatten()
        .and_then(|page| page.parse().ok());
    page.unwrap_or(1).max(1)
}

/// What a list's foot shows, where the list lies at `address`.
pub fn pager<T>(page: &Page<T>, address: &str) -> minijinja::Value {
    render::context! {
        page => page.page,
        pages => page.pages,
        total => page.total,
        base => format!("{address}?page="),
    }
}

/// `?page=&limit=` of the API; without them everything up to the largest page.
#[derive(Clone, Copy)]
pub struct ApiPage {
    page: i64,
    limit: i64,
}

impl ApiPage {
    /// Reads the query; numbers out of bounds are malformed.
    pub fn of(request: &HttpRequest) -> Result<Self> {
        Ok(Self {
            page: bounded(request, "page", 1, i64::MAX / PageRequest::LARGEST)?.unwrap_or(1),
            limit: bounded(request, "limit", 1, PageRequest::LARGEST)?
                .unwrap_or(PageRequest::LARGEST),
        })
    }

    /// For the store.
    pub fn request(self) -> PageRequest {
        PageRequest::new(self.page, self.limit)
    }

    /// The rows as a bare array; a page past the last is empty. `X-Total-Count` says how many rows
    /// there are over all pages.
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

/// A number of the query within bounds.
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
