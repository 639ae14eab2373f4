//! Random runs of a hub against a simple model: the in-memory log itself, read with the cursors that
//! the client had and got.
//!
//! For every answer that takes a client from one cursor to the next, the model determines exactly which
//! numbers are due: those of the client's rooms between the two that are still kept. A room has a gap
//! if and only if it was trimmed to a number between the two. So nothing is lost, duplicated or
//! reordered, whatever the path: queue, ring or log; parked or not; overlapping, lost on the way, after
//! a restart.

mod by_slot;

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;

use super::{
    test_log::{MemoryLog, epoch},
    *,
};
use by_slot::{Answer, Ready};

const CLIENTS: usize = 4;

#[derive(Clone, Debug)]
enum Act {
    /// Messages to rooms, published together; numbers may skip.
    Publish(Vec<(u8, u64)>),
    /// A plain poll; its answer arrives or is lost.
    Poll {
        client: usize,
        arrives: bool,
    },
    /// A poll that stays until something comes; as a future or held in a slot.
    Park {
        client: usize,
        arrives: bool,
        by_slot: bool,
    },
    /// The cut of a parked poll's connection.
    Cut {
        client: usize,
    },
    /// Another page of the same client: its rooms change, its cursor stays.
    Move {
        client: usize,
        rooms: u8,
    },
    /// A late poll with the cursor before the last one.
    Late {
        client: usize,
    },
    Start {
        client: usize,
    },
    Now {
        client: usize,
    },
    Drop {
        room: u8,
        newest: u64,
    },
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    let client = 0..CLIENTS;
    let arrives = prop::bool::weighted(0.7);
    prop_oneof![
        6 => prop::collection::vec((0..4u8, 1..3u64), 1..12).prop_map(Act::Publish),
        6 => (client.clone(), arrives).prop_map(|(client, arrives)| Act::Poll { client, arrives }),
        6 => (client.clone(), arrives, any::<bool>())
            .prop_map(|(client, arrives, by_slot)| Act::Park { client, arrives, by_slot }),
        1 => client.clone().prop_map(|client| Act::Cut { client }),
        1 => (client.clone(), 1..16u8).prop_map(|(client, rooms)| Act::Move { client, rooms }),
        1 => client.clone().prop_map(|client| Act::Late { client }),
        1 => client.clone().prop_map(|client| Act::Start { client }),
        1 => client.prop_map(|client| Act::Now { client }),
        1 => (0..4u8, 0..20u64).prop_map(|(room, newest)| Act::Drop { room, newest }),
        1 => Just(Act::Restart),
    ]
}

struct Client {
    id: ClientId,
    rooms: u8,
    cursor: Cursor,
    before: Cursor,
    parked: Vec<Parked>,
}

struct Parked {
    rooms: u8,
    from: Cursor,
    arrives: bool,
    answer: Answer,
}

struct World {
    log: Arc<MemoryLog>,
    hub: Hub,
    options: HubOptions,
    clients: Vec<Client>,
    ready: Arc<Ready>,
    notifier: NotifierKey,
    slots: Slot,
    /// The lookup shared by the slot polls of each client, as by those of one connection.
    known: [Known; CLIENTS],
}

fn room(index: u8) -> RoomName {
    match index {
        0 => RoomName::chat(),
        _ => RoomName::parse(&format!("chat/{index}")).unwrap(),
    }
}

fn rooms(set: u8) -> Vec<RoomName> {
    (0..4)
        .filter(|bit| set & (1 << bit) != 0)
        .map(room)
        .collect()
}

impl World {
    fn new(options: HubOptions) -> World {
        let log = MemoryLog::new();
        let hub = Hub::new(log.clone(), epoch("birth"), 0, options.clone());
        let clients = (0..CLIENTS)
            .map(|i| Client {
                // Two clients share an id: a second tab, or somebody who knows the name.
                id: ClientId::new(None, &format!("c{}", i / 2)).unwrap(),
                rooms: [0b0001, 0b0011, 0b1110, 0b1111][i],
                cursor: hub.now(),
                before: hub.now(),
                parked: Vec::new(),
            })
            .collect();
        let ready = Arc::<Ready>::default();
        World {
            notifier: hub.add_notifier(ready.clone()),
            ready,
            slots: 0,
            known: Default::default(),
            log,
            hub,
            options,
            clients,
        }
    }

