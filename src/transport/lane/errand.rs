//! What the lane cannot find out at once: put to the thread of the routes, whose runtime may wait.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{
    super::{
        Wire,
        gate::{Draft, Who},
        poll::Asked,
        refusal::Refusal,
        send::AnswerForm,
    },
    deadlines::Moment,
    inbox::Inbox,
};
use crate::hub::{Batch, Cursor, Place, Poll};

/// Where errands are left.
pub(super) type Desk = mpsc::UnboundedSender<Errand>;

/// A question about the request at `place`; `turn` tells it from those before and after it there.
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
    /// A message for the log, which has others before it.
    Append(Box<Draft>, AnswerForm),
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
    /// The poll is answered, or the request is refused.
    Answered(Result<Arc<Batch>, Refusal>),
    /// The message is in the log, under this number.
    Appended(u64, AnswerForm),
}

/// A poll of somebody who may ask it.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) who: Who,
    /// Its wait is what is left of it.
    pub(super) poll: Poll,
    /// Where the client itself wanted to go on from, where the poll has come further since.
    pub(super) asked: Option<Cursor>,
    /// When its wait is over; from the first look that found nothing on.
    pub(super) over: Option<Moment>,
}

impl Admitted {
    pub(super) fn new(who: Who, poll: Poll) -> Admitted {
        Admitted {
            who,
            poll,
            asked: None,
            over: None,
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
            let (who, poll) = asked.admit(&*wire.gate).await?;
            Ok(Reported::Admitted(Box::new(Admitted::new(who, poll))))
        }
        Question::Read(mut admitted) => {
            let at_once = Poll {
                wait: Duration::ZERO,
                ..admitted.poll.clone()
            };
            let mut batch = wire.hub.poll(at_once).await?;
            if batch.superseded
                && let Some(asked) = admitted.asked
            {
                batch.cursor = asked;
            }
            let is_empty = batch.messages.is_empty() && batch.gap.is_empty();
            if is_empty && batch.retry.is_none() && !admitted.poll.wait.is_zero() {
                admitted.poll.after = batch.cursor.into();
                return Ok(Reported::Admitted(admitted));
            }
            may_still(wire, &admitted).await?;
            Ok(Reported::Answered(Ok(Arc::new(batch))))
        }
        Question::Append(draft, form) => {
            let number = wire.gate.append(*draft).await?;
            Ok(Reported::Appended(number, form))
        }
        Question::Confirm(admitted, batch) => {
            may_still(wire, &admitted).await?;
            Ok(Reported::Answered(Ok(batch)))
        }
    }
}

async fn may_still(wire: &Wire, admitted: &Admitted) -> Result<(), Refusal> {
    let rooms = &admitted.poll.rooms;
    wire.gate.may_read(&admitted.who, rooms).await
}
