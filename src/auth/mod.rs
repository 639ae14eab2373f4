//! Who is it, and may they: passwords, login sessions, roles, CSRF and API tokens.
//!
//! [`Auth`] is the one handle. A request's [`Proof`] (a login cookie or a bearer token) becomes an
//! [`Identity`]; [`Auth::check_source`] refuses changes that a page of another site asks for.
//! Everything that reaches the database or hashes a password blocks: async code calls it on the
//! blocking pool.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::HttpRequest;
use actix_web::cookie::{Cookie, SameSite};

use crate::http::{Head, Sites, Source};
use crate::proxies::Proxies;
use crate::secret::{Secret, fingerprint, new_token};
use crate::store::users::User;
use crate::store::{Conn, Moment, Role, Store, UserId, logins, users};

mod accounts;
mod error;
mod identity;
mod known;
mod limiter;
mod password;
#[cfg(test)]
mod tests;

pub use error::{AuthError, Result};
pub use identity::{Identity, Proof, SESSION_COOKIE, Via};
pub use password::{BadPassword, LONGEST_PASSWORD, SHORTEST_PASSWORD};

use known::Known;
use limiter::LoginLimiter;

/// How long a one-time link can be used.
pub const LINK_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest account name, in characters.
pub const LONGEST_NAME: usize = 64;

/// What an operator may choose about logins.
#[derive(Clone, Debug)]
pub struct AuthOptions {
    /// How long a login lasts, in days.
    pub login_days: u32,
    /// The addresses that browsers know this server by, beside the `Host` of a request.
    pub public_urls: Vec<String>,
    /// The reverse proxies in front of this server.
    pub proxies: Proxies,
}

/// A login that has just begun.
#[derive(Debug)]
pub struct Login {
    /// What the cookie carries.
    pub token: Secret<String>,
    /// Whose it is.
    pub user: User,
}

/// The handle; clones share the limiter.
#[derive(Clone)]
pub struct Auth(Arc<Inner>);

struct Inner {
    store: Store,
    login_days: u32,
    sites: Sites,
    /// Whether cookies are for https alone: where browsers come over https.
    secure: bool,
    proxies: Proxies,
    limiter: LoginLimiter,
    known: Known,
    hashing: password::Turns,
}

impl Auth {
    /// Accounts and logins in `store`.
    pub fn new(store: Store, options: &AuthOptions) -> Self {
        let machine = rustix::system::uname();
        let sites = Sites::new(
            &options.public_urls,
            machine.nodename().to_str().unwrap_or_default(),
        );
        let mut origins = sites.origins().iter();
        Self(Arc::new(Inner {
            store,
            login_days: options.login_days,
            secure: origins.any(|own| own.starts_with("https:")),
            sites,
            proxies: options.proxies.clone(),
            limiter: LoginLimiter::default(),
            known: Known::default(),
            hashing: password::Turns::default(),
        }))
    }

    /// Adds an account.
    ///
    /// # Errors
    /// [`AuthError::BadName`], [`AuthError::BadPassword`], or `Taken` of the store.
    pub fn add_user(&self, name: &str, password: &Secret<String>, role: Role) -> Result<User> {
        let hash = self.new_hash(name, password)?;
        Ok(self
            .0
            .store
            .write(|conn| users::add(conn, name, &hash, role))?)
    }

    /// Makes a token for the API; it may do what its account may. It cannot be shown again.
    pub fn create_token(&self, user_name: &str) -> Result<Secret<String>> {
        let user = self.user(user_name)?;
        let token = new_token();
        let print = fingerprint(token.expose());
        self.0
            .store
            .write(|conn| logins::add_token(conn, user.id, &print))?;
        Ok(token)
    }

    /// The token of a one-time link that logs an account in; see [`login_path`].
    pub fn login_link(&self, user_name: &str) -> Result<Secret<String>> {
        let user = self.user(user_name)?;
        self.add_link(Some(user.id))
    }

    /// The token of a one-time link under which the first account is made; see [`setup_path`].
    pub fn setup_link(&self) -> Result<Secret<String>> {
        self.add_link(None)
    }

    /// Whether there is no account yet.
    pub fn needs_setup(&self) -> Result<bool> {
        Ok(self.0.store.read(users::none)?)
    }

    fn user(&self, name: &str) -> Result<User> {
        self.0
            .store
            .read(|conn| users::by_name(conn, name))?
            .ok_or_else(|| AuthError::UnknownUser {
                name: name.to_owned(),
            })
    }

