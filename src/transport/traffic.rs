//! Counters of the clients on the wire by transport, and of refusals, in plain atomics.

use std::{
    array,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::refusal::{Code, Refusal};

/// A transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A poll of the course's contract, with only a name.
    Course,
    /// A poll that is held until a message comes or its wait is over.
    LongPoll,
    /// A poll with `wait=0`, answered at once.
    PlainPoll,
    /// Server-Sent Events.
    Sse,
    /// A WebSocket.
    WebSocket,
}

impl Way {
    /// Every transport, in declaration order.
    pub const ALL: [Way; 5] = [
        Way::Course,
        Way::LongPoll,
        Way::PlainPoll,
        Way::Sse,
        Way::WebSocket,
    ];

    /// The transport of a poll that is held for `wait`.
    pub(super) fn of_wait(wait: Duration) -> Way {
        match wait.is_zero() {
            true => Way::PlainPoll,
            false => Way::LongPoll,
        }
    }

    /// The label in the metrics, as in `transport="long_poll"`.
    pub fn as_str(self) -> &'static str {
        match self {
            Way::Course => "course",
            Way::LongPoll => "long_poll",
            Way::PlainPoll => "plain_poll",
            Way::Sse => "sse",
            Way::WebSocket => "websocket",
        }
    }
}

/// The counters of the wire.
#[derive(Debug, Default)]
pub struct Traffic {
    present: [AtomicU64; Way::ALL.len()],
    begun: [AtomicU64; Way::ALL.len()],
    refused: [AtomicU64; Code::ALL.len()],
}

/// Counts a client as present until dropped.
#[derive(Debug)]
pub struct Present {
    traffic: Arc<Traffic>,
    way: Way,
}

impl Drop for Present {
    fn drop(&mut self) {
        self.traffic.present[self.way as usize].fetch_sub(1, Relaxed);
    }
}

impl Traffic {
    /// Counts the beginning of a poll, stream or socket, and its presence until the guard is
    /// dropped.
    pub(super) fn enter(self: &Arc<Self>, way: Way) -> Present {
        self.begun[way as usize].fetch_add(1, Relaxed);
        self.present[way as usize].fetch_add(1, Relaxed);
        Present {
            traffic: Arc::clone(self),
            way,
        }
    }

    /// Counts a refusal if `answer` is one.
    pub(super) fn count<T>(&self, answer: &Result<T, Refusal>) {
        if let Err(refusal) = answer {
            self.refuse(refusal);
        }
    }

    /// Counts a refusal.
    pub(super) fn refuse(&self, refusal: &Refusal) {
        self.refused[refusal.code() as usize].fetch_add(1, Relaxed);
    }

    /// The number of polls, streams and sockets that are open now, in the order of [`Way::ALL`].
    pub fn present(&self) -> [u64; Way::ALL.len()] {
        array::from_fn(|way| self.present[way].load(Relaxed))
    }

    /// The number of polls, streams and sockets since the start, in the order of [`Way::ALL`].
    pub fn begun(&self) -> [u64; Way::ALL.len()] {
        array::from_fn(|way| self.begun[way].load(Relaxed))
    }

    /// The number of refused requests since the start, in the order of [`Code::ALL`].
    pub fn refused(&self) -> [u64; Code::ALL.len()] {
        array::from_fn(|code| self.refused[code].load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_leave_are_not_counted_any_more() {
        let traffic = Arc::new(Traffic::default());
        let one = traffic.enter(Way::LongPoll);
        let other = traffic.enter(Way::LongPoll);
        drop(one);
        assert_eq!(traffic.present(), [0, 1, 0, 0, 0]);
        drop(other);
        assert_eq!(traffic.present(), [0; 5]);
        assert_eq!(traffic.begun(), [0, 2, 0, 0, 0]);
    }

    #[test]
    fn refusals_are_counted_by_their_code() {
        let traffic = Traffic::default();
        traffic.count(&Ok(()));
        for code in Code::ALL {
            traffic.count::<()>(&Err(Refusal::new(code, "", "")));
        }
        assert_eq!(traffic.refused(), [1; Code::ALL.len()]);
    }
}
