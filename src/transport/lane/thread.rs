//! The event loop.

use std::{
    io, mem,
    sync::Arc,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, event::Event};
use slab::Slab;

use super::{
    Done, LaneTimes,
    connection::{Came, Client, Connection, Parked, State},
    deadlines::Deadlines,
    errand::{Admitted, Desk, Errand, Outcome, Question, Reported},
    inbox::{Comer, INBOX, Inbox, Mail},
    request::{self, HEAD_BYTES, Published, Request},
    response::{Answer, Answers},
};
use crate::{
    hub::{Batch, BellKey, Held, Place, RoomName, jittered},
    transport::{
        Wire,
        gate::at_once,
        poll::Asked,
        send::{AtOnce, publish_at_once},
        traffic::{Present, Way},
    },
};

/// The most socket events per iteration.
const EVENTS: usize = 1024;
/// The most replies that are produced under one lock of the hub and written before the sockets are
/// looked at again: clients that were answered poll again meanwhile, and the next message finds
/// them parked.
const AT_ONCE: usize = 32;

/// The thread of the poll loop; see the module.
pub(super) struct Thread {
    pub(super) poll: Poll,
    inbox: Arc<Inbox>,
    pub(super) wire: Wire,
    pub(super) times: LaneTimes,
    desk: Desk,
    bell: BellKey,
    pub(super) rows: Slab<Connection>,
    pub(super) deadlines: Deadlines,
    /// The time of this iteration.
    pub(super) now: Instant,
    pub(super) ending: bool,
    head: Box<[u8]>,
    pub(super) answers: Answers,
    /// The rooms of the last poll: polls of the same rooms share one list.
    rooms: Arc<[RoomName]>,
}

impl Thread {
    pub(super) fn new(
        poll: Poll,
        inbox: Arc<Inbox>,
        wire: Wire,
        times: LaneTimes,
        desk: Desk,
    ) -> Thread {
        let now = Instant::now();
        Thread {
            poll,
            bell: wire.hub.add_bell(Arc::clone(&inbox) as _),
            inbox,
            wire,
            times,
            desk,
            rows: Slab::new(),
            deadlines: Deadlines::new(now),
            now,
            ending: false,
            head: vec![0; HEAD_BYTES].into_boxed_slice(),
            answers: Answers::default(),
            rooms: Arc::default(),
        }
    }

