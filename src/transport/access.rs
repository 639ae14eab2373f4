//! The interface between the wire and the rest of the server; `app` implements it.

use std::net::IpAddr;

use actix_web::HttpRequest;
use futures_util::future::{Either, LocalBoxFuture, Ready};

use super::{Wire, refusal::Refusal};
use crate::auth::{Proof, head_of};
use crate::http::{Head, Sites};
use crate::hub::{Kind, RoomName};

/// An answer that is available at once or later. An answer that needs no waiting costs no
/// allocation: return [`ready`] for it, [`later`] for others.
pub type Soon<'a, T> = Either<Ready<T>, LocalBoxFuture<'a, T>>;

/// An answer that is available.
pub fn ready<'a, T>(answer: T) -> Soon<'a, T> {
    Either::Left(futures_util::future::ready(answer))
}

/// An answer that has to be waited for.
pub fn later<'a, T>(answer: impl Future<Output = T> + 'a) -> Soon<'a, T> {
    Either::Right(Box::pin(answer))
}

/// The answer if it is available; otherwise the future is dropped without being polled.
pub(super) fn at_once<T>(answer: Soon<'_, T>) -> Option<T> {
    match answer {
        Either::Left(ready) => Some(ready.into_inner()),
        Either::Right(_) => None,
    }
}

/// The parts of a request that identify its sender.
#[derive(Clone, Debug, Default)]
pub struct Asker<'a> {
    /// The proof of a login, if there is one.
    pub proof: Proof,
    /// The other end of the connection: the sender, or the proxy in front of this server.
    pub peer: Option<IpAddr>,
    /// The lines of `X-Forwarded-For`, in order. Any client may write them; the access knows if they
    /// can be trusted.
    pub forwarded: Vec<&'a str>,
    /// True if `Host` is a name that a stranger may have pointed at this server; see
    /// [`Sites::know_host`].
    pub foreign_host: bool,
}

impl<'a> Asker<'a> {
    /// Reads the sender of `request`.
    pub(super) fn of(wire: &Wire, request: &'a HttpRequest) -> Asker<'a> {
        let peer = request.peer_addr().map(|peer| peer.ip());
        Asker::read(wire.access.sites(), peer, &head_of(request))
    }

    /// Reads the sender of a request from `peer` with these headers.
    pub(super) fn read(sites: &Sites, peer: Option<IpAddr>, head: &Head<'a>) -> Asker<'a> {
        Asker {
            proof: Proof::of(head),
            peer,
            forwarded: head.forwarded_for(),
            foreign_host: !sites.know_host(head),
        }
    }
}

/// The identity of a client.
#[derive(Clone, Debug, Default)]
pub struct Who {
    /// The account that is logged in, by cookie or bearer token; `None` if anonymous.
    pub account: Option<String>,
    /// The proof of the login, which is checked again: a login may end while a poll is held.
    pub proof: Proof,
    /// The client's address, as far as it can be trusted.
    pub address: Option<IpAddr>,
    /// See [`Asker::foreign_host`].
    pub foreign_host: bool,
}

/// A message to be published; its bounds are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// A `chat` or `vote` room.
    pub room: RoomName,
    /// The kind, by the family of the room: `message` or `vote`.
    pub kind: Kind,
    /// The account, else the given name, else empty.
    pub from: String,
    /// True if `from` is an account.
    pub is_account: bool,
    /// The content: at least one byte, at most 64 KiB.
    pub content: String,
}

/// Access control and the log, as the wire needs them.
pub trait Access: Send + Sync + 'static {
    /// Identifies a client. It is anonymous without a proof or with an invalid one; if that
    /// suffices is decided per room.
    ///
    /// # Errors
    /// A [`Refusal`] if the identity cannot be determined.
    fn who(&self, asker: Asker<'_>) -> Soon<'_, Result<Who, Refusal>>;

    /// Checks that `who` may read all of `rooms` now. Called at each poll, and again before a held
    /// response is written; must notice a right that was revoked in between.
    ///
    /// # Errors
    /// 401 if a login is needed, 403 if the account has no right or the mode of the room is off.
    fn may_read<'a>(&'a self, who: &'a Who, rooms: &'a [RoomName])
    -> Soon<'a, Result<(), Refusal>>;

    /// The public addresses of this server; requests from pages of other sites are refused.
    fn sites(&self) -> &Sites;

    /// Checks that `who` may publish `draft`, by the mode of the room and the rate limits. A
    /// success counts as a message of its sender.
    ///
    /// # Errors
    /// 401 if a login is needed, 403 if the account has no right or the mode of the room is off,
    /// 429 above the rate limit.
    fn may_publish<'a>(&'a self, who: &'a Who, draft: &'a Draft) -> Soon<'a, Result<(), Refusal>>;

    /// [`append`](Access::append) if it needs no waiting; `None` if it does, and nothing was
    /// appended.
    fn append_at_once(&self, draft: &Draft) -> Option<u64>;

    /// Appends to the log and returns the number of the message. It is durable against a kill of
    /// the server; the log's single writer publishes it to the hub after the commit.
    ///
    /// The future is dropped when the client disconnects: an append that has begun must still be
    /// committed and published as a whole, or not at all.
    ///
    /// # Errors
    /// 503 if the log cannot be written.
    fn append(&self, draft: Draft) -> Soon<'_, Result<u64, Refusal>>;
}