    fn asks(&self, client: usize, after: Position, wait: u64) -> Poll {
        Poll {
            address: None,
            client: Arc::new(self.clients[client].id.clone()),
            rooms: rooms(self.clients[client].rooms).into(),
            after,
            wait: Duration::from_secs(wait),
            messages: usize::MAX,
            may_be_superseded: true,
        }
    }

    async fn act(&mut self, act: Act) {
        match act {
            Act::Publish(messages) => {
                let append = |(to, step)| self.log.append(&room(to), "text", step);
                let messages = messages.into_iter().map(append).collect();
                self.hub.publish(messages);
            }
            Act::Poll { client, arrives } => {
                let from = self.clients[client].cursor;
                let poll = self.asks(client, Position::from(from), 0);
                let batch = self.hub.poll(poll).await.unwrap();
                self.check(self.clients[client].rooms, from.number, &batch, true);
                if arrives {
                    self.arrive(client, batch.cursor);
                }
            }
            Act::Park {
                client,
                arrives,
                by_slot,
            } => {
                let from = self.clients[client].cursor;
                let poll = self.asks(client, Position::from(from), 60);
                let answer = match by_slot {
                    true => {
                        self.slots += 1;
                        self.hold(client, poll, self.slots, None).await
                    }
                    false => {
                        let hub = self.hub.clone();
                        Answer::Coming(tokio::spawn(async move { hub.poll(poll).await }))
                    }
                };
                let rooms = self.clients[client].rooms;
                self.clients[client].parked.push(Parked {
                    rooms,
                    from,
                    arrives,
                    answer,
                });
            }
            Act::Cut { client } => match self.clients[client].parked.pop().map(|p| p.answer) {
                Some(Answer::Coming(answer)) => answer.abort(),
                Some(Answer::Held(_, hold)) => self.hub.drop_parked(hold),
                Some(Answer::There(_)) | None => {}
            },
            Act::Move { client, rooms } => self.clients[client].rooms = rooms,
            Act::Late { client } => {
                let from = self.clients[client].before;
                let poll = self.asks(client, Position::from(from), 0);
                let batch = self.hub.poll(poll).await.unwrap();
                self.check(self.clients[client].rooms, from.number, &batch, true);
            }
            Act::Start { client } => {
                let poll = self.asks(client, Position::Start, 0);
                let batch = self.hub.poll(poll).await.unwrap();
                self.check(self.clients[client].rooms, 0, &batch, false);
                self.arrive(client, batch.cursor);
            }
            Act::Now { client } => {
                let poll = self.asks(client, Position::Now, 60);
                let batch = self.hub.poll(poll).await.unwrap();
                assert!(batch.messages.is_empty() && batch.gap.is_empty());
                assert_eq!(batch.cursor.number, self.log.head());
                self.arrive(client, batch.cursor);
            }
            Act::Drop { room: of, newest } => {
                let up_to = self.log.head().saturating_sub(newest);
                if let Some(mark) = self.log.drop_up_to(&room(of), up_to) {
                    self.hub.dropped(&room(of), mark);
                }
            }
            Act::Restart => {
                let parked = self.clients.iter_mut().flat_map(|c| c.parked.drain(..));
                parked.for_each(|p| match p.answer {
                    Answer::Coming(answer) => answer.abort(),
                    Answer::Held(..) | Answer::There(_) => {}
                });
                let (log, head) = (self.log.clone(), self.log.head());
                self.hub = Hub::new(log, epoch("birth"), head, self.options.clone());
                self.notifier = self.hub.add_notifier(self.ready.clone());
                self.known = Default::default();
            }
        }
        self.gather().await;
    }

