//! `GET /get_msg`, in both contracts.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};

use super::{
    Wire,
    ask::{Ask, Contract},
    course,
    gate::Asker,
    refusal::Refusal,
    reply,
};
use crate::hub::{Alarm, Batch, ClientId, Poll, Position, RoomName};

/// The actix route. The request itself is let go before the poll is held, so that what is parked stays
/// small.
pub(super) async fn get_msg(
    request: HttpRequest,
    wire: web::Data<Wire>,
) -> Result<HttpResponse, Refusal> {
    let Ask {
        name,
        wait,
        contract,
    } = Ask::parse(request.query_string())?;
    let asker = wire.asker(&request);
    match contract {
        Contract::Course => {
            let who = wire.gate.who(asker).await?;
            let client = ClientId::new(who.account.clone(), &name)?;
            let cookie = course::Carried::read(&request, &name);
            drop(request);
            course::get_msg(&wire, &who, client, cookie, wait).await
        }
        Contract::Full { rooms, after } => {
            drop(request);
            let asked = Asked {
                asker,
                name,
                rooms,
                after,
                wait,
            };
            let batch = full(&wire, asked, &mut Alarm::default()).await?;
            Ok(wire.reply(reply::batch(&batch)))
        }
    }
}

/// A poll of the full contract, as it came in.
pub(super) struct Asked {
    pub(super) asker: Asker,
    pub(super) name: String,
    pub(super) rooms: Vec<RoomName>,
    pub(super) after: Position,
    pub(super) wait: Duration,
}

/// Authorise, hold, authorise again.
pub(super) async fn full(wire: &Wire, asked: Asked, alarm: &mut Alarm) -> Result<Batch, Refusal> {
    let Asked {
        asker,
        name,
        rooms,
        after,
        wait,
    } = asked;
    let who = wire.gate.who(asker).await?;
    let client = ClientId::new(who.account.clone(), &name)?;
    wire.gate.may_read(&who, &rooms).await?;
    let poll = Poll {
        client,
        address: who.address,
        rooms: rooms.clone(),
        after,
        wait,
        messages: usize::MAX,
        may_be_superseded: true,
    };
    let batch = wire.hub.poll_by(alarm, poll).await?;
    if batch.held {
        wire.gate.may_read(&who, &rooms).await?;
    }
    Ok(batch)
}
