//! Who is on the wire at this moment and by which way they came, and what was refused: plain atomics.

use std::{
    array,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::refusal::{Code, Refusal};

/// A way down the pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A poll of the course's contract: the name alone.
    Course,
    /// A poll that is held until something comes.
    LongPoll,
    /// A poll that is answered at once.
    PlainPoll,
    /// Server-Sent Events.
    Sse,
    /// A WebSocket.
    WebSocket,
}

impl Way {
    /// Every way, in the order of their numbers.
    pub const ALL: [Way; 5] = [
        Way::Course,
        Way::LongPoll,
        Way::PlainPoll,
        Way::Sse,
        Way::WebSocket,
    ];

    /// The way of a poll that is held for `wait`.
    pub(super) fn of_wait(wait: Duration) -> Way {
        match wait.is_zero() {
            true => Way::PlainPoll,
            false => Way::LongPoll,
        }
    }

    /// The word for it, as in `transport="long_poll"`.
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

/// The wire's counters; see the module.
#[derive(Debug, Default)]
pub struct Traffic {
    present: [AtomicU64; Way::ALL.len()],
    begun: [AtomicU64; Way::ALL.len()],
    refused: [AtomicU64; Code::ALL.len()],
}

/// Somebody is on the wire until this is dropped.
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
    /// A poll, stream or socket begins.
    pub(super) fn enter(self: &Arc<Self>, way: Way) -> Present {
        self.begun[way as usize].fetch_add(1, Relaxed);
        self.present[way as usize].fetch_add(1, Relaxed);
        Present {
            traffic: Arc::clone(self),
            way,
        }
    }

    /// Counts the refusal of an answer, if it is one.
    pub(super) fn count<T>(&self, answer: &Result<T, Refusal>) {
        if let Err(refusal) = answer {
            self.refused[refusal.code() as usize].fetch_add(1, Relaxed);
        }
    }

    /// How many are on the wire at this moment, in the order of [`Way::ALL`].
    pub fn present(&self) -> [u64; Way::ALL.len()] {
        array::from_fn(|way| self.present[way].load(Relaxed))
    }

    /// How many polls, streams and sockets have begun, in the order of [`Way::ALL`].
    pub fn begun(&self) -> [u64; Way::ALL.len()] {
        array::from_fn(|way| self.begun[way].load(Relaxed))
    }

    /// How many requests were refused, in the order of [`Code::ALL`].
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
        assert_eq!(traffic.refused(), [1; 8]);
    }
}
