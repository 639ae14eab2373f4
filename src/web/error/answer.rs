//! The mapping of errors to status, code and text, in one place.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use actix_web::http::StatusCode;

use super::Error;
use crate::auth::{AuthError, BadPassword, LONGEST_PASSWORD, SHORTEST_PASSWORD};
use crate::deploy::{Clash, DeployError, Neighbour, Relation, Said};
use crate::git::GitError;
use crate::http::Fault;
use crate::ssh::Cause;
use crate::store::StoreError;
use crate::vote::VoteError;
use crate::web::input::MOST_FIELDS;

/// The response to an error.
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The text's key in the catalogues, without `error.`.
    pub code: &'static str,
    /// The values of the text's placeholders.
    pub args: Vec<(&'static str, String)>,
    /// The values of further placeholders, rendered in the reader's language.
    pub said: Vec<(&'static str, Said)>,
    /// The field concerned; forms show the text beside it.
    pub field: Option<Cow<'static, str>>,
    /// The time after which to retry.
    pub retry_after: Option<Duration>,
}

impl Answer {
    fn new(status: StatusCode, code: &'static str) -> Self {
        Self {
            status,
            code,
            args: Vec::new(),
            said: Vec::new(),
            field: None,
            retry_after: None,
        }
    }

    /// Fills a placeholder.
    pub fn arg(mut self, name: &'static str, value: impl ToString) -> Self {
        self.args.push((name, value.to_string()));
        self
    }

    /// Fills a placeholder with a text of the engine.
    fn said(mut self, name: &'static str, said: impl Into<Said>) -> Self {
        self.said.push((name, said.into()));
        self
    }

    fn field(mut self, field: impl Into<Cow<'static, str>>) -> Self {
        self.field = Some(field.into());
        self
    }

    fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }
}