    /// Lets every poll in flight advance as far as it can, and checks those that were answered.
    async fn gather(&mut self) {
        loop {
            let reads = std::sync::atomic::Ordering::Relaxed;
            let before = (self.log.reads.load(reads), self.hub.census());
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            self.answer_rung().await;
            // A read of the log runs on another thread; a poll that is due but not answered waits for
            // one.
            let due = self.clients.iter().any(|c| {
                c.parked
                    .iter()
                    .any(|p| !p.answer.is_there() && self.is_due(p))
            });
            if !due && before == (self.log.reads.load(reads), self.hub.census()) {
                break;
            }
        }
        for client in 0..CLIENTS {
            let all = std::mem::take(&mut self.clients[client].parked);
            for parked in all {
                let batch = match parked.answer {
                    Answer::Coming(answer) if answer.is_finished() => {
                        Arc::new(answer.await.unwrap().unwrap())
                    }
                    Answer::There(batch) => batch,
                    answer => {
                        self.clients[client]
                            .parked
                            .push(Parked { answer, ..parked });
                        continue;
                    }
                };
                if batch.superseded {
                    assert_eq!(batch.cursor, parked.from);
                    assert!(batch.messages.is_empty() && batch.gap.is_empty());
                    continue;
                }
                assert!(
                    !batch.messages.is_empty() || !batch.gap.is_empty(),
                    "it had a minute"
                );
                self.check(parked.rooms, parked.from.number, &batch, true);
                // Overlapping polls: the page takes the first answer and drops messages it has had.
                if parked.arrives && parked.from == self.clients[client].cursor {
                    self.arrive(client, batch.cursor);
                }
            }
        }
    }

    fn is_due(&self, parked: &Parked) -> bool {
        let (rooms, from) = (rooms(parked.rooms), parked.from.number);
        let has_gap = rooms.iter().any(|room| self.log.mark(room) > from);
        has_gap || !self.log.numbers(&rooms, from, u64::MAX).is_empty()
    }

    fn arrive(&mut self, client: usize, cursor: Cursor) {
        let client = &mut self.clients[client];
        client.before = std::mem::replace(&mut client.cursor, cursor);
    }

    fn check(&self, set: u8, from: u64, batch: &Batch, tells_gaps: bool) {
        let (rooms, to) = (rooms(set), batch.cursor.number);
        assert!(from <= to && to <= self.log.head(), "{from} -> {to}");
        let got: Vec<u64> = batch.messages.iter().map(|m| m.number).collect();
        assert_eq!(got, self.log.numbers(&rooms, from, to), "{from} -> {to}");
        let is_gap = |room: &&RoomName| {
            let mark = self.log.mark(room);
            tells_gaps && from < mark && mark <= to
        };
        let gaps: Vec<&RoomName> = rooms.iter().filter(is_gap).collect();
        assert_eq!(batch.gap.iter().collect::<Vec<_>>(), gaps, "{from} -> {to}");
        let rest = self.log.numbers(&rooms, to, u64::MAX);
        assert_eq!(batch.more, !rest.is_empty(), "{from} -> {to}");
    }
}

fn run(options: HubOptions, acts: Vec<Act>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut world = World::new(options);
        for act in acts {
            world.act(act).await;
        }
        // At the end every client catches up to the last number.
        for client in 0..CLIENTS {
            for _ in 0..1000 {
                world
                    .act(Act::Poll {
                        client,
                        arrives: true,
                    })
                    .await;
                if world.clients[client].cursor.number == world.log.head() {
                    break;
                }
            }
            assert_eq!(world.clients[client].cursor.number, world.log.head());
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("LONGSHORE_MODEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(300),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_message_once_in_order_or_a_gap(
        queue in 1..6usize,
        ring_messages in 1..12usize,
        reply in prop_oneof![Just(300usize), Just(700), Just(60_000)],
        idle in prop_oneof![Just(0u64), Just(60)],
        acts in prop::collection::vec(act(), 1..80),
    ) {
        let options = HubOptions {
            queue,
            ring_messages,
            reply_bytes: reply,
            idle: Duration::from_secs(idle),
            ..HubOptions::default()
        };
        run(options, acts);
    }
}
