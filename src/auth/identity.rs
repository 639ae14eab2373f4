//! What a request shows to prove who it is, and who that turned out to be.

use subtle::ConstantTimeEq as _;

use crate::http::Head;
use crate::secret::Secret;
use crate::store::users::User;
use crate::store::{Role, UserId};

/// The cookie that carries a login session's token.
pub const SESSION_COOKIE: &str = "longshore_session";

/// What a request shows. A request with `Authorization: Bearer` is not let in by its cookie: the
/// header is what its sender meant. Other schemes are not ours, and the cookie counts beside them.
#[derive(Clone, Debug, Default)]
pub enum Proof {
    /// Nothing.
    #[default]
    None,
    /// A login session's token.
    Cookie(Secret<String>),
    /// An API token, or whatever stood behind `Bearer`: what is malformed opens nothing.
    Bearer(Secret<String>),
}

impl Proof {
    /// What a request with these headers shows.
    pub fn of(head: &Head<'_>) -> Self {
        if let Some(token) = head.bearer() {
            return Self::Bearer(Secret::new(token.to_owned()));
        }
        match head.cookie(SESSION_COOKIE) {
            Some(token) if !token.is_empty() => Self::Cookie(Secret::new(token.into_owned())),
            _ => Self::None,
        }
    }
}

/// How somebody proved who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// By a login cookie, as browsers do: changes need the CSRF token.
    Cookie,
    /// By an API token.
    Token,
}

/// Somebody who is known.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The account.
    pub user_id: UserId,
    /// The account's name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// What the forms of this login carry; none for API tokens.
    pub csrf: Option<String>,
    /// How it was proved.
    pub via: Via,
}

impl Identity {
    pub(super) fn new(user: &User, via: Via, csrf: Option<String>) -> Self {
        Self {
            user_id: user.id,
            name: user.name.clone(),
            role: user.role,
            csrf,
            via,
        }
    }

    /// Whether this may do what needs the role `needed`.
    pub fn may(&self, needed: Role) -> bool {
        self.role <= needed
    }

    /// Whether a change may go on with this CSRF token. With an API token it needs none.
    pub fn accepts_csrf(&self, given: Option<&str>) -> bool {
        match (&self.via, &self.csrf) {
            (Via::Token, _) => true,
            (Via::Cookie, Some(csrf)) => {
                given.is_some_and(|given| bool::from(given.as_bytes().ct_eq(csrf.as_bytes())))
            }
            (Via::Cookie, None) => false,
        }
    }
}
