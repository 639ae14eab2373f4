//! Credentials of requests, and the identities they prove.

use subtle::ConstantTimeEq as _;

use crate::http::Head;
use crate::secret::Secret;
use crate::store::users::User;
use crate::store::{Role, UserId};

/// The cookie with the token of a login session over http.
pub const SESSION_COOKIE: &str = "longshore_session";
/// The cookie with the token of a login session over https. Its prefix makes browsers refuse it
/// from any other host or port and from pages over http (RFC 6265bis §4.1.3.2).
pub const SECURE_SESSION_COOKIE: &str = "__Host-longshore_session";

/// The credentials of a request. A request with `Authorization: Bearer` is not authenticated by its
/// cookie, since its sender chose the header. Other schemes are ignored, so the cookie still counts
/// beside them.
#[derive(Clone, Debug, Default)]
pub enum Proof {
    /// No credentials.
    #[default]
    None,
    /// A login session's token.
    Cookie(Secret<String>),
    /// An API token, or any other value of `Bearer`; a malformed one is rejected.
    Bearer(Secret<String>),
}

impl Proof {
    /// The credentials in a request's headers.
    pub fn of(head: &Head<'_>) -> Self {
        if let Some(token) = head.bearer() {
            return Self::Bearer(Secret::new(token.to_owned()));
        }
        let session = |name| head.cookie(name).filter(|token| !token.is_empty());
        // The cookie without the prefix stays valid, for older logins and for browsers that use
        // both http and https.
        match session(SECURE_SESSION_COOKIE).or_else(|| session(SESSION_COOKIE)) {
            Some(token) => Self::Cookie(Secret::new(token.into_owned())),
            None => Self::None,
        }
    }
}

/// The way an identity was proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// A login cookie of a browser: changes need the CSRF token.
    Cookie,
    /// An API token.
    Token,
}

/// An authenticated sender.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The account's id.
    pub user_id: UserId,
    /// The account's name.
    pub name: String,
    /// The account's role.
    pub role: Role,
    /// The CSRF token of this login's forms; none for API tokens.
    pub csrf: Option<String>,
    /// The way it was proved.
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

    /// True if the role is `needed` or higher.
    pub fn may(&self, needed: Role) -> bool {
        self.role <= needed
    }

    /// True if a change is allowed with this CSRF token. API tokens need none.
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
