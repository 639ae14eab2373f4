//! Authentication and authorization: passwords, login sessions, roles, CSRF and API tokens.
//!
//! [`Auth`] is the only handle. A request's [`Proof`] (a login cookie or a bearer token) becomes an
//! [`Identity`]; [`Auth::check_source`] refuses changes requested by another site's page. Every
//! function that uses the database or hashes a password blocks: async code calls it on the blocking
//! pool.

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
pub use identity::{Identity, Proof, SECURE_SESSION_COOKIE, SESSION_COOKIE, Via};
pub use password::{BadPassword, LONGEST_PASSWORD, SHORTEST_PASSWORD};

use known::Known;
use limiter::LoginLimiter;

/// The lifetime of a one-time link.
pub const LINK_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest account name, in characters.
pub const LONGEST_NAME: usize = 64;

/// Settings of logins.
#[derive(Clone, Debug)]
pub struct AuthOptions {
    /// The lifetime of a login, in days.
    pub login_days: u32,
    /// The addresses under which browsers know this server, besides the `Host` of a request.
    pub public_urls: Vec<String>,
    /// The reverse proxies in front of this server.
    pub proxies: Proxies,
}

/// A new login.
#[derive(Debug)]
pub struct Login {
    /// The cookie's token.
    pub token: Secret<String>,
    /// The account.
    pub user: User,
}

/// The handle; clones share the limiter and the cache.
#[derive(Clone)]
pub struct Auth(Arc<Inner>);

struct Inner {
    store: Store,
    login_days: u32,
    sites: Sites,
    proxies: Proxies,
    limiter: LoginLimiter,
    known: Known,
    hashing: password::Turns,
}