    fn add_link(&self, user: Option<UserId>) -> Result<Secret<String>> {
        let token = new_token();
        let print = fingerprint(token.expose());
        let until = Moment::now().plus_seconds(LINK_LIFE.as_secs() as i64);
        self.0.store.write(|conn| {
            logins::sweep(conn)?;
            logins::add_link(conn, user, &print, until)
        })?;
        Ok(token)
    }

    /// Logs in with a password, coming from `address`. The session in `old`, if any, ends, so that
    /// a token known before the login is worth nothing after it.
    ///
    /// # Errors
    /// [`AuthError::LoginFailed`], [`AuthError::TooManyAttempts`].
    pub fn log_in(
        &self,
        name: &str,
        password: &Secret<String>,
        address: IpAddr,
        old: &Proof,
    ) -> Result<Login> {
        let limited = |retry_after| AuthError::TooManyAttempts { retry_after };
        let limiter = &self.0.limiter;
        // Whoever has failed too often while waiting for a turn costs no hash.
        let turn = self.0.hashing.take();
        limiter
            .check(name, address, Instant::now())
            .map_err(limited)?;
        let user = self.0.store.read(|conn| users::by_name(conn, name))?;
        let user = user.filter(|user| !user.disabled);
        let hash = user.as_ref().map(|user| user.password_hash.as_str());
        let is_account = user.is_some();
        let right = password::verify(password, hash);
        drop(turn);
        // Attempts sent side by side all pass the first check; only as many as are allowed may
        // learn whether they were right.
        limiter
            .check(name, address, Instant::now())
            .map_err(limited)?;
        match user.filter(|_| right) {
            Some(user) => {
                limiter.forget(name, address);
                let login = self.taking(|conn| {
                    logins::sweep(conn)?;
                    self.close(conn, old)?;
                    self.open(conn, user)
                })?;
                Ok(login)
            }
            None => {
                // What was typed in the name's place may be a password: only a name that is one is told.
                match is_account {
                    true => tracing::warn!(account = name, %address, "login failed"),
                    false => tracing::warn!(%address, "login failed: no such account"),
                }
                limiter.failed(name, address, Instant::now());
                Err(AuthError::LoginFailed)
            }
        }
    }

    /// Logs in by a one-time link, which is used up.
    pub fn enter(&self, link: &str, old: &Proof) -> Result<Login> {
        self.taking(|conn| {
            let Some(Some(user)) = logins::take_link(conn, &fingerprint(link))? else {
                return Ok(None);
            };
            self.close(conn, old)?;
            self.open(conn, user).map(Some)
        })?
        .ok_or(AuthError::LinkExpired)
    }

    /// Whether a set-up link can still be used.
    pub fn setup_is_open(&self, link: &str) -> Result<bool> {
        let print = fingerprint(link);
        Ok(self
            .0
            .store
            .read(|conn| Ok(logins::setup_link_is_open(conn, &print)? && users::none(conn)?))?)
    }

    /// Makes the first account, an admin, and logs it in. The link is used up.
    pub fn set_up(&self, link: &str, name: &str, password: &Secret<String>) -> Result<Login> {
        if !self.setup_is_open(link)? {
            return Err(match self.needs_setup()? {
                true => AuthError::LinkExpired,
                false => AuthError::AlreadySetUp,
            });
        }
        let hash = self.new_hash(name, password)?;
        let print = fingerprint(link);
        self.0.store.write(|conn| {
            if !users::none(conn)? {
                return Ok(Err(AuthError::AlreadySetUp));
            }
            if !matches!(logins::take_link(conn, &print)?, Some(None)) {
                return Ok(Err(AuthError::LinkExpired));
            }
            let user = users::add(conn, name, &hash, Role::Admin)?;
            self.open(conn, user).map(Ok)
        })?
    }

    /// Ends the session that `proof` shows.
    pub fn log_out(&self, proof: &Proof) -> Result<()> {
        self.taking(|conn| self.close(conn, proof))
    }

    /// A write that takes a right away, or may.
    fn taking<T>(&self, queries: impl FnOnce(&mut Conn) -> crate::store::Result<T>) -> Result<T> {
        let done = self.0.store.write(queries);
        self.0.known.forget();
        Ok(done?)
    }

    fn open(&self, conn: &mut Conn, user: User) -> crate::store::Result<Login> {
        let token = new_token();
        let until = Moment::now().plus_seconds(self.login_seconds());
        let csrf = new_token();
        logins::open_session(
            conn,
            user.id,
            &fingerprint(token.expose()),
            csrf.expose(),
            until,
        )?;
        Ok(Login { token, user })
    }

