//! A client's own bounded queue. It is a cache: a reply is decided by rooms, cursor and log, and the
//! queue only spares the hub from looking further.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::mpsc;

use super::message::Message;

/// The bounded inlet and what was taken from it but not acknowledged yet.
#[derive(Debug)]
pub(super) struct Queue {
    inlet: mpsc::Sender<Arc<Message>>,
    outlet: mpsc::Receiver<Arc<Message>>,
    taken: VecDeque<Arc<Message>>,
    /// Messages in the inlet, so that an empty one is not touched.
    came: usize,
    /// Holds everything of the client's rooms after this number.
    floor: u64,
    /// The inlet was full: something after `floor` is missing.
    overflowed: bool,
}

impl Queue {
    /// A queue of at most `capacity` messages (and as many taken ones) that begins at `head`.
    pub(super) fn new(capacity: usize, head: u64) -> Queue {
        let (inlet, outlet) = mpsc::channel(capacity.max(1));
        Queue {
            inlet,
            outlet,
            taken: VecDeque::new(),
            came: 0,
            floor: head,
            overflowed: false,
        }
    }

    /// Puts a message in. A full queue is marked and takes nothing until it is settled: what it holds
    /// beyond the missing message would be of no use.
    pub(super) fn offer(&mut self, message: &Arc<Message>) -> bool {
        if !self.overflowed {
            match self.inlet.try_send(Arc::clone(message)) {
                Ok(()) => self.came += 1,
                Err(_) => self.overflowed = true,
            }
        }
        !self.overflowed
    }

    /// Takes what has come in; after an overflow begins anew at `head`.
    pub(super) fn settle(&mut self, head: u64) {
        if self.overflowed {
            while self.outlet.try_recv().is_ok() {}
            self.came = 0;
            self.taken.clear();
            self.floor = head;
            self.overflowed = false;
            return;
        }
        while self.came > 0
            && let Ok(message) = self.outlet.try_recv()
        {
            self.came -= 1;
            self.taken.push_back(message);
        }
        while self.taken.len() > self.inlet.max_capacity() {
            if let Some(oldest) = self.taken.pop_front() {
                self.floor = oldest.number;
            }
        }
    }

    /// The client has everything up to `number`. Only acknowledging removes.
    pub(super) fn acknowledge(&mut self, number: u64) {
        while self.taken.front().is_some_and(|m| m.number <= number) {
            self.taken.pop_front();
        }
        self.floor = self.floor.max(number);
    }

    /// The settled messages after `after`, oldest first; `None` where the queue cannot vouch for them.
    pub(super) fn after(&self, after: u64) -> Option<impl Iterator<Item = &Arc<Message>>> {
        if after < self.floor {
            return None;
        }
        let first = self.taken.partition_point(|m| m.number <= after);
        Some(self.taken.range(first..))
    }
}
