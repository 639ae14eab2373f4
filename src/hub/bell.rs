//! Wake-ups of parked polls: polls that are futures are woken by their wakers, polls that are held in a
//! slot through a notifier, which is called once for many of them.

use std::{fmt, sync::Arc, task::Waker};

/// The slot of a poll, numbered by whoever holds many polls.
pub type Place = u32;

/// Receives the slots of polls that may have an answer; see [`Hub::add_bell`](super::Hub::add_bell).
pub trait Bell: Send + Sync + 'static {
    /// Reports that the polls at `places` may have an answer. Called by the publisher, so it must
    /// neither block nor call the hub.
    fn ring(&self, places: &[Place]);
}

/// The key of one of a hub's notifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BellKey(pub(super) usize);

/// The waiter of a parked poll.
#[derive(Clone, Debug)]
pub(super) enum Waiter {
    Task(Waker),
    Place(BellKey, Place),
}

impl Waiter {
    /// Replaces the waiter at `place` with `newer`, without touching the task's reference count if both
    /// wake the same task.
    pub(super) fn keep(place: &mut Option<Waiter>, newer: WaiterRef<'_>) {
        match (place, newer) {
            (Some(Waiter::Task(kept)), WaiterRef::Task(waker)) => kept.clone_from(waker),
            (place, WaiterRef::Task(waker)) => *place = Some(Waiter::Task(waker.clone())),
            (place, WaiterRef::Place(bell, at)) => *place = Some(Waiter::Place(bell, at)),
        }
    }
}

/// A borrowed waiter, cloned only if the poll has to wait.
#[derive(Clone, Copy, Debug)]
pub(super) enum WaiterRef<'a> {
    Task(&'a Waker),
    Place(BellKey, Place),
}

/// Waiters to wake: collected under the lock, woken after it is released.
#[derive(Debug, Default)]
pub(super) struct Wakeups {
    tasks: Vec<Waker>,
    places: Vec<Vec<Place>>,
}

impl Wakeups {
    pub(super) fn add(&mut self, waiter: Option<Waiter>) {
        match waiter {
            None => {}
            Some(Waiter::Task(waker)) => self.tasks.push(waker),
            Some(Waiter::Place(BellKey(bell), place)) => {
                if self.places.len() <= bell {
                    self.places.resize_with(bell + 1, Vec::new);
                }
                self.places[bell].push(place);
            }
        }
    }

    fn make(self, bells: &[Arc<dyn Bell>]) {
        for (places, bell) in self.places.iter().zip(bells) {
            if !places.is_empty() {
                bell.ring(places);
            }
        }
        self.tasks.into_iter().for_each(Waker::wake);
    }
}

/// The notifiers of a hub. They are only ever added.
#[derive(Default)]
pub(super) struct Bells(std::sync::RwLock<Vec<Arc<dyn Bell>>>);

impl Bells {
    pub(super) fn add(&self, bell: Arc<dyn Bell>) -> BellKey {
        let mut bells = self.0.write().unwrap_or_else(|gone| gone.into_inner());
        bells.push(bell);
        BellKey(bells.len() - 1)
    }

    pub(super) fn make(&self, wakeups: Wakeups) {
        wakeups.make(&self.0.read().unwrap_or_else(|gone| gone.into_inner()));
    }
}

impl fmt::Debug for Bells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bells")
    }
}