impl Error {
    /// The status, code and text of this error.
    pub fn answer(&self) -> Answer {
        use StatusCode as S;
        let new = Answer::new;
        match self {
            Self::Malformed(_) => new(S::BAD_REQUEST, "malformed"),
            Self::Parameter(name) => new(S::BAD_REQUEST, "malformed").field(*name),
            Self::NotText(name) => new(S::BAD_REQUEST, "malformed").field(name.clone()),
            Self::Http(fault) => fault_answer(*fault),
            Self::TooManyFields => {
                new(S::UNPROCESSABLE_ENTITY, "too_many_fields").arg("max", MOST_FIELDS)
            }
            Self::ForeignHost => new(S::FORBIDDEN, "foreign_host"),
            Self::NotLoggedIn => new(S::UNAUTHORIZED, "unauthorized"),
            Self::NotAllowed => new(S::FORBIDDEN, "forbidden"),
            Self::NoSuchAddress => new(S::NOT_FOUND, "not_found"),
            Self::Method => new(S::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::TooSlow => new(S::REQUEST_TIMEOUT, "too_slow"),
            Self::TooLarge => new(S::PAYLOAD_TOO_LARGE, "too_large"),
            Self::ContentType => new(S::UNSUPPORTED_MEDIA_TYPE, "content_type"),
            Self::Fields(_) => new(S::UNPROCESSABLE_ENTITY, "refused"),
            Self::TooOften { retry_after } => too_often(*retry_after),
            Self::Busy(_) => busy(),
            Self::Auth(error) => auth_answer(error),
            Self::Store(error) => store_answer(error),
            Self::Deploy(error) => deploy_answer(error),
            Self::Vote(error) => vote_answer(error),
            Self::Vault(_) | Self::Template(_) => internal(),
        }
    }
}

fn internal() -> Answer {
    Answer::new(StatusCode::INTERNAL_SERVER_ERROR, "internal")
}

fn busy() -> Answer {
    Answer::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable").retry_after(Duration::from_secs(2))
}

fn disk_full() -> Answer {
    Answer::new(StatusCode::SERVICE_UNAVAILABLE, "disk_full").retry_after(Duration::from_secs(10))
}

fn is_disk_full(cause: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(cause.kind(), StorageFull | QuotaExceeded)
}

fn fault_answer(fault: Fault) -> Answer {
    use StatusCode as S;
    let (status, code) = match fault {
        Fault::Head | Fault::Host | Fault::Length | Fault::Coding => (S::BAD_REQUEST, "malformed"),
        Fault::Method => (S::METHOD_NOT_ALLOWED, "method_not_allowed"),
        Fault::Slow => (S::REQUEST_TIMEOUT, "too_slow"),
        Fault::TooLarge => (S::PAYLOAD_TOO_LARGE, "too_large"),
        Fault::LongTarget => (S::URI_TOO_LONG, "address_too_long"),
        Fault::Expectation => (S::EXPECTATION_FAILED, "expectation_failed"),
        Fault::LongHead => (S::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_long"),
        Fault::UnknownCoding => (S::NOT_IMPLEMENTED, "unknown_coding"),
        Fault::Version => (S::HTTP_VERSION_NOT_SUPPORTED, "unknown_version"),
    };
    match fault.field() {
        "" => Answer::new(status, code),
        field => Answer::new(status, code).field(field),
    }
}

fn too_often(retry_after: Duration) -> Answer {
    let wait = retry_after.max(Duration::from_secs(1));
    Answer::new(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts")
        .arg("seconds", wait.as_secs())
        .retry_after(wait)
}

fn auth_answer(error: &AuthError) -> Answer {
    use StatusCode as S;
    let new = Answer::new;
    match error {
        AuthError::LoginFailed => new(S::UNAUTHORIZED, "login_failed").field("form"),
        AuthError::TooManyAttempts { retry_after } => too_often(*retry_after).field("form"),
        AuthError::LinkExpired => new(S::NOT_FOUND, "link_expired"),
        AuthError::AlreadySetUp => new(S::CONFLICT, "already_set_up"),
        AuthError::BadName => new(S::UNPROCESSABLE_ENTITY, "invalid_name").field("name"),
        AuthError::BadPassword(why) => match why {
            BadPassword::TooShort => new(S::UNPROCESSABLE_ENTITY, "too_short"),
            BadPassword::TooLong => new(S::UNPROCESSABLE_ENTITY, "too_long"),
            BadPassword::Common => new(S::UNPROCESSABLE_ENTITY, "password_too_weak"),
        }
        .arg("min", SHORTEST_PASSWORD)
        .arg("max", LONGEST_PASSWORD)
        .field("password"),
        AuthError::UnknownUser { .. } => new(S::NOT_FOUND, "not_found"),
        AuthError::ForeignSource | AuthError::Csrf => new(S::FORBIDDEN, "csrf"),
        AuthError::Hash(_) => internal(),
        AuthError::Store(error) => store_answer(error),
    }
}

fn store_answer(error: &StoreError) -> Answer {
    use StatusCode as S;
    let new = Answer::new;
    match error {
        StoreError::NotFound { .. } => new(S::NOT_FOUND, "not_found"),
        StoreError::Taken { field } => new(S::UNPROCESSABLE_ENTITY, "taken").field(*field),
        StoreError::InUse { by, .. } => new(S::CONFLICT, "in_use").arg("by", by),
        StoreError::JumpLoop { .. } => new(S::UNPROCESSABLE_ENTITY, "jump_loop").field("jump_id"),
        StoreError::ReleaseActive { active } => {
            new(S::CONFLICT, "release_active").arg("id", active)
        }
        StoreError::IllegalChange { .. } => new(S::CONFLICT, "release_ended"),
        StoreError::Pool(_) | StoreError::LogClosed => busy(),
        StoreError::Database(_) if error.is_disk_full() => disk_full(),
        StoreError::Database(_) if error.is_passing() => busy(),
        StoreError::Database(_) | StoreError::Open { .. } | StoreError::Corrupt { .. } => {
            internal()
        }
    }
}

fn vote_answer(error: &VoteError) -> Answer {
    use StatusCode as S;
    let new = Answer::new;
    match error {
        VoteError::Unknown => new(S::NOT_FOUND, "not_found"),
        VoteError::Closed => new(S::CONFLICT, "vote_closed"),
        VoteError::NoSuchOption => new(S::UNPROCESSABLE_ENTITY, "unknown_choice").field("choice"),
        VoteError::NotOrganiser => new(S::FORBIDDEN, "vote_not_yours"),
        VoteError::TooMany => new(S::CONFLICT, "vote_too_many"),
        VoteError::Store(error) => store_answer(error),
    }
}

fn deploy_answer(error: &DeployError) -> Answer {
    use StatusCode as S;
    let new = Answer::new;
    match error {
        DeployError::Store(error) => store_answer(error),
        DeployError::Git(error) => git_answer(error),
        DeployError::Fetch(error) => git_answer(error),
        DeployError::Fetching => {
            new(S::SERVICE_UNAVAILABLE, "fetching").retry_after(Duration::from_secs(5))
        }
        DeployError::Busy(_) => busy(),
        DeployError::Ssh(error) if is_of_a_path(&error.cause) => {
            new(S::UNPROCESSABLE_ENTITY, "remote_path")
                .said("cause", &error.cause)
                .field("path")
        }
        DeployError::Ssh(error) => new(S::BAD_GATEWAY, "ssh_failed")
            .arg("server", &error.address)
            .said("cause", &error.cause),
        DeployError::NoServers => new(S::UNPROCESSABLE_ENTITY, "no_servers").field("project_id"),
        DeployError::Shared(clash) => shared_answer(clash),
        DeployError::Ended { .. } => new(S::CONFLICT, "release_ended"),
        DeployError::NotKept { .. } => new(S::CONFLICT, "release_not_succeeded"),
        DeployError::FingerprintMismatch { .. } => {
            new(S::UNPROCESSABLE_ENTITY, "host_key_mismatch").field("fingerprint")
        }
        DeployError::WrongCredential { .. } => {
            new(S::UNPROCESSABLE_ENTITY, "wrong_credential").field("credential_id")
        }
        DeployError::ThisMachine { .. } => new(S::UNPROCESSABLE_ENTITY, "this_machine"),
        DeployError::NoHostKey { .. } => {
            new(S::UNPROCESSABLE_ENTITY, "no_host_key").field("fingerprint")
        }
        DeployError::File { cause, .. } if is_disk_full(cause) => disk_full(),
        DeployError::Vault(_) | DeployError::Account(_) | DeployError::File { .. } => internal(),
    }
}

fn shared_answer(clash: &Clash) -> Answer {
    let new = |code| Answer::new(StatusCode::CONFLICT, code);
    match (&clash.neighbour, clash.relation) {
        (Neighbour::Project(title), Relation::Same) => new("path_shared").arg("title", title),
        (Neighbour::Server, Relation::Same) => new("place_shared").arg("name", &clash.server),
        _ => new("paths_overlap").said("cause", clash),
    }
}

/// True if the cause is the requested path on the server.
fn is_of_a_path(cause: &Cause) -> bool {
    matches!(cause, Cause::RemoteFile { .. })
}

fn git_answer(error: &GitError) -> Answer {
    use StatusCode as S;
    let new = Answer::new;
    match error {
        GitError::InvalidRevision { .. } => {
            new(S::UNPROCESSABLE_ENTITY, "invalid_revision").field("ref")
        }
        GitError::UnknownRevision { revision, .. }
        | GitError::UnknownCommit {
            commit: revision, ..
        } => new(S::UNPROCESSABLE_ENTITY, "unknown_revision")
            .arg("revision", revision)
            .field("ref"),
        GitError::Disk { cause, .. } if is_disk_full(cause) => disk_full(),
        GitError::UnknownHostKey { .. } => new(S::CONFLICT, "host_key_unknown"),
        GitError::HostKeyChanged { .. } => new(S::CONFLICT, "host_key_changed"),
        GitError::Authentication { .. } => new(S::BAD_GATEWAY, "git_denied"),
        GitError::Unreachable { reason, .. } => {
            new(S::BAD_GATEWAY, "git_unreachable").said("cause", Said::of_reason(reason))
        }
        other => new(S::BAD_GATEWAY, "git_failed").said("cause", other),
    }
}
