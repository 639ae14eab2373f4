//! The shared part of the deletion pages: they ask for confirmation and return to the list's page.

use actix_web::HttpRequest;

use super::error::Result;
use super::flash::Flash;
use super::input::{Fields, local_address};
use super::paging;
use super::render::{self, context};
use super::visitor::Visitor;

/// Asks for confirmation before `name` is deleted. `menu` is the entity's section, such as
/// `servers`; `blocked` lists the users that prevent the deletion.
///
/// # Errors
/// Fails if the template does.
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

/// Redirects to the list after `name` was deleted.
///
/// # Errors
/// Never fails; the type is that of handlers.
pub fn done(menu: &str, fields: &Fields, name: &str) -> Result {
    let asked = fields.line("back").unwrap_or_default();
    let list = format!("/{menu}");
    let back = local_address(&asked).unwrap_or(&list);
    Ok(render::redirect_saying(back, &Flash::new("deleted", name)))
}