    fn close(&self, conn: &mut Conn, proof: &Proof) -> crate::store::Result<()> {
        match proof {
            Proof::Cookie(token) => logins::close_session(conn, &fingerprint(token.expose())),
            _ => Ok(()),
        }
    }

    fn login_seconds(&self) -> i64 {
        i64::from(self.0.login_days) * 24 * 60 * 60
    }

    /// Who shows `proof`; none for a proof that is unknown, expired, or of a disabled account.
    pub fn who(&self, proof: &Proof) -> Result<Option<Identity>> {
        let look = self.0.known.look();
        let found = match proof {
            Proof::None => None,
            Proof::Cookie(token) => self
                .0
                .store
                .read(|conn| logins::session(conn, &fingerprint(token.expose())))?
                .map(|session| Identity::new(&session.user, Via::Cookie, Some(session.csrf))),
            Proof::Bearer(token) => self
                .0
                .store
                .read(|conn| logins::token_owner(conn, &fingerprint(token.expose())))?
                .map(|user| Identity::new(&user, Via::Token, None)),
        };
        self.0.known.keep(proof, look, found.as_ref());
        Ok(found)
    }

    /// Who shows `proof`, where that was found out at most a second ago and nobody has lost a right in
    /// this process since; else ask [`who`](Self::who). Does not block: for the polls of the wire.
    pub fn known(&self, proof: &Proof) -> Option<Identity> {
        self.0.known.get(proof, Instant::now())
    }

    /// The reverse proxies whose word about a request's origin counts.
    pub fn proxies(&self) -> &Proxies {
        &self.0.proxies
    }

    /// Where a request came from, as far as that can be trusted; none where it has no connection.
    pub fn sender(&self, request: &HttpRequest) -> Option<IpAddr> {
        let peer = request.peer_addr()?.ip();
        let forwarded = head_of(request).forwarded_for();
        Some(self.0.proxies.sender(peer, &forwarded))
    }

    /// The addresses under which this server is known.
    pub fn sites(&self) -> &Sites {
        &self.0.sites
    }

    /// Refuses a change that another site's page asks for, and one by a login cookie that does not
    /// tell where it comes from. Requests that change nothing pass: links from everywhere lead here.
    ///
    /// # Errors
    /// [`AuthError::ForeignSource`].
    pub fn check_source(&self, is_safe: bool, head: &Head<'_>) -> Result<()> {
        let by_cookie = || matches!(Proof::of(head), Proof::Cookie(_));
        match self.0.sites.source(head) {
            _ if is_safe => Ok(()),
            Source::Own => Ok(()),
            Source::Unstated if !by_cookie() => Ok(()),
            Source::Unstated | Source::Foreign => Err(AuthError::ForeignSource),
        }
    }

    /// The cookie that keeps `login`.
    pub fn cookie(&self, login: &Login) -> Cookie<'static> {
        let mut cookie = self.bare_cookie(login.token.expose().clone());
        cookie.set_max_age(actix_web::cookie::time::Duration::seconds(
            self.login_seconds(),
        ));
        cookie
    }

    /// The cookie that takes a login away.
    pub fn no_cookie(&self) -> Cookie<'static> {
        let mut cookie = self.bare_cookie(String::new());
        cookie.make_removal();
        cookie
    }

    /// The hash for a new account, whose name and password are checked first.
    fn new_hash(&self, name: &str, password: &Secret<String>) -> Result<String> {
        let fits = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
        if name.is_empty() || name.chars().count() > LONGEST_NAME || !name.chars().all(fits) {
            return Err(AuthError::BadName);
        }
        password::check_new(name, password)?;
        let _turn = self.0.hashing.take();
        password::hash(password)
    }

    fn bare_cookie(&self, value: String) -> Cookie<'static> {
        Cookie::build(SESSION_COOKIE, value)
            .path("/")
            .http_only(true)
            .same_site(SameSite::Lax)
            .secure(self.0.secure)
            .finish()
    }
}

/// What the headers of `request` show of its sender.
pub fn head_of(request: &HttpRequest) -> Head<'_> {
    let headers = request.headers().iter();
    Head::of(headers.map(|(name, value)| (name.as_str(), value.as_bytes())))
}

/// The path of a one-time login link.
pub fn login_path(link: &Secret<String>) -> String {
    format!("/enter/{}", link.expose())
}

/// The path of a one-time set-up link.
pub fn setup_path(link: &Secret<String>) -> String {
    format!("/setup/{}", link.expose())
}
