//! A client's own bounded queue. It is a cache: rooms, cursor and log determine a reply, and the queue
//! only saves the hub from looking further.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::mpsc;

use super::message::Message;

/// The bounded inlet and the messages taken from it that are not acknowledged yet. A client that is
/// always parked when a message comes is answered from its room's ring and has no inlet at all.
#[derive(Debug)]
pub(super) struct Queue {
    channel: Option<Box<Channel>>,
    /// The queue holds everything of the client's rooms after this number.
    floor: u64,
    /// True if the inlet was full: something after `floor` is missing.
    overflowed: bool,
}

#[derive(Debug)]
struct Channel {
    inlet: mpsc::Sender<Arc<Message>>,
    outlet: mpsc::Receiver<Arc<Message>>,
    taken: VecDeque<Arc<Message>>,
    /// Messages in the inlet, so that an empty one is not touched.
    came: usize,
}

impl Queue {
    /// Creates an empty queue that begins at `head`.
    pub(super) fn new(head: u64) -> Queue {
        Queue {
            channel: None,
            floor: head,
            overflowed: false,
        }
    }

    /// Adds a message; the queue has at most `capacity` (and as many taken ones). A full queue is
    /// marked and takes nothing until it is settled: messages beyond the missing one would be of no
    /// use.
    pub(super) fn offer(&mut self, message: &Arc<Message>, capacity: usize) -> bool {
        if !self.overflowed {
            let channel = self.channel.get_or_insert_with(|| Channel::new(capacity));
            match channel.inlet.try_send(Arc::clone(message)) {
                Ok(()) => channel.came += 1,
                Err(_) => self.overflowed = true,
            }
        }
        !self.overflowed
    }

    /// Records a message that a parked poll of this client takes from the room's ring. `false` if the
    /// queue holds others before it and so has to hold this one too.
    pub(super) fn pass(&mut self, number: u64) -> bool {
        let is_empty = match &self.channel {
            Some(channel) => channel.came == 0 && channel.taken.is_empty(),
            None => true,
        };
        if is_empty && !self.overflowed {
            self.floor = self.floor.max(number);
        }
        is_empty || self.overflowed
    }

    /// Takes messages from the inlet; after an overflow, starts over at `head`.
    pub(super) fn settle(&mut self, head: u64) {
        if self.overflowed {
            self.channel = None;
            self.floor = head;
            self.overflowed = false;
            return;
        }
        let Some(channel) = &mut self.channel else {
            return;
        };
        while channel.came > 0
            && let Ok(message) = channel.outlet.try_recv()
        {
            channel.came -= 1;
            channel.taken.push_back(message);
        }
        while channel.taken.len() > channel.inlet.max_capacity() {
            if let Some(oldest) = channel.taken.pop_front() {
                self.floor = oldest.number;
            }
        }
    }

    /// Records that the client has everything up to `number`. Only acknowledging removes messages.
    pub(super) fn acknowledge(&mut self, number: u64) {
        if let Some(channel) = &mut self.channel {
            while channel.taken.front().is_some_and(|m| m.number <= number) {
                channel.taken.pop_front();
            }
        }
        self.floor = self.floor.max(number);
    }

    /// The settled messages after `after`, oldest first; `None` if the queue may not hold all of them.
    pub(super) fn after(&self, after: u64) -> Option<impl Iterator<Item = &Arc<Message>>> {
        if after < self.floor {
            return None;
        }
        let taken = self.channel.as_ref().map(|channel| &channel.taken);
        Some(taken.into_iter().flat_map(move |taken| {
            let first = taken.partition_point(|m| m.number <= after);
            taken.range(first..)
        }))
    }
}

impl Channel {
    fn new(capacity: usize) -> Box<Channel> {
        let (inlet, outlet) = mpsc::channel(capacity.max(1));
        Box::new(Channel {
            inlet,
            outlet,
            taken: VecDeque::new(),
            came: 0,
        })
    }
}
