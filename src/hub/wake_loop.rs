//! Wakes rooms whose messages waited to be coalesced; see [`coalesce`](super::coalesce).

use tokio::time::{Instant, sleep_until};

use super::{
    Hub,
    notifier::Wakeups,
    state::{RoomKey, State},
};

/// Guard of the wake-up loop: messages may wait only while something wakes them.
struct Coalescing<'a>(&'a Hub);

impl Drop for Coalescing<'_> {
    fn drop(&mut self) {
        let mut wakeups = Wakeups::default();
        let mut state = self.0.lock();
        state.coalesces = false;
        state.wake_due(None, &mut wakeups);
        drop(state);
        self.0.wake(wakeups);
    }
}

impl Hub {
    /// Lets large, busy rooms coalesce messages for a moment, for as long as this future is polled: a
    /// reply then carries several. Run it once, beside the server.
    pub async fn run_wake_loop(&self) {
        self.lock().coalesces = true;
        let _guard = Coalescing(self);
        loop {
            let mut wakeups = Wakeups::default();
            let next = self.lock().wake_due(Some(Instant::now()), &mut wakeups);
            self.wake(wakeups);
            let changed = self.0.coalescing.notified();
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
    fn wake_due(&mut self, now: Option<Instant>, wakeups: &mut Wakeups) -> Option<Instant> {
        let mut next = None;
        for key in std::mem::take(&mut self.coalescing) {
            let Some(room) = self.rooms.get_mut(key) else {
                continue;
            };
            match (room.coalescer.due(), now) {
                (None, _) => {}
                (Some(due), Some(now)) if due > now => {
                    next = Some(next.map_or(due, |next: Instant| next.min(due)));
                    self.coalescing.push(key);
                }
                (Some(_), _) => {
                    room.coalescer.wake();
                    self.wake_room(key, wakeups);
                }
            }
        }
        next
    }

    /// Collects the waiters that a message in the room wakes.
    pub(super) fn wake_room(&mut self, key: RoomKey, wakeups: &mut Wakeups) {
        let Some(room) = self.rooms.get(key) else {
            return;
        };
        for member in &room.members {
            if let Some(client) = self.clients.get_mut(*member) {
                client.wake(key, wakeups);
            }
        }
    }
}
