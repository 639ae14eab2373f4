//! Access control and message publication for the wire.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::authorization_cache::AuthorizationCache;
use crate::app::App;
use crate::auth::{Identity, Proof};
use crate::chat;
use crate::http::Sites;
use crate::hub::{Family, Kind, RoomName};
use crate::limits::Sender;
use crate::pools::Busy;
use crate::proxies::rate_limit_key;
use crate::store::{
    Appended, Moment, NewEvent, NotWritten, ProjectId, ReleaseId, StoreError, projects, releases,
};
use crate::transport::{Access, Asker, Code, Draft, Refusal, Soon, Who, later, ready};
use crate::vote::{VoteError, Voter, Votes, read_choice};

/// The shortest wait: `Retry-After` is in whole seconds, rounded up, and never 0.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// The app as the [`Access`] of the wire.
pub(super) struct AppAccess {
    app: App,
    cache: Arc<AuthorizationCache>,
}

impl AppAccess {
    pub(super) fn new(app: App) -> Self {
        Self {
            app,
            cache: Arc::default(),
        }
    }

    /// Runs a check off the async threads.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&App) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        match self.app.blocking(question).await {
            Ok(answer) => answer,
            Err(Busy) => Err(Refusal::new(Code::Unavailable, "", "the server is busy")),
        }
    }

    /// Appends a client's message unchanged.
    fn say(&self, draft: Draft) -> Soon<'_, Result<u64, Refusal>> {
        match self.app.store().append(said(draft)) {
            Ok(Appended::Now(number)) => ready(Ok(u64::try_from(number).unwrap_or_default())),
            Ok(appended) => later(async move {
                let number = appended
                    .number()
                    .await
                    .map_err(|error| not_written(&error))?;
                Ok(u64::try_from(number).unwrap_or_default())
            }),
            Err(error) => ready(Err(not_written(&error))),
        }
    }

    /// Checks that the mode of the room allows it to be used, with a login if it needs one.
    fn mode(&self, room: &RoomName, who: &Who) -> Result<(), Refusal> {
        chat::may_use(self.app.settings().chat, who.account.is_some()).map_err(|refused| {
            match refused {
                chat::Refused::LoginNeeded => login_needed(room),
                chat::Refused::Off => Refusal::new(
                    Code::Forbidden,
                    "room",
                    format!("the room {} is switched off here", room.as_str()),
                ),
            }
        })?;
        // A browser has no login cookie for a foreign name of this server.
        match who.account.is_none() && who.foreign_host {
            true => Err(foreign_host()),
            false => Ok(()),
        }
    }

    /// Checks the rate limit of the sender; a success counts.
    fn rate(&self, who: &Who, draft: &Draft) -> Result<(), Refusal> {
        let sender = match (&who.account, who.address) {
            (Some(account), _) => Sender::Account(account),
            (None, Some(address)) => Sender::Stranger {
                address,
                name: &draft.from,
            },
            // Only tests without a connection have no address.
            (None, None) => return Ok(()),
        };
        self.app
            .rates()
            .message(sender, draft.content.len(), Instant::now())
            .map_err(|wait| {
                Refusal::new(
                    Code::TooMany,
                    "",
                    "too many messages; send them more slowly",
                )
                .retry_after(wait.max(SHORTEST_WAIT))
            })
    }
}

fn foreign_host() -> Refusal {
    let message = "this server does not know the name in Host; the setting public_urls tells it";
    Refusal::new(Code::Forbidden, "host", message)
}

/// Converts a client's message to a row of the log.
fn said(draft: Draft) -> NewEvent {
    NewEvent {
        room: draft.room.as_str().to_owned(),
        kind: draft.kind.as_str().to_owned(),
        sender: draft.from,
        data: Value::from(draft.content).to_string(),
        at: Moment::now(),
    }
}

fn login_needed(room: &RoomName) -> Refusal {
    Refusal::new(
        Code::Login,
        "room",
        format!("the room {} needs a login", room.as_str()),
    )
}

