//! What the pages that delete something have in common: they ask first, and lead back to the page
//! of the list that one came from.

use actix_web::HttpRequest;

use super::error::Result;
use super::flash::Flash;
use super::input::{Fields, local_address};
use super::paging;
use super::render::{self, context};
use super::visitor::Visitor;

/// Asks whether `name` is to go. `menu` names the entity's pages, such as `servers`; `blocked` is
/// what still needs it.
pub fn ask(
    visitor: &Visitor,
    request: &HttpRequest,
    menu: &str,
    (id, name): (impl ToString, &str),
    blocked: Vec<String>,
) -> Result {
    let id = id.to_string();
    let context = context! {
        action => format!("/{menu}/{id}/delete"),
        item => context! { id, name },
        back => format!("/{menu}?page={}", paging::number(request)),
        blocked,
    };
    render::found(visitor, &format!("{menu}/delete.html"), menu, context)
}

/// Leads back to the list after `name` is gone.
pub fn done(menu: &str, fields: &Fields, name: &str) -> Result {
    let asked = fields.line("back").unwrap_or_default();
    let list = format!("/{menu}");
    let back = local_address(&asked).unwrap_or(&list);
    Ok(render::redirect_saying(back, &Flash::new("deleted", name)))
}