    /// Runs until the last handle of the poll loop is dropped.
    pub(super) fn run(mut self) {
        let (mut events, mut mail) = (Events::with_capacity(EVENTS), Mail::default());
        let mut rung: Vec<Place> = Vec::new();
        let mut held: Vec<(Place, Held)> = Vec::new();
        while !mail.stopped {
            let wait = if rung.is_empty() && self.inbox.doze() {
                self.deadlines.next(Instant::now())
            } else {
                Some(Duration::ZERO)
            };
            if let Err(error) = self.poll.poll(&mut events, wait)
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "the lane cannot wait for its sockets: it ends");
                return;
            }
            self.inbox.stay_awake();
            self.now = Instant::now();
            self.answers.tick();
            for event in &events {
                match event.token() {
                    // The inbox is read in every iteration.
                    INBOX => {}
                    Token(place) => self.on_socket(place as Place, event),
                }
            }
            self.inbox.look(&mut mail);
            self.on_mail(&mut mail);
            rung.append(&mut mail.rung);
            let first = rung.len().saturating_sub(AT_ONCE);
            self.on_rung(&rung[first..], &mut held);
            rung.truncate(first);
            for (moment, place) in self.deadlines.take_up_to(self.now) {
                self.on_deadline(moment, place);
            }
        }
    }

    fn on_mail(&mut self, mail: &mut Mail) {
        for comer in mail.comers.drain(..) {
            self.enter(comer);
        }
        for outcome in mail.outcomes.drain(..) {
            self.on_outcome(outcome);
        }
        if mail.ending && !mem::replace(&mut self.ending, true) {
            let idle = |(_, row): &(usize, &Connection)| matches!(row.state, State::Idle);
            let idle: Vec<usize> = self.rows.iter().filter(idle).map(|(key, _)| key).collect();
            idle.into_iter().for_each(|key| self.close(key as Place));
        }
    }

    fn enter(&mut self, comer: Comer) {
        let stream = mio::net::TcpStream::from_std(comer.stream);
        let row = Connection::new(stream, comer.peer, comer.read, comer.done);
        let key = self.rows.insert(row);
        let row = &mut self.rows[key];
        let registry = self.poll.registry();
        let registered = registry.register(&mut row.stream, Token(key), Interest::READABLE);
        match registered {
            Ok(()) => self.go_on(key as Place),
            Err(error) => {
                tracing::error!(%error, "a connection could not be watched");
                self.rows.remove(key);
            }
        }
    }

    fn on_socket(&mut self, place: Place, event: &Event) {
        let Some(row) = self.rows.get_mut(place as usize) else {
            return;
        };
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            row.notice(event.is_read_closed() || event.is_error());
        }
        match &row.state {
            State::Idle => self.go_on(place),
            State::Asking(_) => {
                if row.read_ahead(&mut self.head) == Client::Gone {
                    self.close(place);
                }
            }
            State::Parked(_) => self.watch_parked(place),
            State::Writing { .. } if event.is_writable() => self.write_on(place),
            State::Writing { .. } => {}
        }
    }

    /// Serves the next requests of an idle connection until one has to wait.
    pub(super) fn go_on(&mut self, place: Place) {
        while let Some(row) = self.rows.get_mut(place as usize)
            && matches!(row.state, State::Idle)
        {
            let length = match row.take(&mut self.head) {
                Came::Bytes(length) => length,
                Came::End | Came::Broken => return self.close(place),
                Came::Nothing if self.ending => return self.close(place),
                Came::Nothing => {
                    let due = self.deadlines.moment(self.now + self.times.keep_alive);
                    return self.deadlines.set(&mut row.deadline, place, due);
                }
            };
            let read = &self.head[..length];
            let sites = self.wire.gate.sites();
            let request = request::read(read, row.peer, &mut row.usual, &mut self.rooms, sites);
            match request {
                Some(Request::Poll(asked)) => self.admit(place, asked),
                Some(Request::Publish(published)) => {
                    let Published {
                        source,
                        asker,
                        fields,
                        form,
                    } = published;
                    match publish_at_once(&self.wire, source, asker, fields) {
                        AtOnce::Published(number) => self.acknowledge(place, number, form),
                        AtOnce::Append(draft) => {
                            self.send(place, None, Question::Append(Box::new(draft), form));
                        }
                        AtOnce::Undecided => return self.hand_over(place, length),
                    }
                }
                None => return self.hand_over(place, length),
            }
        }
    }

    /// Hands the connection over to the routes.
    fn hand_over(&mut self, place: Place, length: usize) {
        let Some(mut row) = self.rows.try_remove(place as usize) else {
            return;
        };
        let _ = self.poll.registry().deregister(&mut row.stream);
        let read = self.head[..length].to_vec();
        let _ = row.done.send(Done::Handed(row.stream.into(), read));
    }

    pub(super) fn close(&mut self, place: Place) {
        let Some(row) = self.rows.try_remove(place as usize) else {
            return;
        };
        if let State::Parked(parked) = row.state {
            self.wire.hub.let_go(parked.hold);
        }
        let _ = row.done.send(Done::Over);
    }

    /// Identifies and authorizes the client of a poll; holds the poll if that needs no waiting,
    /// else offloads the question.
    fn admit(&mut self, place: Place, asked: Asked) {
        let present = self.wire.traffic.enter(Way::of_wait(asked.wait));
        let Some(who) = at_once(self.wire.gate.who(asked.asker())) else {
            return self.send(place, Some(present), Question::Admit(Box::new(asked)));
        };
        let Some(row) = self.rows.get_mut(place as usize) else {
            return;
        };
        let known = who.and_then(|who| Ok((row.client(who.account.as_deref(), &asked.name)?, who)));
        let (client, who) = match known {
            Ok(known) => known,
            Err(refusal) => return self.refuse(place, refusal),
        };
        match at_once(self.wire.gate.may_read(&who, &asked.rooms)) {
            Some(Ok(())) => {}
            Some(Err(refusal)) => return self.refuse(place, refusal),
            None => return self.send(place, Some(present), Question::Admit(Box::new(asked))),
        }
        let poll = asked.of(&who, client);
        let admitted = Admitted::new(who, poll);
        let admitted = match row.spare.take() {
            Some(mut spare) => {
                *spare = admitted;
                spare
            }
            None => Box::new(admitted),
        };
        self.hold(place, admitted, present);
    }

    /// Holds a poll at the hub.
    fn hold(&mut self, place: Place, mut admitted: Box<Admitted>, present: Present) {
        if let Some(over) = admitted.over {
            let left = over.saturating_sub(self.deadlines.moment(self.now));
            admitted.poll.wait = Duration::from_millis(left);
        }
        let Some(row) = self.rows.get_mut(place as usize) else {
            return;
        };
        let at = (self.bell, place);
        let held = self
            .wire
            .hub
            .hold(&admitted.poll, at, &mut row.known, admitted.asked);
        match held {
            Err(error) => self.refuse(place, error.into()),
            Ok(Held::Answer(batch)) => self.answer(place, &batch),
            Ok(Held::Behind { after, asked }) => {
                (admitted.poll.after, admitted.asked) = (after, Some(asked));
                self.send(place, Some(present), Question::Read(admitted));
            }
            Ok(Held::Waits(hold)) => {
                let (now, wait) = (self.now, admitted.poll.wait);
                let over = admitted
                    .over
                    .get_or_insert_with(|| self.deadlines.moment(now + jittered(wait)));
                self.deadlines.set(&mut row.deadline, place, *over);
                row.state = State::Parked(Parked {
                    hold,
                    admitted,
                    present,
                });
                // The event of a client that has closed or pipelines has come already.
                self.watch_parked(place);
            }
        }
    }

    /// Ends a parked poll whose client has closed its half of the connection: it may be gone, and a
    /// message would be written for nobody. Requests that it sent before are answered.
    fn watch_parked(&mut self, place: Place) {
        let Some(row) = self.rows.get_mut(place as usize) else {
            return;
        };
        match row.read_ahead(&mut self.head) {
            Client::Open => {}
            Client::Gone => self.close(place),
            Client::Ended => {
                let State::Parked(parked) = mem::replace(&mut row.state, State::Idle) else {
                    return;
                };
                let batch = self.wire.hub.give_up(parked.hold);
                self.write(place, Answer::Batch(&Arc::new(batch)));
                self.go_on(place);
            }
        }
    }

    /// Offloads a question to the thread of the routes.
    fn send(&mut self, place: Place, present: Option<Present>, question: Question) {
        let Some(row) = self.rows.get_mut(place as usize) else {
            return;
        };
        row.turn = row.turn.wrapping_add(1);
        row.deadline.clear();
        row.state = State::Asking(present);
        let errand = Errand {
            place,
            turn: row.turn,
            question,
        };
        // A closed queue means that the server has ended.
        if self.desk.send(errand).is_err() {
            self.close(place);
        }
    }

    fn on_outcome(&mut self, outcome: Outcome) {
        let place = outcome.place;
        let Some(row) = self.rows.get_mut(place as usize) else {
            return;
        };
        if row.turn != outcome.turn || !matches!(row.state, State::Asking(_)) {
            return;
        }
        let State::Asking(present) = mem::replace(&mut row.state, State::Idle) else {
            return;
        };
        match (outcome.answer, present) {
            (Reported::Admitted(admitted), Some(present)) => self.hold(place, admitted, present),
            // Unreachable: an offloaded poll keeps its presence.
            (Reported::Admitted(_), None) => return self.close(place),
            (Reported::Answered(Ok(batch)), _) => self.answer(place, &batch),
            (Reported::Answered(Err(refusal)), _) => self.refuse(place, refusal),
            (Reported::Appended(number, form), _) => self.acknowledge(place, number, form),
        }
        self.go_on(place);
    }

    /// Looks at the polls at `places`, for which the hub may have a reply.
    fn on_rung(&mut self, places: &[Place], held: &mut Vec<(Place, Held)>) {
        let rows = &self.rows;
        let holds = places.iter().filter_map(|place| {
            let row = rows.get(*place as usize)?;
            match &row.state {
                State::Parked(parked) => Some((*place, parked.hold)),
                _ => None,
            }
        });
        self.wire.hub.look(self.bell, holds, held);
        let mut counted: Option<(Arc<Batch>, u64)> = None;
        for (place, held) in held.drain(..) {
            let Some(batch) = self.on_held(place, held) else {
                continue;
            };
            match &mut counted {
                Some((last, times)) if Arc::ptr_eq(last, &batch) => *times += 1,
                _ => {
                    self.count(counted.replace((batch, 1)));
                }
            }
        }
        self.count(counted);
    }

    /// Handles the outcome of a parked poll; returns the reply that was written and is still to be
    /// counted.
    fn on_held(&mut self, place: Place, held: Held) -> Option<Arc<Batch>> {
        let row = self.rows.get_mut(place as usize)?;
        let batch = match held {
            Held::Waits(hold) => {
                if let State::Parked(parked) = &mut row.state {
                    parked.hold = hold;
                }
                return None;
            }
            Held::Answer(batch) => batch,
            Held::Behind { after, asked } => {
                let State::Parked(mut parked) = mem::replace(&mut row.state, State::Idle) else {
                    return None;
                };
                (parked.admitted.poll.after, parked.admitted.asked) = (after, Some(asked));
                self.send(place, Some(parked.present), Question::Read(parked.admitted));
                return None;
            }
        };
        let State::Parked(parked) = mem::replace(&mut row.state, State::Idle) else {
            return None;
        };
        let Parked {
            admitted, present, ..
        } = parked;
        let rooms = &admitted.poll.rooms;
        let may = at_once(self.wire.gate.may_read(&admitted.who, rooms));
        let written = match may {
            Some(Ok(())) => {
                row.spare = Some(admitted);
                self.write(place, Answer::Batch(&batch));
                Some(batch)
            }
            Some(Err(refusal)) => {
                self.refuse(place, refusal);
                None
            }
            None => {
                self.send(place, Some(present), Question::Confirm(admitted, batch));
                None
            }
        };
        self.go_on(place);
        written
    }

    fn on_deadline(&mut self, moment: u64, place: Place) {
        let Some(row) = self.rows.get_mut(place as usize) else {
            return;
        };
        if !self.deadlines.is_over(&mut row.deadline, place, moment) {
            return;
        }
        match &row.state {
            State::Parked(parked) => {
                let held = self.wire.hub.end_hold(parked.hold);
                let batch = self.on_held(place, held);
                self.count(batch.map(|batch| (batch, 1)));
            }
            State::Idle | State::Writing { .. } => self.close(place),
            State::Asking(_) => {}
        }
    }
}