fn unavailable(error: &dyn std::error::Error) -> Refusal {
    tracing::error!(%error, "the wire's access");
    Refusal::new(
        Code::Unavailable,
        "",
        "the server cannot tell now; try again",
    )
}

fn not_written(error: &NotWritten) -> Refusal {
    match error {
        // Not logged, since it would be for each message of a flood.
        NotWritten::Full => Refusal::new(Code::Unavailable, "", error.to_string()),
        NotWritten::Failed(cause) if cause.is_disk_full() => {
            tracing::error!(%error, "a message cannot be written");
            let message = "the server's disk is full; the message is not sent";
            Refusal::new(Code::DiskFull, "", message)
        }
        NotWritten::Closed | NotWritten::Failed(_) => unavailable(error),
    }
}

/// True if a room belongs to releases or projects.
fn is_of_releases(room: &RoomName) -> bool {
    let of = watched(room);
    of == "releases" || subject(of).is_some()
}

/// Checks that a logged-in account may read a room of releases: every account may see every
/// project, so the subject only has to exist.
fn may_see(app: &App, cache: &AuthorizationCache, room: &RoomName) -> Result<(), Refusal> {
    let Some((of, id)) = subject(watched(room)) else {
        return Ok(());
    };
    let unknown = || {
        Refusal::new(
            Code::Forbidden,
            "room",
            format!("there is no room {} for this login", room.as_str()),
        )
    };
    let asked = Instant::now();
    let found = match of {
        Subject::Release => {
            let id: ReleaseId = id.parse().map_err(|_| unknown())?;
            app.store().read(|conn| releases::find(conn, id).map(drop))
        }
        Subject::Project => {
            let id: ProjectId = id.parse().map_err(|_| unknown())?;
            app.store().read(|conn| projects::find(conn, id).map(drop))
        }
    };
    match found {
        Ok(()) => {
            cache.keep(room, asked);
            Ok(())
        }
        Err(StoreError::NotFound { .. }) => Err(unknown()),
        Err(error) => Err(unavailable(&error)),
    }
}

/// True if all these rooms are in the cache or need no check.
fn is_cached(cache: &AuthorizationCache, rooms: &[RoomName]) -> bool {
    let now = Instant::now();
    rooms
        .iter()
        .all(|room| subject(watched(room)).is_none() || cache.has(room, now))
}

/// The name of the room, or of the room whose presence it reports.
fn watched(room: &RoomName) -> &str {
    match room.family() {
        Family::Presence => room.rest().unwrap_or_default(),
        _ => room.as_str(),
    }
}

/// The subject of a room that needs a login.
#[derive(Clone, Copy)]
enum Subject {
    Release,
    Project,
}

/// The subject of the room with this name, and its id.
fn subject(room: &str) -> Option<(Subject, &str)> {
    match room.split_once('/')? {
        ("release", id) => Some((Subject::Release, id)),
        ("project", id) => Some((Subject::Project, id)),
        _ => None,
    }
}

fn identity(app: &App, proof: &Proof) -> Result<Option<Identity>, Refusal> {
    app.auth().who(proof).map_err(|error| unavailable(&error))
}

