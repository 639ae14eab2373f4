//! The event loop.

use std::{
    io, mem,
    sync::Arc,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, event::Event};
use slab::Slab;

use super::{
    Done, PollLoopTimes,
    connection::{Came, Client, Connection, Parked, State},
    deadlines::Deadlines,
    inbox::{Accepted, INBOX, Inbox, Mail},
    offload::{Admitted, Decision, Offload, OffloadQueue, Question, Reply},
    request::{self, HEAD_BYTES, Published, Request},
    response::{Answer, Answers},
};
use crate::{
    hub::{Batch, NotifierKey, PollOutcome, RoomName, Slot, jittered},
    transport::{
        Wire,
        access::at_once,
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
    pub(super) times: PollLoopTimes,
    queue: OffloadQueue,
    notifier: NotifierKey,
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
        times: PollLoopTimes,
        queue: OffloadQueue,
    ) -> Thread {
        let now = Instant::now();
        Thread {
            poll,
            notifier: wire.hub.add_notifier(Arc::clone(&inbox) as _),
            inbox,
            wire,
            times,
            queue,
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
        let mut ready: Vec<Slot> = Vec::new();
        let mut outcomes: Vec<(Slot, PollOutcome)> = Vec::new();
        while !mail.stopped {
            let wait = if ready.is_empty() && self.inbox.doze() {
                self.deadlines.next(Instant::now())
            } else {
                Some(Duration::ZERO)
            };
            if let Err(error) = self.poll.poll(&mut events, wait)
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "the poll loop cannot wait for its sockets: it ends");
                return;
            }
            self.inbox.stay_awake();
            self.now = Instant::now();
            self.answers.tick();
            for event in &events {
                match event.token() {
                    // The inbox is read in every iteration.
                    INBOX => {}
                    Token(slot) => self.on_socket(slot as Slot, event),
                }
            }
            self.inbox.look(&mut mail);
            self.on_mail(&mut mail);
            ready.append(&mut mail.ready);
            let first = ready.len().saturating_sub(AT_ONCE);
            self.on_ready(&ready[first..], &mut outcomes);
            ready.truncate(first);
            for (moment, slot) in self.deadlines.take_up_to(self.now) {
                self.on_deadline(moment, slot);
            }
        }
    }

    fn on_mail(&mut self, mail: &mut Mail) {
        for accepted in mail.accepted.drain(..) {
            self.enter(accepted);
        }
        for reply in mail.replies.drain(..) {
            self.on_reply(reply);
        }
        if mail.ending && !mem::replace(&mut self.ending, true) {
            let idle = |(_, row): &(usize, &Connection)| matches!(row.state, State::Idle);
            let idle: Vec<usize> = self.rows.iter().filter(idle).map(|(key, _)| key).collect();
            idle.into_iter().for_each(|key| self.close(key as Slot));
        }
    }

    fn enter(&mut self, accepted: Accepted) {
        let stream = mio::net::TcpStream::from_std(accepted.stream);
        let row = Connection::new(stream, accepted.peer, accepted.read, accepted.done);
        let key = self.rows.insert(row);
        let row = &mut self.rows[key];
        let registry = self.poll.registry();
        let registered = registry.register(&mut row.stream, Token(key), Interest::READABLE);
        match registered {
            Ok(()) => self.go_on(key as Slot),
            Err(error) => {
                tracing::error!(%error, "a connection could not be watched");
                self.rows.remove(key);
            }
        }
    }

    fn on_socket(&mut self, slot: Slot, event: &Event) {
        let Some(row) = self.rows.get_mut(slot as usize) else {
            return;
        };
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            row.notice(event.is_read_closed() || event.is_error());
        }
        match &row.state {
            State::Idle => self.go_on(slot),
            State::Asking(_) => {
                if row.read_ahead(&mut self.head) == Client::Gone {
                    self.close(slot);
                }
            }
            State::Parked(_) => self.watch_parked(slot),
            State::Writing { .. } if event.is_writable() => self.write_on(slot),
            State::Writing { .. } => {}
        }
    }

    /// Serves the next requests of an idle connection until one has to wait.
    pub(super) fn go_on(&mut self, slot: Slot) {
        while let Some(row) = self.rows.get_mut(slot as usize)
            && matches!(row.state, State::Idle)
        {
            let length = match row.take(&mut self.head) {
                Came::Bytes(length) => length,
                Came::End | Came::Broken => return self.close(slot),
                Came::Nothing if self.ending => return self.close(slot),
                Came::Nothing => {
                    let due = self.deadlines.moment(self.now + self.times.keep_alive);
                    return self.deadlines.set(&mut row.deadline, slot, due);
                }
            };
            let read = &self.head[..length];
            let sites = self.wire.access.sites();
            let request = request::read(
                read,
                row.peer,
                &mut row.last_request,
                &mut self.rooms,
                sites,
            );
            match request {
                Some(Request::Poll(asked)) => self.admit(slot, asked),
                Some(Request::Publish(published)) => {
                    let Published {
                        source,
                        asker,
                        fields,
                        form,
                    } = published;
                    match publish_at_once(&self.wire, source, asker, fields) {
                        AtOnce::Published(number) => self.acknowledge(slot, number, form),
                        AtOnce::Append(draft) => {
                            self.send(slot, None, Question::Append(Box::new(draft), form));
                        }
                        AtOnce::Undecided => return self.hand_over(slot, length),
                    }
                }
                None => return self.hand_over(slot, length),
            }
        }
    }

    /// Hands the connection over to the routes.
    fn hand_over(&mut self, slot: Slot, length: usize) {
        let Some(mut row) = self.rows.try_remove(slot as usize) else {
            return;
        };
        let _ = self.poll.registry().deregister(&mut row.stream);
        let read = self.head[..length].to_vec();
        let _ = row.done.send(Done::Handed(row.stream.into(), read));
    }

    pub(super) fn close(&mut self, slot: Slot) {
        let Some(row) = self.rows.try_remove(slot as usize) else {
            return;
        };
        if let State::Parked(parked) = row.state {
            self.wire.hub.drop_parked(parked.poll);
        }
        let _ = row.done.send(Done::Over);
    }

    /// Identifies and authorizes the client of a poll; holds the poll if that needs no waiting,
    /// else offloads the question.
    fn admit(&mut self, slot: Slot, asked: Asked) {
        let present = self.wire.traffic.enter(Way::of_wait(asked.wait));
        let Some(who) = at_once(self.wire.access.who(asked.asker())) else {
            return self.send(slot, Some(present), Question::Admit(Box::new(asked)));
        };
        let Some(row) = self.rows.get_mut(slot as usize) else {
            return;
        };
        let known = who.and_then(|who| Ok((row.client(who.account.as_deref(), &asked.name)?, who)));
        let (client, who) = match known {
            Ok(known) => known,
            Err(refusal) => return self.refuse(slot, refusal),
        };
        match at_once(self.wire.access.may_read(&who, &asked.rooms)) {
            Some(Ok(())) => {}
            Some(Err(refusal)) => return self.refuse(slot, refusal),
            None => return self.send(slot, Some(present), Question::Admit(Box::new(asked))),
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
        self.park(slot, admitted, present);
    }

    /// Holds a poll at the hub.
    fn park(&mut self, slot: Slot, mut admitted: Box<Admitted>, present: Present) {
        if let Some(over) = admitted.over {
            let left = over.saturating_sub(self.deadlines.moment(self.now));
            admitted.poll.wait = Duration::from_millis(left);
        }
        let Some(row) = self.rows.get_mut(slot as usize) else {
            return;
        };
        let at = (self.notifier, slot);
        let outcome = self
            .wire
            .hub
            .park(&admitted.poll, at, &mut row.known, admitted.asked);
        match outcome {
            Err(error) => self.refuse(slot, error.into()),
            Ok(PollOutcome::Answer(batch)) => self.answer(slot, &batch),
            Ok(PollOutcome::Behind { after, asked }) => {
                (admitted.poll.after, admitted.asked) = (after, Some(asked));
                self.send(slot, Some(present), Question::Read(admitted));
            }
            Ok(PollOutcome::Waits(poll)) => {
                let (now, wait) = (self.now, admitted.poll.wait);
                let over = admitted
                    .over
                    .get_or_insert_with(|| self.deadlines.moment(now + jittered(wait)));
                self.deadlines.set(&mut row.deadline, slot, *over);
                row.state = State::Parked(Parked {
                    poll,
                    admitted,
                    present,
                });
                // The event of a client that has closed or pipelines has come already.
                self.watch_parked(slot);
            }
        }
    }

    /// Ends a parked poll whose client has closed its half of the connection: it may be gone, and a
    /// message would be written for nobody. Requests that it sent before are answered.
    fn watch_parked(&mut self, slot: Slot) {
        let Some(row) = self.rows.get_mut(slot as usize) else {
            return;
        };
        match row.read_ahead(&mut self.head) {
            Client::Open => {}
            Client::Gone => self.close(slot),
            Client::Ended => {
                let State::Parked(parked) = mem::replace(&mut row.state, State::Idle) else {
                    return;
                };
                let batch = self.wire.hub.abandon_parked(parked.poll);
                self.write(slot, Answer::Batch(&Arc::new(batch)));
                self.go_on(slot);
            }
        }
    }

    /// Offloads a question to the thread of the routes.
    fn send(&mut self, slot: Slot, present: Option<Present>, question: Question) {
        let Some(row) = self.rows.get_mut(slot as usize) else {
            return;
        };
        row.turn = row.turn.wrapping_add(1);
        row.deadline.clear();
        row.state = State::Asking(present);
        let offload = Offload {
            slot,
            turn: row.turn,
            question,
        };
        // A closed queue means that the server has ended.
        if self.queue.send(offload).is_err() {
            self.close(slot);
        }
    }

    fn on_reply(&mut self, reply: Reply) {
        let slot = reply.slot;
        let Some(row) = self.rows.get_mut(slot as usize) else {
            return;
        };
        if row.turn != reply.turn || !matches!(row.state, State::Asking(_)) {
            return;
        }
        let State::Asking(present) = mem::replace(&mut row.state, State::Idle) else {
            return;
        };
        match (reply.answer, present) {
            (Decision::Admitted(admitted), Some(present)) => self.park(slot, admitted, present),
            // Unreachable: an offloaded poll keeps its presence.
            (Decision::Admitted(_), None) => return self.close(slot),
            (Decision::Answered(Ok(batch)), _) => self.answer(slot, &batch),
            (Decision::Answered(Err(refusal)), _) => self.refuse(slot, refusal),
            (Decision::Appended(number, form), _) => self.acknowledge(slot, number, form),
        }
        self.go_on(slot);
    }

    /// Looks at the polls at `slots`, for which the hub may have a reply.
    fn on_ready(&mut self, slots: &[Slot], outcomes: &mut Vec<(Slot, PollOutcome)>) {
        let rows = &self.rows;
        let parked = slots.iter().filter_map(|slot| {
            let row = rows.get(*slot as usize)?;
            match &row.state {
                State::Parked(parked) => Some((*slot, parked.poll)),
                _ => None,
            }
        });
        self.wire.hub.check_parked(self.notifier, parked, outcomes);
        let mut counted: Option<(Arc<Batch>, u64)> = None;
        for (slot, outcome) in outcomes.drain(..) {
            let Some(batch) = self.on_outcome(slot, outcome) else {
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
    fn on_outcome(&mut self, slot: Slot, outcome: PollOutcome) -> Option<Arc<Batch>> {
        let row = self.rows.get_mut(slot as usize)?;
        let batch = match outcome {
            PollOutcome::Waits(poll) => {
                if let State::Parked(parked) = &mut row.state {
                    parked.poll = poll;
                }
                return None;
            }
            PollOutcome::Answer(batch) => batch,
            PollOutcome::Behind { after, asked } => {
                let State::Parked(mut parked) = mem::replace(&mut row.state, State::Idle) else {
                    return None;
                };
                (parked.admitted.poll.after, parked.admitted.asked) = (after, Some(asked));
                self.send(slot, Some(parked.present), Question::Read(parked.admitted));
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
        let may = at_once(self.wire.access.may_read(&admitted.who, rooms));
        let written = match may {
            Some(Ok(())) => {
                row.spare = Some(admitted);
                self.write(slot, Answer::Batch(&batch));
                Some(batch)
            }
            Some(Err(refusal)) => {
                self.refuse(slot, refusal);
                None
            }
            None => {
                self.send(slot, Some(present), Question::Confirm(admitted, batch));
                None
            }
        };
        self.go_on(slot);
        written
    }

    fn on_deadline(&mut self, moment: u64, slot: Slot) {
        let Some(row) = self.rows.get_mut(slot as usize) else {
            return;
        };
        if !self.deadlines.is_over(&mut row.deadline, slot, moment) {
            return;
        }
        match &row.state {
            State::Parked(parked) => {
                let outcome = self.wire.hub.finish_parked(parked.poll);
                let batch = self.on_outcome(slot, outcome);
                self.count(batch.map(|batch| (batch, 1)));
            }
            State::Idle | State::Writing { .. } => self.close(slot),
            State::Asking(_) => {}
        }
    }
}
