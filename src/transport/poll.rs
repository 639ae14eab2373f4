//! `GET /get_msg`, in both contracts.

use std::{net::IpAddr, sync::Arc, time::Duration};

use actix_web::{HttpRequest, HttpResponse, web};

use super::{
    Wire,
    ask::{Ask, Contract},
    course,
    gate::Asker,
    origin,
    refusal::Refusal,
    reply,
    traffic::Way,
};
use crate::auth::Proof;
use crate::hub::{Alarm, Batch, ClientId, Poll, Position, RoomName};

/// The actix route. The request itself is let go before the poll is held, so that what is parked stays
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
    origin::is_ours(wire, &request)?;
    let ask = Ask::parse(request.query_string())?;
    let way = ask.way();
    let Ask {
        name,
        wait,
        contract,
    } = ask;
    match contract {
        Contract::Course => {
            let who = wire.gate.who(Asker::of(&request)).await?;
            let client = ClientId::new(who.account.clone(), &name)?;
            let cookie = course::Carried::read(&request, &name);
            drop(request);
            let _present = wire.traffic.enter(way);
            course::get_msg(wire, &who, client, cookie, wait).await
        }
        Contract::Full { rooms, after } => {
            let Asker {
                proof,
                peer,
                forwarded,
            } = Asker::of(&request);
            let forwarded = forwarded.into_iter().map(str::to_owned).collect();
            drop(request);
            let asked = Asked {
                proof,
                peer,
                forwarded,
                name: name.into(),
                rooms: rooms.into(),
                after,
                wait,
            };
            let batch = full(wire, asked, &mut Habit::default()).await?;
            Ok(wire.reply(reply::batch(&batch)))
        }
    }
}

/// A poll of the full contract, as it came in.
pub(super) struct Asked {
    pub(super) proof: Proof,
    pub(super) peer: Option<IpAddr>,
    pub(super) forwarded: Vec<String>,
    pub(super) name: Arc<str>,
    pub(super) rooms: Arc<[RoomName]>,
    pub(super) after: Position,
    pub(super) wait: Duration,
}

/// What stays the same from poll to poll of one connection, so that it is made once.
#[derive(Default)]
pub(super) struct Habit {
    pub(super) alarm: Alarm,
    client: Option<(Arc<str>, Arc<ClientId>)>,
}

impl Habit {
    fn client(&mut self, account: Option<&str>, name: &Arc<str>) -> Result<Arc<ClientId>, Refusal> {
        if let Some((last, client)) = &self.client
            && Arc::ptr_eq(last, name)
            && client.account() == account
        {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(ClientId::new(account.map(str::to_owned), name)?);
        self.client = Some((Arc::clone(name), Arc::clone(&client)));
        Ok(client)
    }
}

/// Authorise, hold, authorise again.
pub(super) async fn full(wire: &Wire, asked: Asked, habit: &mut Habit) -> Result<Batch, Refusal> {
    let Asked {
        proof,
        peer,
        forwarded,
        name,
        rooms,
        after,
        wait,
    } = asked;
    let asker = Asker {
        proof,
        peer,
        forwarded: forwarded.iter().map(String::as_str).collect(),
    };
    let who = wire.gate.who(asker).await?;
    let client = habit.client(who.account.as_deref(), &name)?;
    wire.gate.may_read(&who, &rooms).await?;
    let _present = wire.traffic.enter(Way::of_wait(wait));
    let poll = Poll {
        client,
        rooms: Arc::clone(&rooms),
        address: who.address,
        after,
        wait,
        messages: usize::MAX,
        may_be_superseded: true,
    };
    let batch = wire.hub.poll_by(&mut habit.alarm, poll).await?;
    if batch.held {
        wire.gate.may_read(&who, &rooms).await?;
    }
    wire.hub.meter().answered(&batch, batch.held, 1);
    Ok(batch)
}
