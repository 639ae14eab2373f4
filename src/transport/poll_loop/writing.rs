//! Writes of the poll loop: as much as a socket accepts at once, the rest when it is writable.

use std::{mem, sync::Arc};

use mio::{Interest, Token};

use super::{connection::State, response::Answer, thread::Thread};
use crate::{
    hub::{Batch, Slot},
    transport::{refusal::Refusal, send::AnswerForm},
};

impl Thread {
    /// Counts a reply that this many parked polls received.
    pub(super) fn count(&self, counted: Option<(Arc<Batch>, u64)>) {
        if let Some((batch, times)) = counted {
            self.wire.hub.meter().answered(&batch, true, times);
        }
    }

    pub(super) fn answer(&mut self, slot: Slot, batch: &Arc<Batch>) {
        self.wire.hub.meter().answered(batch, batch.held, 1);
        self.write(slot, Answer::Batch(batch));
    }

    pub(super) fn refuse(&mut self, slot: Slot, refusal: Refusal) {
        self.wire.traffic.refuse(&refusal);
        self.write(slot, Answer::Refused(&refusal));
    }

    /// Confirms to the publisher that its message is in the log.
    pub(super) fn acknowledge(&mut self, slot: Slot, number: u64, form: AnswerForm) {
        self.write(slot, Answer::Published(number, form));
    }

    /// Writes a reply; the connection is then idle, still writing, or closed.
    pub(super) fn write(&mut self, slot: Slot, answer: Answer<'_>) {
        let close = self.ending || self.wire.hub.is_draining();
        let Some(row) = self.rows.get_mut(slot as usize) else {
            return;
        };
        let bytes = self.answers.bytes(answer, close);
        let rest = match row.write(bytes) {
            Ok([]) if close => return self.close(slot),
            Ok([]) => {
                row.state = State::Idle;
                return;
            }
            Ok(rest) => rest.to_vec(),
            Err(_) => return self.close(slot),
        };
        row.state = State::Writing { rest, close };
        self.watch_writing(slot, true);
    }

    pub(super) fn write_on(&mut self, slot: Slot) {
        let Some(row) = self.rows.get_mut(slot as usize) else {
            return;
        };
        let State::Writing { rest, close } = mem::replace(&mut row.state, State::Idle) else {
            return;
        };
        match row.write(&rest).map(<[u8]>::to_vec) {
            Ok(left) if left.is_empty() && close => self.close(slot),
            Ok(left) if left.is_empty() => {
                self.watch_writing(slot, false);
                self.go_on(slot);
            }
            Ok(left) => {
                row.state = State::Writing { rest: left, close };
                let due = self.deadlines.moment(self.now + self.times.write);
                self.deadlines.set(&mut row.deadline, slot, due);
            }
            Err(_) => self.close(slot),
        }
    }

    fn watch_writing(&mut self, slot: Slot, writes: bool) {
        let Some(row) = self.rows.get_mut(slot as usize) else {
            return;
        };
        let interest = match writes {
            true => Interest::READABLE | Interest::WRITABLE,
            false => Interest::READABLE,
        };
        if writes {
            let due = self.deadlines.moment(self.now + self.times.write);
            self.deadlines.set(&mut row.deadline, slot, due);
        }
        let registry = self.poll.registry();
        if registry
            .reregister(&mut row.stream, Token(slot as usize), interest)
            .is_err()
        {
            self.close(slot);
        }
    }
}
