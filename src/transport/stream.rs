//! The loop that all streams share: one hub poll after the other, each batch authorized again
//! before it is sent.

use std::sync::Arc;

use std::time::Duration;

use futures_util::future::LocalBoxFuture;

use super::{
    Wire,
    access::Who,
    ask::Subscribe,
    refusal::Refusal,
    traffic::{Present, Way},
};
use crate::hub::{Batch, ClientId, Cursor, Poll, Position, RoomName};

/// The longest time that a stream is silent: proxies cut idle ones, some after 30 s. An idle stream
/// whose login has ended is closed within this time.
const HOLD: Duration = Duration::from_secs(20);

/// The next event of a stream.
pub(super) enum Turn {
    /// Messages, a gap, or both; the gap precedes the last message.
    Batch {
        /// The cursor to resume from until part of the batch has arrived.
        before: String,
        /// A batch with at least a message or a gap.
        batch: Batch,
    },
    /// Nothing came within [`HOLD`].
    Idle,
    /// The end: the client should reconnect after this time.
    Retry(Duration),
    /// The end: the client has lost its rights, or the server cannot read the log.
    Refused(Refusal),
}

/// The subscription of one stream.
pub(super) struct Subscription {
    wire: Wire,
    _present: Present,
    who: Who,
    client: ClientId,
    rooms: Vec<RoomName>,
    after: Position,
    may_be_superseded: bool,
    paused: bool,
    /// The poll in flight, which survives a cancelled call of `next`.
    turn: Option<LocalBoxFuture<'static, Result<Batch, Refusal>>>,
}

impl Subscription {
    /// Begins at the cursor that the client asks for; nothing is registered at the hub yet.
    ///
    /// # Errors
    /// 401 or 403 if the client may not read one of its rooms, 422 for a name out of bounds.
    pub(super) async fn open(
        wire: &Wire,
        way: Way,
        who: Who,
        subscribe: Subscribe,
    ) -> Result<Subscription, Refusal> {
        let client = ClientId::new(who.account.clone(), &subscribe.name)?;
        wire.access.may_read(&who, &subscribe.rooms).await?;
        let oldest = wire.hub.oldest(&subscribe.after);
        Ok(Subscription {
            after: match (oldest, subscribe.after) {
                (Some(now), Position::Now) => after(now),
                (_, position) => position,
            },
            _present: wire.traffic.enter(way),
            wire: wire.clone(),
            who,
            client,
            rooms: subscribe.rooms,
            may_be_superseded: true,
            paused: false,
            turn: None,
        })
    }

    /// Keeps the subscription alive beside newer ones of the same client.
    pub(super) fn beside_others(self) -> Subscription {
        Subscription {
            may_be_superseded: false,
            ..self
        }
    }

    /// The position to resume from here: a cursor, or `start`.
    pub(super) fn position(&self) -> String {
        match self.wire.hub.oldest(&self.after) {
            Some(cursor) => cursor.to_string(),
            None => "start".to_owned(),
        }
    }

    /// Pauses or resumes. A paused subscription yields only ends and idle turns.
    pub(super) fn pause(&mut self, paused: bool) {
        if self.paused != paused {
            self.paused = paused;
            self.turn = None;
        }
    }

    /// Waits for the next turn. Cancel-safe. Must not be called after an end.
    pub(super) async fn next(&mut self) -> Turn {
        if self.turn.is_none() {
            self.turn = Some(self.poll());
        }
        let outcome = match &mut self.turn {
            Some(turn) => turn.await,
            None => return Turn::Idle,
        };
        self.turn = None;
        let batch = match outcome {
            Ok(batch) => batch,
            Err(refusal) => {
                self.wire.traffic.refuse(&refusal);
                return Turn::Refused(refusal);
            }
        };
        self.wire.hub.meter().answered(&batch, batch.held, 1);
        if let Some(retry) = batch.retry {
            return Turn::Retry(retry);
        }
        if self.paused {
            return Turn::Idle;
        }
        let before = self.position();
        self.after = after(batch.cursor);
        match batch.messages.is_empty() && batch.gap.is_empty() {
            true => Turn::Idle,
            false => Turn::Batch { before, batch },
        }
    }

    fn poll(&self) -> LocalBoxFuture<'static, Result<Batch, Refusal>> {
        let (wire, who, rooms) = (self.wire.clone(), self.who.clone(), self.rooms.clone());
        let (rooms_polled, after) = match self.paused {
            // A poll without rooms gets no messages: it returns when its wait is over, a newer
            // connection supersedes it or the server drains.
            true => (Vec::new(), after(wire.hub.now())),
            false => (rooms.clone(), self.after.clone()),
        };
        let poll = Poll {
            client: Arc::new(self.client.clone()),
            rooms: rooms_polled.into(),
            address: self.who.address,
            after,
            wait: HOLD,
            messages: usize::MAX,
            may_be_superseded: self.may_be_superseded,
        };
        Box::pin(async move {
            let batch = wire.hub.poll(poll).await?;
            wire.access.may_read(&who, &rooms).await?;
            Ok(batch)
        })
    }
}

fn after(cursor: Cursor) -> Position {
    Position::from(cursor)
}
