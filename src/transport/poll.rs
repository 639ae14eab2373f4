//! `GET /get_msg`, in both contracts.

use std::{net::IpAddr, sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{ConnectionType, Method},
    web,
};

use super::{
    Wire,
    access::{Access, Asker, Who},
    ask::{Ask, Contract},
    course,
    half_close::ClientEnd,
    origin,
    refusal::Refusal,
    reply,
    traffic::Way,
};
use crate::auth::{Proof, head_of};
use crate::hub::{Batch, ClientId, Poll, Position, RoomName};

/// The actix route. The request is dropped before the poll is held, so that a parked poll stays
/// small.
pub(super) async fn get_msg(
    request: HttpRequest,
    wire: web::Data<Wire>,
) -> Result<HttpResponse, Refusal> {
    let answer = answer(request, &wire).await;
    wire.traffic.count(&answer);
    answer
}

async fn answer(request: HttpRequest, wire: &Wire) -> Result<HttpResponse, Refusal> {
    origin::is_ours(wire, &head_of(&request))?;
    let ask = Ask::parse(request.query_string())?;
    let way = ask.way();
    let Ask {
        name,
        mut wait,
        contract,
    } = ask;
    let is_head = request.method() == Method::HEAD;
    if is_head {
        // A `HEAD` request receives no messages, so it is not held.
        wait = Duration::ZERO;
    }
    match contract {
        Contract::Course => {
            let who = wire.access.who(Asker::of(wire, &request)).await?;
            let client = ClientId::new(who.account.clone(), &name)?;
            let cookie = course::Carried::read(&head_of(&request), &name);
            let held = Held {
                wait,
                client_end: ClientEnd::of(&request),
                takes_messages: !is_head,
            };
            drop(request);
            let _present = wire.traffic.enter(way);
            course::get_msg(wire, &who, client, cookie, held).await
        }
        Contract::Full { rooms, after } => {
            let asker = Asker::of(wire, &request);
            let asked = Asked::new(asker, name.into(), rooms.into(), after, wait);
            let client_end = ClientEnd::of(&request);
            drop(request);
            let batch = full(wire, asked, &client_end).await?;
            let mut response = wire.reply(reply::batch(&batch));
            // The first polls of a page come on the connection that loaded the page. The next
            // connection begins with a poll and is served by the poll loop, which makes a parked
            // client much cheaper.
            if !wait.is_zero() && !client_end.is_ahead() {
                response
                    .head_mut()
                    .set_connection_type(ConnectionType::Close);
            }
            Ok(response)
        }
    }
}

/// The bounds of holding a poll.
pub(super) struct Held {
    /// The longest time.
    pub(super) wait: Duration,
    /// The event that ends it earlier.
    pub(super) client_end: ClientEnd,
    /// True if the client receives messages: false for `HEAD`.
    pub(super) takes_messages: bool,
}

/// A poll of the full contract, not yet authorized.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) proof: Proof,
    pub(super) peer: Option<IpAddr>,
    pub(super) forwarded: Vec<String>,
    pub(super) foreign_host: bool,
    pub(super) name: Arc<str>,
    pub(super) rooms: Arc<[RoomName]>,
    pub(super) after: Position,
    pub(super) wait: Duration,
}

impl Asked {
    /// A poll of `asker` as the client `name`.
    pub(super) fn new(
        asker: Asker<'_>,
        name: Arc<str>,
        rooms: Arc<[RoomName]>,
        after: Position,
        wait: Duration,
    ) -> Asked {
        Asked {
            proof: asker.proof,
            peer: asker.peer,
            forwarded: asker.forwarded.into_iter().map(str::to_owned).collect(),
            foreign_host: asker.foreign_host,
            name,
            rooms,
            after,
            wait,
        }
    }

    /// The sender of the poll.
    pub(super) fn asker(&self) -> Asker<'_> {
        Asker {
            proof: self.proof.clone(),
            peer: self.peer,
            forwarded: self.forwarded.iter().map(String::as_str).collect(),
            foreign_host: self.foreign_host,
        }
    }

    /// The hub poll of `client` with the identity `who`.
    pub(super) fn of(self, who: &Who, client: Arc<ClientId>) -> Poll {
        Poll {
            client,
            rooms: self.rooms,
            address: who.address,
            after: self.after,
            wait: self.wait,
            messages: usize::MAX,
            may_be_superseded: true,
        }
    }

    /// Identifies and authorizes the client.
    pub(super) async fn admit(self, access: &dyn Access) -> Result<(Who, Poll), Refusal> {
        let who = access.who(self.asker()).await?;
        let client = Arc::new(ClientId::new(who.account.clone(), &self.name)?);
        access.may_read(&who, &self.rooms).await?;
        let poll = self.of(&who, client);
        Ok((who, poll))
    }
}

/// Authorizes, holds, and authorizes again.
async fn full(wire: &Wire, asked: Asked, client_end: &ClientEnd) -> Result<Batch, Refusal> {
    let (who, poll) = asked.admit(&*wire.access).await?;
    let rooms = Arc::clone(&poll.rooms);
    let _present = wire.traffic.enter(Way::of_wait(poll.wait));
    let batch = wire.hub.poll_until(poll, client_end.come()).await?;
    if batch.held {
        wire.access.may_read(&who, &rooms).await?;
    }
    wire.hub.meter().answered(&batch, batch.held, 1);
    Ok(batch)
}