impl Auth {
    /// A handle for the accounts and logins in `store`.
    pub fn new(store: Store, options: &AuthOptions) -> Self {
        let machine = rustix::system::uname();
        let sites = Sites::new(
            &options.public_urls,
            machine.nodename().to_str().unwrap_or_default(),
        );
        Self(Arc::new(Inner {
            store,
            login_days: options.login_days,
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
    /// [`AuthError::BadName`], [`AuthError::BadPassword`] or
    /// [`StoreError::Taken`](crate::store::StoreError::Taken); database errors.
    pub fn add_user(&self, name: &str, password: &Secret<String>, role: Role) -> Result<User> {
        let hash = self.new_hash(name, password)?;
        Ok(self
            .0
            .store
            .write(|conn| users::add(conn, name, &hash, role))?)
    }

    /// Creates an API token with the rights of its account. It cannot be shown again.
    ///
    /// # Errors
    /// [`AuthError::UnknownUser`]; database errors.
    pub fn create_token(&self, user_name: &str) -> Result<Secret<String>> {
        let user = self.user(user_name)?;
        let token = new_token();
        let print = fingerprint(token.expose());
        self.0
            .store
            .write(|conn| logins::add_token(conn, user.id, &print))?;
        Ok(token)
    }

    /// Creates a one-time link that logs an account in and returns its token; see [`login_path`].
    ///
    /// # Errors
    /// [`AuthError::UnknownUser`]; database errors.
    pub fn login_link(&self, user_name: &str) -> Result<Secret<String>> {
        let user = self.user(user_name)?;
        self.add_link(Some(user.id))
    }

    /// Creates a one-time link for making the first account and returns its token; see
    /// [`setup_path`].
    ///
    /// # Errors
    /// Database errors.
    pub fn setup_link(&self) -> Result<Secret<String>> {
        self.add_link(None)
    }

    /// True if no account exists.
    ///
    /// # Errors
    /// Database errors.
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

    /// Logs in with a password, from `address`. Ends the session in `old`, if any, so that a token
    /// known before the login is worthless after it.
    ///
    /// # Errors
    /// [`AuthError::LoginFailed`], [`AuthError::TooManyAttempts`]; database errors.
    pub fn log_in(
        &self,
        name: &str,
        password: &Secret<String>,
        address: IpAddr,
        old: &Proof,
    ) -> Result<Login> {
        let limited = |retry_after| AuthError::TooManyAttempts { retry_after };
        let limiter = &self.0.limiter;
        // The check comes before hashing, so that a client limited while waiting costs no hash.
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
        // Concurrent attempts all pass the first check; only the allowed number of them may learn
        // their result.
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
                // The name field may contain a password typed by mistake, so only names of accounts
                // are logged.
                match is_account {
                    true => tracing::warn!(account = name, %address, "login failed"),
                    false => tracing::warn!(%address, "login failed: no such account"),
                }
                limiter.failed(name, address, Instant::now());
                Err(AuthError::LoginFailed)
            }
        }
    }

    /// Logs in by a one-time link and uses it up.
    ///
    /// # Errors
    /// [`AuthError::LinkExpired`]; database errors.
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

    /// True if a set-up link can still be used.
    ///
    /// # Errors
    /// Database errors.
    pub fn setup_is_open(&self, link: &str) -> Result<bool> {
        let print = fingerprint(link);
        Ok(self
            .0
            .store
            .read(|conn| Ok(logins::setup_link_is_open(conn, &print)? && users::none(conn)?))?)
    }

    /// Creates the first account, an admin, and logs it in. Uses the link up.
    ///
    /// # Errors
    /// [`AuthError::LinkExpired`], [`AuthError::AlreadySetUp`], [`AuthError::BadName`] or
    /// [`AuthError::BadPassword`]; database errors.
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

    /// Ends the session of `proof`.
    ///
    /// # Errors
    /// Database errors.
    pub fn log_out(&self, proof: &Proof) -> Result<()> {
        self.taking(|conn| self.close(conn, proof))
    }

    /// A write that may revoke a right; invalidates the cache afterwards.
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

    /// The identity of `proof`; `None` if the proof is unknown or expired, or its account disabled.
    ///
    /// # Errors
    /// Database errors.
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

    /// The cached identity of `proof`: looked up at most a second ago, with no right revoked in
    /// this process since. Otherwise use [`who`](Self::who). Does not block: used by polls.
    pub fn known(&self, proof: &Proof) -> Option<Identity> {
        self.0.known.get(proof, Instant::now())
    }

    /// The reverse proxies that are trusted to name a request's sender.
    pub fn proxies(&self) -> &Proxies {
        &self.0.proxies
    }

    /// The address of a request's sender, as far as it can be trusted; `None` without a connection.
    pub fn sender(&self, request: &HttpRequest) -> Option<IpAddr> {
        let peer = request.peer_addr()?.ip();
        let forwarded = head_of(request).forwarded_for();
        Some(self.0.proxies.sender(peer, &forwarded))
    }

    /// The addresses under which this server is known.
    pub fn sites(&self) -> &Sites {
        &self.0.sites
    }

    /// Refuses a change requested by another site's page, and one by a login cookie without a
    /// stated origin. Safe requests pass, because links may come from anywhere.
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

    /// True if the browser uses https, according to a trusted proxy, to the page that sent the
    /// request, or to the public addresses. `peer` is the other end of the connection.
    pub fn is_https(&self, head: &Head<'_>, peer: Option<IpAddr>) -> bool {
        let is_trusted = peer.is_some_and(|peer| self.0.proxies.trust(peer));
        match head.forwarded_https().filter(|_| is_trusted) {
            Some(is_https) => is_https,
            None => self.0.sites.is_https(head),
        }
    }

    /// The cookie for `login`; over https also the removal of the cookie without the prefix.
    pub fn cookies(&self, login: &Login, is_https: bool) -> Vec<Cookie<'static>> {
        let mut kept = session_cookie(login.token.expose().clone(), is_https);
        kept.set_max_age(actix_web::cookie::time::Duration::seconds(
            self.login_seconds(),
        ));
        let old = is_https.then(|| removal_cookie(false));
        std::iter::once(kept).chain(old).collect()
    }

    /// The cookies that remove a login.
    pub fn no_cookies(&self, is_https: bool) -> Vec<Cookie<'static>> {
        let secure = is_https.then(|| removal_cookie(true));
        secure.into_iter().chain([removal_cookie(false)]).collect()
    }

    /// Checks a new account's name and password and returns the password's hash.
    fn new_hash(&self, name: &str, password: &Secret<String>) -> Result<String> {
        let fits = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
        if name.is_empty() || name.chars().count() > LONGEST_NAME || !name.chars().all(fits) {
            return Err(AuthError::BadName);
        }
        password::check_new(name, password)?;
        let _turn = self.0.hashing.take();
        password::hash(password)
    }
}

fn session_cookie(value: String, is_https: bool) -> Cookie<'static> {
    let name = if is_https {
        SECURE_SESSION_COOKIE
    } else {
        SESSION_COOKIE
    };
    Cookie::build(name, value)
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(is_https)
        .finish()
}

fn removal_cookie(is_https: bool) -> Cookie<'static> {
    let mut cookie = session_cookie(String::new(), is_https);
    cookie.make_removal();
    cookie
}

/// The headers of `request`, parsed.
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