impl Access for AppAccess {
    fn who(&self, asker: Asker<'_>) -> Soon<'_, Result<Who, Refusal>> {
        let proxies = self.app.auth().proxies();
        let who = Who {
            account: None,
            address: asker
                .peer
                .map(|peer| rate_limit_key(proxies.sender(peer, &asker.forwarded))),
            proof: asker.proof,
            foreign_host: asker.foreign_host,
        };
        if matches!(who.proof, Proof::None) {
            return ready(Ok(who));
        }
        if let Some(identity) = self.app.auth().known(&who.proof) {
            let account = Some(identity.name);
            return ready(Ok(Who { account, ..who }));
        }
        later(async move {
            self.ask(move |app| {
                let account = identity(app, &who.proof)?.map(|identity| identity.name);
                Ok(Who { account, ..who })
            })
            .await
        })
    }

    fn may_read<'a>(
        &'a self,
        who: &'a Who,
        rooms: &'a [RoomName],
    ) -> Soon<'a, Result<(), Refusal>> {
        let of_releases: Vec<RoomName> = rooms
            .iter()
            .filter(|room| is_of_releases(room))
            .cloned()
            .collect();
        let mut others = rooms.iter().filter(|room| !is_of_releases(room));
        if let Err(refusal) = others.try_for_each(|room| self.mode(room, who)) {
            return ready(Err(refusal));
        }
        // If no login is needed, no right can have been revoked.
        let members_only = chat::may_use(self.app.settings().chat, false).is_err();
        let Some(first) = of_releases.first().or(rooms.first()).cloned() else {
            return ready(Ok(()));
        };
        if of_releases.is_empty() && !members_only {
            return ready(Ok(()));
        }
        if who.account.is_none() {
            return ready(Err(login_needed(&first)));
        }
        // Both answers are cached, so that many pollers need not queue for the database.
        if self.app.auth().known(&who.proof).is_some() && is_cached(&self.cache, &of_releases) {
            return ready(Ok(()));
        }
        let (proof, cache) = (who.proof.clone(), Arc::clone(&self.cache));
        later(async move {
            self.ask(move |app| match identity(app, &proof)? {
                Some(_) => of_releases
                    .iter()
                    .try_for_each(|room| may_see(app, &cache, room)),
                None => Err(login_needed(&first)),
            })
            .await
        })
    }

    fn sites(&self) -> &Sites {
        self.app.auth().sites()
    }

    fn may_publish<'a>(&'a self, who: &'a Who, draft: &'a Draft) -> Soon<'a, Result<(), Refusal>> {
        ready(
            self.mode(&draft.room, who)
                .and_then(|()| self.rate(who, draft)),
        )
    }

    fn append_at_once(&self, draft: &Draft) -> Option<u64> {
        if draft.kind == Kind::Vote {
            return None;
        }
        let number = self.app.store().try_append(said(draft.clone())).ok()?;
        u64::try_from(number).ok()
    }

    fn append(&self, draft: Draft) -> Soon<'_, Result<u64, Refusal>> {
        if draft.kind != Kind::Vote {
            return self.say(draft);
        }
        later(async move {
            let ballot = draft.clone();
            match self.ask(move |app| cast(app, &ballot)).await? {
                Some(number) => Ok(number),
                None => self.say(draft).await,
            }
        })
    }
}

/// Casts a client's message in a vote room as a ballot and returns the number of its message.
/// `None` if there is no vote of that name: the room is then a plain one.
fn cast(app: &App, draft: &Draft) -> Result<Option<u64>, Refusal> {
    let invalid = |field, message| Refusal::new(Code::Invalid, field, message);
    let votes = Votes::of(app.store());
    let name = draft.room.rest().unwrap_or_default();
    let found = votes.find(name).map_err(|error| unavailable(&error))?;
    if found.is_none() {
        return Ok(None);
    }
    let choice = read_choice(&draft.content)
        .map_err(|field| invalid(field, "a ballot is {\"choice\":N}, with N from 1"))?;
    let voter = match (draft.is_account, draft.from.as_str()) {
        (true, account) => Voter::account(account),
        (false, "") => return Err(invalid("name", "a ballot needs a login or a name")),
        (false, name) => Voter::program(name),
    };
    match votes.cast(name, &voter, choice) {
        Ok((_, number)) => Ok(u64::try_from(number).ok()),
        Err(VoteError::NoSuchOption) => Err(invalid("choice", "there is no such option")),
        Err(VoteError::Store(error)) => Err(unavailable(&error)),
        Err(error) => Err(invalid("room", &error.to_string())),
    }
}
