//! Wakes rooms whose messages waited to be coalesced; see [`linger`](super::linger).

use tokio::time::{Instant, sleep_until};

use super::{
    Hub,
    bell::Calls,
    state::{RoomKey, State},
};

/// Guard of the wake-up loop: messages may wait only while something wakes them.
struct Pacing<'a>(&'a Hub);

impl Drop for Pacing<'_> {
    fn drop(&mut self) {
        let mut calls = Calls::default();
        let mut state = self.0.lock();
        state.paced = false;
        state.wake_due(None, &mut calls);
        drop(state);
        self.0.call(calls);
    }
}

impl Hub {
    /// Lets large, busy rooms coalesce messages for a moment, for as long as this future is polled: a
    /// reply then carries several. Run it once, beside the server.
    pub async fn keep_pace(&self) {
        self.lock().paced = true;
        let _pacing = Pacing(self);
        loop {
            let mut calls = Calls::default();
            let next = self.lock().wake_due(Some(Instant::now()), &mut calls);
            self.call(calls);
            let changed = self.0.lingering.notified();
            match next {
                None => changed.await,
                Some(due) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(due) => {}
                },
            }
        }
    }
}

impl State {
    /// Wakes the rooms that are due at `now`, or all waiting ones if it is none. Returns the next due
    /// time.
    fn wake_due(&mut self, now: Option<Instant>, calls: &mut Calls) -> Option<Instant> {
        let mut next = None;
        for key in std::mem::take(&mut self.lingering) {
            let Some(room) = self.rooms.get_mut(key) else {
                continue;
            };
            match (room.linger.due(), now) {
                (None, _) => {}
                (Some(due), Some(now)) if due > now => {
                    next = Some(next.map_or(due, |next: Instant| next.min(due)));
                    self.lingering.push(key);
                }
                (Some(_), _) => {
                    room.linger.wake();
                    self.wake_room(key, calls);
                }
            }
        }
        next
    }

    /// Collects the waiters that a message in the room wakes.
    pub(super) fn wake_room(&mut self, key: RoomKey, calls: &mut Calls) {
        let Some(room) = self.rooms.get(key) else {
            return;
        };
        for member in &room.members {
            if let Some(client) = self.clients.get_mut(*member) {
                client.wake(key, calls);
            }
        }
    }
}
