//! What the lane cannot find out at once: put to the thread of the routes, whose runtime may wait.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{
    super::{
        Wire,
        gate::{Asker, Who},
        poll::Asked,
        refusal::Refusal,
    },
    deadlines::Moment,
    inbox::Inbox,
};
use crate::hub::{Batch, ClientId, Cursor, Place, Poll, Position, RoomName};

/// Where errands are left.
pub(super) type Desk = mpsc::UnboundedSender<Errand>;

/// A question about the poll at `place`; `turn` tells it from those before and after it there.
pub(super) struct Errand {
    pub(super) place: Place,
    pub(super) turn: u32,
    pub(super) question: Question,
}

pub(super) enum Question {
    /// Who asks, and may they?
    Admit(Box<Asked>),
    /// What does the log have after a position that the memory does not reach back to?
    Read(Box<Admitted>),
    /// May they still?
    Confirm(Box<Admitted>, Arc<Batch>),
}

/// What came of an errand.
pub(super) struct Outcome {
    pub(super) place: Place,
    pub(super) turn: u32,
    pub(super) answer: Reported,
}

pub(super) enum Reported {
    /// The poll may be asked of the hub.
    Admitted(Box<Admitted>),
    /// The poll is answered.
    Answered(Result<Arc<Batch>, Refusal>),
}

/// A poll of somebody who may ask it.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) who: Who,
    pub(super) client: Arc<ClientId>,
    pub(super) rooms: Arc<[RoomName]>,
    pub(super) after: Position,
    /// Where the client itself wanted to go on from, where `after` has come further since.
    pub(super) asked: Option<Cursor>,
    pub(super) wait: Duration,
    /// When its wait is over; from the first look that found nothing on.
    pub(super) over: Option<Moment>,
}

impl Admitted {
    /// The poll to ask of the hub.
    pub(super) fn poll(&self, wait: Duration) -> Poll {
        Poll {
            client: Arc::clone(&self.client),
            rooms: Arc::clone(&self.rooms),
            address: self.who.address,
            after: self.after.clone(),
            wait,
            messages: usize::MAX,
            may_be_superseded: true,
        }
    }
}

/// Opens the desk, on the thread that is to run the errands.
pub(super) fn desk(wire: Wire, inbox: Arc<Inbox>) -> Desk {
    let (desk, mut errands) = mpsc::unbounded_channel::<Errand>();
    actix_web::rt::spawn(async move {
        while let Some(errand) = errands.recv().await {
            let (wire, inbox) = (wire.clone(), Arc::clone(&inbox));
            actix_web::rt::spawn(async move {
                let answer = match run(&wire, errand.question).await {
                    Ok(answer) => answer,
                    Err(refusal) => Reported::Answered(Err(refusal)),
                };
                inbox.report(Outcome {
                    place: errand.place,
                    turn: errand.turn,
                    answer,
                });
            });
        }
    });
    desk
}

async fn run(wire: &Wire, question: Question) -> Result<Reported, Refusal> {
    match question {
        Question::Admit(asked) => {
            let Asked {
                proof,
                peer,
                forwarded,
                name,
                rooms,
                after,
                wait,
            } = *asked;
            let who = wire
                .gate
                .who(Asker {
                    proof,
                    peer,
                    forwarded: forwarded.iter().map(String::as_str).collect(),
                })
                .await?;
            let client = Arc::new(ClientId::new(who.account.clone(), &name)?);
            wire.gate.may_read(&who, &rooms).await?;
            Ok(Reported::Admitted(Box::new(Admitted {
                who,
                client,
                rooms,
                after,
                wait,
                asked: None,
                over: None,
            })))
        }
        Question::Read(mut admitted) => {
            let mut batch = wire.hub.poll(admitted.poll(Duration::ZERO)).await?;
            if batch.superseded
                && let Some(asked) = admitted.asked
            {
                batch.cursor = asked;
            }
            let is_empty = batch.messages.is_empty() && batch.gap.is_empty();
            if is_empty && batch.retry.is_none() && !admitted.wait.is_zero() {
                admitted.after = Position::After(vec![batch.cursor]);
                return Ok(Reported::Admitted(admitted));
            }
            wire.gate.may_read(&admitted.who, &admitted.rooms).await?;
            Ok(Reported::Answered(Ok(Arc::new(batch))))
        }
        Question::Confirm(admitted, batch) => {
            wire.gate.may_read(&admitted.who, &admitted.rooms).await?;
            Ok(Reported::Answered(Ok(batch)))
        }
    }
}
