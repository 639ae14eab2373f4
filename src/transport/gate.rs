//! What the wire asks of the rest of the house. The app implements it.

use std::net::IpAddr;

use actix_web::HttpRequest;
use futures_util::future::{Either, LocalBoxFuture, Ready};

use super::{Wire, refusal::Refusal};
use crate::auth::{Proof, head_of};
use crate::http::{Head, Sites};
use crate::hub::{Kind, RoomName};

/// An answer that is there at once or comes later. What is known without waiting costs no allocation:
/// return [`ready`]; else [`later`].
pub type Soon<'a, T> = Either<Ready<T>, LocalBoxFuture<'a, T>>;

/// An answer that is there.
pub fn ready<'a, T>(answer: T) -> Soon<'a, T> {
    Either::Left(futures_util::future::ready(answer))
}

/// An answer that has to be waited for.
pub fn later<'a, T>(answer: impl Future<Output = T> + 'a) -> Soon<'a, T> {
    Either::Right(Box::pin(answer))
}

/// The answer, where it is there; else it is not asked for.
pub(super) fn at_once<T>(answer: Soon<'_, T>) -> Option<T> {
    match answer {
        Either::Left(ready) => Some(ready.into_inner()),
        Either::Right(_) => None,
    }
}

/// What a request shows of its sender.
#[derive(Clone, Debug, Default)]
pub struct Asker<'a> {
    /// A login, perhaps.
    pub proof: Proof,
    /// The other end of the connection: the sender, or the proxy in front of this server.
    pub peer: Option<IpAddr>,
    /// The lines of `X-Forwarded-For`, in their order. Anybody may write them: whether they count is
    /// the gate's to know.
    pub forwarded: Vec<&'a str>,
    /// The request's `Host` is a name that a stranger may have given this server; see
    /// [`Sites::know_host`].
    pub foreign_host: bool,
}

impl<'a> Asker<'a> {
    /// What `request` shows.
    pub(super) fn of(wire: &Wire, request: &'a HttpRequest) -> Asker<'a> {
        let peer = request.peer_addr().map(|peer| peer.ip());
        Asker::read(wire.gate.sites(), peer, &head_of(request))
    }

    /// What a request with these headers shows that came from `peer`.
    pub(super) fn read(sites: &Sites, peer: Option<IpAddr>, head: &Head<'a>) -> Asker<'a> {
        Asker {
            proof: Proof::of(head),
            peer,
            forwarded: head.forwarded_for(),
            foreign_host: !sites.know_host(head),
        }
    }
}

/// Who is asking.
#[derive(Clone, Debug, Default)]
pub struct Who {
    /// The account that is logged in, by cookie or bearer token; `None`: anonymous.
    pub account: Option<String>,
    /// What showed it, so that it can be looked at again: a login may end while a poll is held.
    pub proof: Proof,
    /// Where the request came from, as far as that can be trusted.
    pub address: Option<IpAddr>,
    /// See [`Asker::foreign_host`].
    pub foreign_host: bool,
}

/// A message that a client wants to publish; all bounds are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// A `chat` or `vote` room.
    pub room: RoomName,
    /// What the room's family makes it: `message` or `vote`.
    pub kind: Kind,
    /// The account, else the name that was given, else empty.
    pub from: String,
    /// Whether `from` is an account.
    pub is_account: bool,
    /// The content: at least one byte, at most 64 KiB.
    pub content: String,
}

/// Knows logins, rights, modes and the log.
pub trait Gate: Send + Sync + 'static {
    /// Who asks. Without a proof, or with one that is not valid, the asker is anonymous:
    /// whether that will do is for the rooms to say.
    ///
    /// # Errors
    /// A [`Refusal`] where it cannot be found out.
    fn who(&self, asker: Asker<'_>) -> Soon<'_, Result<Who, Refusal>>;

    /// Whether `who` may read all of `rooms` at this moment. Asked at each poll, and again before a
    /// held answer is written; must see a right that was taken away in between.
    ///
    /// # Errors
    /// 401 where a login is needed, 403 where it does not suffice (or the room's mode is off).
    fn may_read<'a>(&'a self, who: &'a Who, rooms: &'a [RoomName])
    -> Soon<'a, Result<(), Refusal>>;

    /// The addresses under which this server is known: what another site's page asks for is refused.
    fn sites(&self) -> &Sites;

    /// Whether `who` may publish `draft`: the room's mode, rates. A yes counts as a message of its sender.
    ///
    /// # Errors
    /// 401, 403, 429.
    fn may_publish<'a>(&'a self, who: &'a Who, draft: &'a Draft) -> Soon<'a, Result<(), Refusal>>;

    /// [`append`](Gate::append) where that needs no waiting; `None`: it does, and nothing was done.
    fn append_at_once(&self, draft: &Draft) -> Option<u64>;

    /// Appends to the log, durable against a kill of the server; the log's one writer publishes it to
    /// the hub after the commit. The number it got.
    ///
    /// The future is dropped when the client disconnects: an append that has begun must then still be
    /// committed and published whole, or not at all.
    ///
    /// # Errors
    /// 503 where the log cannot be written.
    fn append(&self, draft: Draft) -> Soon<'_, Result<u64, Refusal>>;
}
