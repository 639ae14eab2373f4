//! Whom the hub wakes: polls that are futures by their wakers, and polls that are held by a place
//! through a bell, which is rung once for many of them.

use std::{fmt, sync::Arc, task::Waker};

/// A number that a holder of many polls gave to one of them.
pub type Place = u32;

/// Hears that polls may have an answer; see [`Hub::add_bell`](super::Hub::add_bell).
pub trait Bell: Send + Sync + 'static {
    /// The polls at `places` may have an answer. Called by whoever publishes, so it must neither block
    /// nor ask the hub.
    fn ring(&self, places: &[Place]);
}

/// Names a bell of a hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BellKey(pub(super) usize);

/// Who waits for a parked poll.
#[derive(Clone, Debug)]
pub(super) enum Sleeper {
    Task(Waker),
    Place(BellKey, Place),
}

impl Sleeper {
    /// Takes `newer`'s place, without touching the task's counts where both wake the same one.
    pub(super) fn keep(place: &mut Option<Sleeper>, newer: SleeperRef<'_>) {
        match (place, newer) {
            (Some(Sleeper::Task(kept)), SleeperRef::Task(waker)) => kept.clone_from(waker),
            (place, SleeperRef::Task(waker)) => *place = Some(Sleeper::Task(waker.clone())),
            (place, SleeperRef::Place(bell, at)) => *place = Some(Sleeper::Place(bell, at)),
        }
    }
}

/// Who would wait, if it had to.
#[derive(Clone, Copy, Debug)]
pub(super) enum SleeperRef<'a> {
    Task(&'a Waker),
    Place(BellKey, Place),
}

/// Those to be woken, collected under the lock and woken without it.
#[derive(Debug, Default)]
pub(super) struct Calls {
    tasks: Vec<Waker>,
    places: Vec<Vec<Place>>,
}

impl Calls {
    pub(super) fn add(&mut self, sleeper: Option<Sleeper>) {
        match sleeper {
            None => {}
            Some(Sleeper::Task(waker)) => self.tasks.push(waker),
            Some(Sleeper::Place(BellKey(bell), place)) => {
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

/// A hub's bells: only ever added to.
#[derive(Default)]
pub(super) struct Bells(std::sync::RwLock<Vec<Arc<dyn Bell>>>);

impl Bells {
    pub(super) fn add(&self, bell: Arc<dyn Bell>) -> BellKey {
        let mut bells = self.0.write().unwrap_or_else(|gone| gone.into_inner());
        bells.push(bell);
        BellKey(bells.len() - 1)
    }

    pub(super) fn make(&self, calls: Calls) {
        calls.make(&self.0.read().unwrap_or_else(|gone| gone.into_inner()));
    }
}

impl fmt::Debug for Bells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bells")
    }
}
