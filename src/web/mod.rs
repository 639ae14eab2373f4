//! Pages, forms, the JSON API and assets: how people and scripts reach the platform over HTTP.
//!
//! A handler authorises, validates, makes one call and responds. Everything around that is in one
//! place each:
//!
//! | file | what it is |
//! |---|---|
//! | `routes` | every address |
//! | `guard` | what happens to every request: who sent it, from where, what its answer carries |
//! | `visitor` | who looks, in which language |
//! | `input` | what was sent: the fields of a form or of a JSON object |
//! | `forms` | the rules for those fields, the same for forms and API, and saving what they give |
//! | `hand` | streams to and from servers that are worked on by hand |
//! | `error` | which error gives which answer |
//! | `render`, `flash`, `assets` | templates, what the next page says on top, embedded files |
//! | `api` | the JSON API, a file a domain; the pages are beside it, a file a domain too |
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

/// Adds every route of this module, and an answer for every address that nobody knows: whoever
/// serves more must add it before.
pub fn configure(config: &mut ServiceConfig) {
    config.service(
        scope("")
            .wrap(from_fn(guard::guard))
            .configure(routes::configure),
    );
}
