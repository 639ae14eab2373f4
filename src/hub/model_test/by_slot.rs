//! Polls that are held in slots, as the poll loop holds them.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinHandle;

use super::{super::*, Parked, World, rooms};

pub(super) enum Answer {
    Coming(JoinHandle<Result<Batch, PollError>>),
    Held(Slot, ParkedPoll),
    There(Arc<Batch>),
}

impl Answer {
    pub(super) fn is_there(&self) -> bool {
        match self {
            Answer::Coming(answer) => answer.is_finished(),
            Answer::Held(..) => false,
            Answer::There(_) => true,
        }
    }
}

/// Records the notified slots, as the poll loop's inbox does.
#[derive(Default)]
pub(super) struct Ready(std::sync::Mutex<Vec<Slot>>);

impl Notifier for Ready {
    fn notify(&self, slots: &[Slot]) {
        self.0.lock().unwrap().extend(slots);
    }
}

impl World {
    /// Polls as the poll loop does: beyond what memory holds, by a future that does not wait.
    pub(super) async fn hold(
        &mut self,
        client: usize,
        mut poll: Poll,
        slot: Slot,
        mut asked: Option<Cursor>,
    ) -> Answer {
        loop {
            let (known, at) = (&mut self.known[client], (self.notifier, slot));
            let held = self.hub.park(&poll, at, known, asked).unwrap();
            let position = match held {
                PollOutcome::Answer(batch) => return Answer::There(batch),
                PollOutcome::Waits(hold) => return Answer::Held(slot, hold),
                PollOutcome::Behind { after, asked: from } => {
                    asked = Some(from);
                    after
                }
            };
            match self.read(poll.clone(), position).await {
                Ok(batch) => return Answer::There(batch),
                Err(position) => poll.after = position,
            }
        }
    }

    async fn read(&self, poll: Poll, after: Position) -> Result<Arc<Batch>, Position> {
        let wait = Duration::ZERO;
        let batch = self
            .hub
            .poll(Poll {
                after,
                wait,
                ..poll
            })
            .await
            .unwrap();
        match batch.messages.is_empty() && batch.gap.is_empty() && !batch.superseded {
            true => Err(Position::from(batch.cursor)),
            false => Ok(Arc::new(batch)),
        }
    }

    /// Looks for the answers of the notified polls, all under one lock.
    pub(super) async fn answer_rung(&mut self) {
        let ready = std::mem::take(&mut *self.ready.0.lock().unwrap());
        let parked = self.clients.iter().flat_map(|client| &client.parked);
        let holds: Vec<(Slot, ParkedPoll)> = parked
            .filter_map(|parked| match &parked.answer {
                Answer::Held(slot, hold) if ready.contains(slot) => Some((*slot, *hold)),
                _ => None,
            })
            .collect();
        let mut answers = Vec::new();
        self.hub.check_parked(self.notifier, holds, &mut answers);
        for (slot, held) in answers {
            let at = |p: &Parked| matches!(&p.answer, Answer::Held(at, _) if *at == slot);
            let mut parked = self.clients.iter().map(|c| c.parked.iter().position(at));
            let client = parked.position(|at| at.is_some()).unwrap();
            let row = self.clients[client].parked.iter().position(at).unwrap();
            let parked = &self.clients[client].parked[row];
            let answer = match held {
                PollOutcome::Answer(batch) => Answer::There(batch),
                PollOutcome::Waits(hold) => Answer::Held(slot, hold),
                PollOutcome::Behind { after, asked } => {
                    let poll = Poll {
                        rooms: rooms(parked.rooms).into(),
                        ..self.asks(client, after.clone(), 60)
                    };
                    match self.read(poll.clone(), after).await {
                        Ok(batch) => Answer::There(batch),
                        Err(after) => {
                            let poll = Poll { after, ..poll };
                            self.hold(client, poll, slot, Some(asked)).await
                        }
                    }
                }
            };
            self.clients[client].parked[row].answer = answer;
        }
    }
}
