//! `GET /get_msg`, in both contracts.

use actix_web::{HttpRequest, HttpResponse, web};

use super::{
    Wire,
    ask::{Ask, Contract},
    course,
    gate::Asker,
    refusal::Refusal,
    reply,
};
use crate::hub::{ClientId, Poll};

/// Authorise, hold, authorise again, answer. The request itself is let go before the poll is held, so
/// that what is parked stays small.
pub(super) async fn get_msg(
    request: HttpRequest,
    wire: web::Data<Wire>,
) -> Result<HttpResponse, Refusal> {
    let ask = Ask::parse(request.query_string())?;
    let who = wire.gate.who(Asker::of(&request)).await?;
    let client = ClientId::new(who.account.clone(), &ask.name)?;
    let (rooms, after) = match ask.contract {
        Contract::Full { rooms, after } => (rooms, after),
        Contract::Course => {
            let cookie = course::Carried::read(&request, &ask.name);
            drop(request);
            return course::get_msg(&wire, &who, client, cookie, ask.wait).await;
        }
    };
    drop(request);
    wire.gate.may_read(&who, &rooms).await?;
    let poll = Poll {
        client,
        address: who.address,
        rooms: rooms.clone(),
        after,
        wait: ask.wait,
        messages: usize::MAX,
        may_be_superseded: true,
    };
    let batch = wire.hub.poll(poll).await?;
    if batch.held {
        wire.gate.may_read(&who, &rooms).await?;
    }
    Ok(wire.reply(reply::batch(&batch)))
}
