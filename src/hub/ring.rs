//! A room's newest messages, bounded by count and bytes. Most replies are filled from here.

use std::{collections::VecDeque, sync::Arc};

use super::{
    message::Message,
    room::{Family, RoomName},
};

/// Holds every message of its room after `floor`; older ones are in the log.
#[derive(Debug)]
pub(super) struct Ring {
    messages: VecDeque<Arc<Message>>,
    bytes: usize,
    floor: u64,
    /// Retention has dropped everything up to this number since the ring was created.
    forgotten: u64,
    /// True if the newest message alone is complete information: older ones are not kept and not
    /// missed.
    newest_only: bool,
}

impl Ring {
    /// Creates an empty ring of a room that had nothing after `floor`.
    pub(super) fn new(room: &RoomName, floor: u64) -> Ring {
        let newest_only = room.family() == Family::Presence;
        Ring {
            messages: VecDeque::new(),
            bytes: 0,
            floor: if newest_only { 0 } else { floor },
            forgotten: 0,
            newest_only,
        }
    }

    /// The newest message.
    pub(super) fn newest(&self) -> Option<&Arc<Message>> {
        self.messages.back()
    }

    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    pub(super) fn push(&mut self, message: Arc<Message>, most: usize, most_bytes: usize) {
        if self.newest_only {
            self.messages.clear();
            self.bytes = message.encoded().len();
            self.messages.push_back(message);
            return;
        }
        self.bytes += message.encoded().len();
        self.messages.push_back(message);
        while self.messages.len() > most || self.bytes > most_bytes {
            if !self.pop() {
                break;
            }
        }
    }

    /// Forgets messages that retention dropped, so that no reply has what is gone elsewhere.
    pub(super) fn forget(&mut self, up_to: u64) {
        while self.messages.front().is_some_and(|m| m.number <= up_to) {
            self.pop();
        }
        self.floor = self.floor.max(up_to);
        self.forgotten = self.forgotten.max(up_to);
    }

    /// Restores the messages that the log had of this room between `from` and the floor, as far as the
    /// bounds allow: `older`, complete and in order. Messages dropped since they were read stay
    /// dropped.
    pub(super) fn refill<'a>(
        &mut self,
        older: impl DoubleEndedIterator<Item = &'a Arc<Message>>,
        from: u64,
        most: usize,
        most_bytes: usize,
    ) {
        let from = from.max(self.forgotten);
        if self.newest_only || self.floor <= from {
            return;
        }
        for message in older.rev() {
            if message.number > self.floor || message.number <= from {
                continue;
            }
            let bytes = self.bytes + message.encoded().len();
            if self.messages.len() >= most || bytes > most_bytes {
                self.floor = message.number;
                return;
            }
            self.bytes = bytes;
            self.messages.push_front(Arc::clone(message));
        }
        self.floor = from;
    }

    fn pop(&mut self) -> bool {
        let Some(oldest) = self.messages.pop_front() else {
            return false;
        };
        self.bytes -= oldest.encoded().len();
        self.floor = oldest.number;
        true
    }

    /// The messages after `after`, oldest first. Complete if `after` is not below the floor.
    pub(super) fn after(&self, after: u64) -> impl Iterator<Item = &Arc<Message>> {
        let first = self.messages.partition_point(|m| m.number <= after);
        self.messages.range(first..)
    }
}
