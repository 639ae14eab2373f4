//! Pages, forms, the JSON API and assets: the HTTP interface for people and scripts.
//!
//! A handler authorises, validates, makes one call and responds. Everything else has one place:
//!
//! | file | content |
//! |---|---|
//! | `routes` | every address |
//! | `guard` | the middleware of every request: sender, origin, body and response headers |
//! | `visitor` | the sender of a request, the language and preferences |
//! | `input` | the fields of a form or of a JSON object |
//! | `forms` | validation of those fields, the same for forms and API, and storage of their values |
//! | `hand` | streams to and from servers, for remote commands and files |
//! | `error` | errors and their responses |
//! | `render`, `flash`, `assets` | templates, flash messages, embedded files |
//! | `api` | the JSON API, one file per domain; the pages are beside it, also one file per domain |
//!
//! The server gives every worker the [`App`](crate::app::App) as `web::Data`.

use actix_web::middleware::from_fn;
use actix_web::web::{ServiceConfig, scope};

mod api;
mod assets;
mod credentials;
mod deletion;
mod error;
mod flash;
mod forms;
mod guard;
mod guest;
mod hand;
mod home;
mod input;
mod login;
mod metrics;
mod paging;
mod projects;
mod releases;
mod render;
mod routes;
mod say;
mod servers;
#[cfg(test)]
mod tests;
mod visitor;
mod votes;
mod work;

pub use routes::{Endpoint, endpoints};

/// Adds every route of this module, and a response for unknown addresses, so further routes must be
/// added before.
pub fn configure(config: &mut ServiceConfig) {
    config.service(
        scope("")
            .wrap(from_fn(guard::guard))
            .configure(|config| drop(routes::configure(config))),
    );
}
