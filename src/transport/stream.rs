//! What all streams share: one poll of the hub after the other, each batch allowed anew before it is
//! handed on.

use std::sync::Arc;

use std::time::Duration;

use futures_util::future::LocalBoxFuture;

use super::{
    Wire,
    ask::Subscribe,
    gate::Who,
    refusal::Refusal,
    traffic::{Present, Way},
};
use crate::hub::{Batch, ClientId, Cursor, Poll, Position, RoomName};

/// How long a stream is silent at most: proxies cut quieter ones, some after 30 s. Within this time a
/// login that has ended ends an idle stream too.
const HOLD: Duration = Duration::from_secs(20);

/// What comes next on a stream.
pub(super) enum Turn {
    /// Messages, or a gap, or both: the gap first, since it lies before the last of them.
    Batch {
        /// Where to go on from while nothing of the batch has arrived.
        before: String,
        /// At least a message or a gap.
        batch: Batch,
    },
    /// Nothing came for a while.
    Idle,
    /// The end: the client comes back after this time.
    Retry(Duration),
    /// The end: it may not go on, or the server cannot.
    Refused(Refusal),
}

/// A client's subscription, in the middle of a stream.
pub(super) struct Subscription {
    wire: Wire,
    _present: Present,
    who: Who,
    client: ClientId,
    rooms: Vec<RoomName>,
    after: Position,
    may_be_superseded: bool,
    paused: bool,
    /// The poll in flight: it outlives a call of `next` that is dropped.
    turn: Option<LocalBoxFuture<'static, Result<Batch, Refusal>>>,
}

impl Subscription {
    /// Begins where the client asks; nothing is registered yet.
    ///
    /// # Errors
    /// 401 or 403 where it may not read one of its rooms, 422 for a name out of bounds.
    pub(super) async fn open(
        wire: &Wire,
        way: Way,
        who: Who,
        subscribe: Subscribe,
    ) -> Result<Subscription, Refusal> {
        let client = ClientId::new(who.account.clone(), &subscribe.name)?;
        wire.gate.may_read(&who, &subscribe.rooms).await?;
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

    /// The same, never ended by newer ones of the same client.
    pub(super) fn beside_others(self) -> Subscription {
        Subscription {
            may_be_superseded: false,
            ..self
        }
    }

    /// What the client brings along to go on from here: a cursor, or `start`.
    pub(super) fn position(&self) -> String {
        match self.wire.hub.oldest(&self.after) {
            Some(cursor) => cursor.to_string(),
            None => "start".to_owned(),
        }
    }

    /// While paused, only ends and idle turns come.
    pub(super) fn pause(&mut self, paused: bool) {
        if self.paused != paused {
            self.paused = paused;
            self.turn = None;
        }
    }

    /// Waits for what comes next. May be dropped and called again: nothing is lost. After an end it is
    /// not called any more.
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
            // A poll of no room hears of the end alone.
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
            wire.gate.may_read(&who, &rooms).await?;
            Ok(batch)
        })
    }
}

fn after(cursor: Cursor) -> Position {
    Position::from(cursor)
}
