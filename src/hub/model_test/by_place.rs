//! Polls that are held in slots, as the poll loop holds them.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinHandle;

use super::{super::*, Parked, World, rooms};

pub(super) enum Answer {
    Coming(JoinHandle<Result<Batch, PollError>>),
    Held(Place, Hold),
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
pub(super) struct Rung(std::sync::Mutex<Vec<Place>>);

impl Bell for Rung {
    fn ring(&self, places: &[Place]) {
        self.0.lock().unwrap().extend(places);
    }
}

impl World {
    /// Polls as the poll loop does: beyond what memory holds, by a future that does not wait.
    pub(super) async fn hold(
        &mut self,
        client: usize,
        mut poll: Poll,
        place: Place,
        mut asked: Option<Cursor>,
    ) -> Answer {
        loop {
            let (known, at) = (&mut self.known[client], (self.bell, place));
            let held = self.hub.hold(&poll, at, known, asked).unwrap();
            let position = match held {
                Held::Answer(batch) => return Answer::There(batch),
                Held::Waits(hold) => return Answer::Held(place, hold),
                Held::Behind { after, asked: from } => {
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
        let rung = std::mem::take(&mut *self.rung.0.lock().unwrap());
        let parked = self.clients.iter().flat_map(|client| &client.parked);
        let holds: Vec<(Place, Hold)> = parked
            .filter_map(|parked| match &parked.answer {
                Answer::Held(place, hold) if rung.contains(place) => Some((*place, *hold)),
                _ => None,
            })
            .collect();
        let mut answers = Vec::new();
        self.hub.look(self.bell, holds, &mut answers);
        for (place, held) in answers {
            let at = |p: &Parked| matches!(&p.answer, Answer::Held(at, _) if *at == place);
            let mut parked = self.clients.iter().map(|c| c.parked.iter().position(at));
            let client = parked.position(|at| at.is_some()).unwrap();
            let row = self.clients[client].parked.iter().position(at).unwrap();
            let parked = &self.clients[client].parked[row];
            let answer = match held {
                Held::Answer(batch) => Answer::There(batch),
                Held::Waits(hold) => Answer::Held(place, hold),
                Held::Behind { after, asked } => {
                    let poll = Poll {
                        rooms: rooms(parked.rooms).into(),
                        ..self.asks(client, after.clone(), 60)
                    };
                    match self.read(poll.clone(), after).await {
                        Ok(batch) => Answer::There(batch),
                        Err(after) => {
                            let poll = Poll { after, ..poll };
                            self.hold(client, poll, place, Some(asked)).await
                        }
                    }
                }
            };
            self.clients[client].parked[row].answer = answer;
        }
    }
}
