//! Wake-ups of parked polls: polls that are futures are woken by their wakers, polls that are held in a
//! slot through a notifier, which is called once for many of them.

use std::{fmt, sync::Arc, task::Waker};

/// The slot of a poll, numbered by whoever holds many polls.
pub type Slot = u32;

/// Receives the slots of polls that may have an answer; see [`Hub::add_notifier`](super::Hub::add_notifier).
pub trait Notifier: Send + Sync + 'static {
    /// Reports that the polls at `slots` may have an answer. Called by the publisher, so it must
    /// neither block nor call the hub.
    fn notify(&self, slots: &[Slot]);
}

/// The key of one of a hub's notifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotifierKey(pub(super) usize);

/// The waiter of a parked poll.
#[derive(Clone, Debug)]
pub(super) enum Waiter {
    Task(Waker),
    Slot(NotifierKey, Slot),
}

impl Waiter {
    /// Replaces the waiter at `slot` with `newer`, without touching the task's reference count if both
    /// wake the same task.
    pub(super) fn keep(slot: &mut Option<Waiter>, newer: WaiterRef<'_>) {
        match (slot, newer) {
            (Some(Waiter::Task(kept)), WaiterRef::Task(waker)) => kept.clone_from(waker),
            (slot, WaiterRef::Task(waker)) => *slot = Some(Waiter::Task(waker.clone())),
            (slot, WaiterRef::Slot(notifier, at)) => *slot = Some(Waiter::Slot(notifier, at)),
        }
    }
}

/// A borrowed waiter, cloned only if the poll has to wait.
#[derive(Clone, Copy, Debug)]
pub(super) enum WaiterRef<'a> {
    Task(&'a Waker),
    Slot(NotifierKey, Slot),
}

/// Waiters to wake: collected under the lock, woken after it is released.
#[derive(Debug, Default)]
pub(super) struct Wakeups {
    tasks: Vec<Waker>,
    slots: Vec<Vec<Slot>>,
}

impl Wakeups {
    pub(super) fn add(&mut self, waiter: Option<Waiter>) {
        match waiter {
            None => {}
            Some(Waiter::Task(waker)) => self.tasks.push(waker),
            Some(Waiter::Slot(NotifierKey(notifier), slot)) => {
                if self.slots.len() <= notifier {
                    self.slots.resize_with(notifier + 1, Vec::new);
                }
                self.slots[notifier].push(slot);
            }
        }
    }

    fn make(self, notifiers: &[Arc<dyn Notifier>]) {
        for (slots, notifier) in self.slots.iter().zip(notifiers) {
            if !slots.is_empty() {
                notifier.notify(slots);
            }
        }
        self.tasks.into_iter().for_each(Waker::wake);
    }
}

/// The notifiers of a hub. They are only ever added.
#[derive(Default)]
pub(super) struct Notifiers(std::sync::RwLock<Vec<Arc<dyn Notifier>>>);

impl Notifiers {
    pub(super) fn add(&self, notifier: Arc<dyn Notifier>) -> NotifierKey {
        let mut notifiers = self.0.write().unwrap_or_else(|gone| gone.into_inner());
        notifiers.push(notifier);
        NotifierKey(notifiers.len() - 1)
    }

    pub(super) fn make(&self, wakeups: Wakeups) {
        wakeups.make(&self.0.read().unwrap_or_else(|gone| gone.into_inner()));
    }
}

impl fmt::Debug for Notifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notifiers")
    }
}
