//! The pages for remote commands and files, `known_hosts` imports, and the audit log.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use minijinja::Value;

use super::api::by_hand::{self, Order};
use super::error::Result;
use super::forms::FieldErrors;
use super::input::{Form, Id};
use super::paging;
use super::render::{self, context};
use super::say;
use super::visitor::Visitor;
use crate::i18n;
use crate::store::audit::{self, Entry};
use crate::store::servers::{self, Server};
use crate::store::{AuditWay, PageRequest, Role, ServerId};

const MENU: &str = "servers";
/// The number of a server's latest audit entries on its page.
const LAST: i64 = 20;

/// The content of a server's page besides the forms.
#[derive(Default)]
struct Shown {
    values: Value,
    errors: FieldErrors,
    done: Option<Value>,
}

async fn page(visitor: &Visitor, id: ServerId, status: StatusCode, shown: Shown) -> Result {
    let (server, last): (Server, _) = visitor
        .ask(move |app| {
            app.store().read(|conn| {
                let server = servers::find(conn, id)?;
                let last = audit::page(conn, Some(id), PageRequest::new(1, LAST))?;
                Ok((server, last))
            })
        })
        .await?;
    let context = context! {
        id,
        name => server.hostname,
        kind => server.kind,
        values => shown.values,
        errors => render::errors(visitor, &shown.errors),
        done => shown.done,
        entries => entries(visitor, last.items),
        upload_bytes => visitor.app().settings().ssh_upload_bytes,
    };
    render::page(visitor, status, "servers/work.html", MENU, context)
}

fn entries(visitor: &Visitor, entries: Vec<Entry>) -> Vec<Value> {
    let language = visitor.language();
    entries
        .into_iter()
        .map(|entry| {
            let message = say::stored(language, &entry.message);
            context! { message, ..render::value(entry) }
        })
        .collect()
}

/// `GET /servers/{id}/work`
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id or a database error.
pub async fn show(visitor: Visitor, Id(id): Id<ServerId>) -> Result {
    visitor.require(Role::Admin)?;
    page(&visitor, id, StatusCode::OK, Shown::default()).await
}

/// `POST /servers/{id}/work`: runs a command to its end and shows its output.
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id or an error of the engine.
pub async fn run(visitor: Visitor, Id(id): Id<ServerId>, Form(fields): Form) -> Result {
    visitor.require(Role::Admin)?;
    let values = render::value(fields.typed());
    let by = visitor.by(AuditWay::Page)?;
    let done = match Order::of(&fields) {
        Ok(order) => by_hand::run(&visitor, by, id, order).await,
        Err(error) => Err(error),
    };
    let (status, shown) = match done {
        Ok(done) => (
            StatusCode::OK,
            Shown {
                values,
                done: Some(render::value(done.shown())),
                ..Shown::default()
            },
        ),
        Err(error) => match error.fields() {
            Some(errors) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                Shown {
                    values,
                    errors,
                    done: None,
                },
            ),
            None => return Err(error),
        },
    };
    page(&visitor, id, status, shown).await
}

/// `GET /servers/known_hosts`
///
/// # Errors
/// Fails for a sender who is not an admin.
pub async fn known_hosts(visitor: Visitor) -> Result {
    visitor.require(Role::Admin)?;
    import_page(&visitor, StatusCode::OK, None, &FieldErrors::default())
}

/// `POST /servers/known_hosts`
///
/// # Errors
/// Fails for a sender who is not an admin, an error of the engine or a database error.
pub async fn import(visitor: Visitor, Form(fields): Form) -> Result {
    visitor.require(Role::Admin)?;
    let by = visitor.by(AuditWay::Page)?;
    let text = match fields.required("text") {
        Ok(text) => text,
        Err(error) => {
            let refusal = error.refusal()?;
            return import_page(&visitor, refusal.status, None, &refusal.errors);
        }
    };
    let import = visitor
        .ask(move |app| app.engine().by_hand().import_known_hosts(&by, &text))
        .await?;
    let import = render::value(import);
    import_page(
        &visitor,
        StatusCode::OK,
        Some(import),
        &FieldErrors::default(),
    )
}

fn import_page(
    visitor: &Visitor,
    status: StatusCode,
    import: Option<Value>,
    errors: &FieldErrors,
) -> Result {
    let context = context! {
        import,
        errors => render::errors(visitor, errors),
    };
    render::page(visitor, status, "servers/known_hosts.html", MENU, context)
}

/// `GET /audit`
///
/// # Errors
/// Fails for a sender who is not an admin or a database error.
pub async fn audit_list(visitor: Visitor, request: HttpRequest) -> Result {
    visitor.require(Role::Admin)?;
    let part = paging::of_page(&request);
    let mut page = visitor
        .ask(move |app| app.store().read(|conn| audit::page(conn, None, part)))
        .await?;
    let items = std::mem::take(&mut page.items);
    let context = context! {
        entries => entries(&visitor, items),
        pager => paging::pager(&page, "/audit"),
        days => i18n::text(
            visitor.language(),
            "audit.lead",
            &[("days", &visitor.app().settings().audit_days.to_string())],
        ),
    };
    render::found(&visitor, "audit.html", "audit", context)
}
