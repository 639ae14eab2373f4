//! Wakes rooms whose messages waited for company; see [`linger`](super::linger).

use std::task::Waker;

use tokio::time::{Instant, sleep_until};

use super::{
    Hub,
    state::{RoomKey, State},
};

/// Messages may wait only while somebody wakes them.
struct Pacing<'a>(&'a Hub);

impl Drop for Pacing<'_> {
    fn drop(&mut self) {
        let mut wakers = Vec::new();
        let mut state = self.0.lock();
        state.paced = false;
        state.wake_due(None, &mut wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Hub {
    /// Lets large, busy rooms gather messages for a moment, for as long as this future is polled: a
    /// reply then carries several. Run it beside the server, once.
    pub async fn keep_pace(&self) {
        self.lock().paced = true;
        let _pacing = Pacing(self);
        loop {
            let mut wakers = Vec::new();
            let next = self.lock().wake_due(Some(Instant::now()), &mut wakers);
            wakers.into_iter().for_each(Waker::wake);
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
    /// Wakes the rooms that are due at `now` (all that wait where it is none). When the next is.
    fn wake_due(&mut self, now: Option<Instant>, wakers: &mut Vec<Waker>) -> Option<Instant> {
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
                    self.wake_room(key, wakers);
                }
            }
        }
        next
    }

    /// Collects whom a message in the room wakes.
    pub(super) fn wake_room(&mut self, key: RoomKey, wakers: &mut Vec<Waker>) {
        let Some(room) = self.rooms.get(key) else {
            return;
        };
        for member in &room.members {
            let Some(client) = self.clients.get_mut(*member) else {
                continue;
            };
            for poll in &mut client.polls {
                if poll.rooms.contains(&key) {
                    wakers.extend(poll.waker.take());
                }
            }
        }
    }
}
