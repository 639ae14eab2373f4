//! The confirmation before a production project changes: the servers, the old and new commit, and
//! the number of commits between them. It is a separate page, so that it works without scripts.

use actix_web::http::StatusCode;
use minijinja::Value;

use super::{MENU, short};
use crate::deploy::{Change, Live, Preview};
use crate::git::CommitId;
use crate::store::Environment;
use crate::web::error::Result;
use crate::web::forms::release::Wanted;
use crate::web::input::Fields;
use crate::web::render::{self, context};
use crate::web::visitor::Visitor;

/// The field with the answer: a commit's full id if one was shown, otherwise `yes`.
const FIELD: &str = "confirmed";
const YES: &str = "yes";

/// The answer to the confirmation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Confirmed {
    /// Not asked yet.
    No,
    /// Confirmed without a known commit.
    Yes,
    /// Confirmed for this commit.
    Commit(CommitId),
}

impl Confirmed {
    pub(super) fn read(fields: &Fields) -> Self {
        match fields.line(FIELD).as_deref() {
            Some(YES) => Self::Yes,
            Some(text) => CommitId::parse(text).map_or(Self::No, Self::Commit),
            None => Self::No,
        }
    }

    /// The commit that was shown.
    pub(super) fn commit(self) -> Option<CommitId> {
        match self {
            Self::Commit(commit) => Some(commit),
            Self::No | Self::Yes => None,
        }
    }
}

impl From<Wanted> for Change {
    fn from(wanted: Wanted) -> Self {
        Self::Deploy {
            project: wanted.project,
            revision: wanted.revision,
        }
    }
}

/// True if projects of this environment need confirmation.
pub(super) fn is_asked(environment: Environment) -> bool {
    environment == Environment::Prod
}

/// The preview to confirm before `change`, if any. A change that cannot be previewed is refused by
/// its execution.
pub(super) async fn ask_first(visitor: &Visitor, change: Change) -> Result<Option<Preview>> {
    let preview = visitor
        .ask(move |app| Ok::<_, crate::web::error::Error>(app.engine().preview(&change).ok()))
        .await?;
    Ok(preview.filter(|preview| is_asked(preview.project.env)))
}

/// The confirmation page; its form is sent to `action` with the values that were entered.
pub(super) fn page(
    visitor: &Visitor,
    preview: &Preview,
    action: &str,
    typed: Option<&Fields>,
) -> Result {
    let kept = ["project_id", "ref", "commit"];
    let typed: Vec<Value> = typed
        .into_iter()
        .flat_map(|fields| kept.map(|name| (name, fields.line(name).unwrap_or_default())))
        .map(|(name, value)| context! { name, value })
        .collect();
    let back = match &typed[..] {
        [] => action
            .rsplit_once('/')
            .map_or(action, |(release, _)| release)
            .to_owned(),
        _ => format!("/releases/new?project={}", preview.project.id),
    };
    let servers: Vec<&str> = preview
        .servers
        .iter()
        .map(|server| &*server.hostname)
        .collect();
    let live = preview.live.release().map(|release| {
        context! {
            id => release.id,
            short => release.commit_id.as_deref().map(short),
            summary => release.summary,
            is_mixed => matches!(preview.live, Live::Mixed(_)),
        }
    });
    let commit = preview.commit.as_ref();
    let context = context! {
        project => context! { title => preview.project.title, env => preview.project.env },
        servers,
        live,
        ref => preview.revision,
        is_named => commit.is_some_and(|commit| !commit.id.to_string().starts_with(&preview.revision)),
        to => commit.map(|commit| context! {
            short => short(&commit.id.to_string()),
            summary => commit.summary,
        }),
        target => preview.target,
        added => preview.distance.map(|distance| distance.added),
        removed => preview.distance.map(|distance| distance.removed),
        confirmed => commit.map_or(YES.to_owned(), |commit| commit.id.to_string()),
        typed,
        action,
        back,
    };
    render::page(
        visitor,
        StatusCode::OK,
        "releases/confirm.html",
        MENU,
        context,
    )
}
