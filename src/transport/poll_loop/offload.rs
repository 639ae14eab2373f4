//! Work that the poll loop cannot do without waiting, offloaded to the runtime on the thread of the
//! routes.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{
    super::{
        Wire,
        access::{Draft, Who},
        poll::Asked,
        refusal::Refusal,
        send::AnswerForm,
    },
    deadlines::Moment,
    inbox::Inbox,
};
use crate::hub::{Batch, Cursor, Poll, Slot};

/// The queue of offloaded work.
pub(super) type OffloadQueue = mpsc::UnboundedSender<Offload>;

/// A question about the request at `slot`; `turn` distinguishes it from earlier and later ones
/// there.
pub(super) struct Offload {
    pub(super) slot: Slot,
    pub(super) turn: u32,
    pub(super) question: Question,
}

pub(super) enum Question {
    /// Identify the client and check its rights.
    Admit(Box<Asked>),
    /// Read the log after a position that is older than the messages in memory.
    Read(Box<Admitted>),
    /// Check the rights again before the reply is written.
    Confirm(Box<Admitted>, Arc<Batch>),
    /// Append a message to the log, which is busy with others.
    Append(Box<Draft>, AnswerForm),
}

/// The reply to an offloaded question.
pub(super) struct Reply {
    pub(super) slot: Slot,
    pub(super) turn: u32,
    pub(super) answer: Decision,
}

pub(super) enum Decision {
    /// The poll may be held at the hub.
    Admitted(Box<Admitted>),
    /// The reply to the poll, or the refusal of the request.
    Answered(Result<Arc<Batch>, Refusal>),
    /// The message was appended under this number.
    Appended(u64, AnswerForm),
}

/// A poll whose client is identified and authorized.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) who: Who,
    /// The poll, with the remaining wait.
    pub(super) poll: Poll,
    /// The cursor that the client sent, if the poll has advanced since.
    pub(super) asked: Option<Cursor>,
    /// The moment at which its wait is over, set by the first look at the hub that finds nothing.
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

/// Opens the queue and runs its work on the current thread.
pub(super) fn queue(wire: Wire, inbox: Arc<Inbox>) -> OffloadQueue {
    let (queue, mut offloads) = mpsc::unbounded_channel::<Offload>();
    actix_web::rt::spawn(async move {
        while let Some(offload) = offloads.recv().await {
            let (wire, inbox) = (wire.clone(), Arc::clone(&inbox));
            actix_web::rt::spawn(async move {
                let answer = match run(&wire, offload.question).await {
                    Ok(answer) => answer,
                    Err(refusal) => Decision::Answered(Err(refusal)),
                };
                inbox.report(Reply {
                    slot: offload.slot,
                    turn: offload.turn,
                    answer,
                });
            });
        }
    });
    queue
}

async fn run(wire: &Wire, question: Question) -> Result<Decision, Refusal> {
    match question {
        Question::Admit(asked) => {
            let (who, poll) = asked.admit(&*wire.access).await?;
            Ok(Decision::Admitted(Box::new(Admitted::new(who, poll))))
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
                return Ok(Decision::Admitted(admitted));
            }
            may_still(wire, &admitted).await?;
            Ok(Decision::Answered(Ok(Arc::new(batch))))
        }
        Question::Append(draft, form) => {
            let number = wire.access.append(*draft).await?;
            Ok(Decision::Appended(number, form))
        }
        Question::Confirm(admitted, batch) => {
            may_still(wire, &admitted).await?;
            Ok(Decision::Answered(Ok(batch)))
        }
    }
}

async fn may_still(wire: &Wire, admitted: &Admitted) -> Result<(), Refusal> {
    let rooms = &admitted.poll.rooms;
    wire.access.may_read(&admitted.who, rooms).await
}
