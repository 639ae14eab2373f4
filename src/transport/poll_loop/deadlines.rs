//! The deadlines of all connections, in one ordered map.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::hub::Slot;

/// Milliseconds since the start of the poll loop.
pub(super) type Moment = u64;

/// The deadline of one connection. Most polls are answered long before their deadline, so an entry
/// at an earlier moment is left in the map and moved only when it comes up. A busy connection
/// touches the map once per hold time and not once per poll.
#[derive(Debug, Default)]
pub(super) struct Deadline {
    due: Option<Moment>,
    /// The moment of its entry in the map, if it has one.
    entry: Option<Moment>,
}

impl Deadline {
    /// Removes the deadline.
    pub(super) fn clear(&mut self) {
        self.due = None;
    }
}

/// An ordered map from moments to connections; see the module.
#[derive(Debug)]
pub(super) struct Deadlines {
    start: Instant,
    entries: BTreeMap<Moment, Vec<Slot>>,
}

impl Deadlines {
    pub(super) fn new(start: Instant) -> Deadlines {
        Deadlines {
            start,
            entries: BTreeMap::new(),
        }
    }

    /// The moment at or directly after `instant`.
    pub(super) fn moment(&self, instant: Instant) -> Moment {
        let micros = instant.saturating_duration_since(self.start).as_micros();
        u64::try_from(micros.div_ceil(1000)).unwrap_or(u64::MAX)
    }

    /// Sets the deadline of the connection at `slot` to `due`.
    pub(super) fn set(&mut self, deadline: &mut Deadline, slot: Slot, due: Moment) {
        deadline.due = Some(due);
        if deadline.entry.is_none_or(|entry| due < entry) {
            deadline.entry = Some(due);
            self.entries.entry(due).or_default().push(slot);
        }
    }

    /// The time until the next entry, if there is one.
    pub(super) fn next(&self, now: Instant) -> Option<Duration> {
        let (first, _) = self.entries.first_key_value()?;
        let at = self.start + Duration::from_millis(*first);
        Some(at.saturating_duration_since(now))
    }

    /// Removes the entries that are due, with the moment of each.
    pub(super) fn take_up_to(&mut self, now: Instant) -> Vec<(Moment, Slot)> {
        let now = now.saturating_duration_since(self.start).as_millis();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        let mut up = Vec::new();
        while let Some(first) = self.entries.first_entry()
            && *first.key() <= now
        {
            let (moment, slots) = first.remove_entry();
            up.extend(slots.into_iter().map(|slot| (moment, slot)));
        }
        up
    }

    /// True if the entry of `moment` for the connection at `slot` means that its deadline has
    /// passed. An entry that was superseded by another entry or belongs to an earlier connection
    /// does not count.
    pub(super) fn is_over(&mut self, deadline: &mut Deadline, slot: Slot, moment: Moment) -> bool {
        if deadline.entry != Some(moment) {
            return false;
        }
        deadline.entry = None;
        match deadline.due {
            Some(due) if due <= moment => true,
            Some(due) => {
                self.set(deadline, slot, due);
                false
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn a_busy_connection_has_one_entry() {
        let start = Instant::now();
        let (mut deadlines, mut deadline) = (Deadlines::new(start), Deadline::default());
        for due in 100..1000 {
            deadlines.set(&mut deadline, 7, due);
        }
        assert_eq!(deadlines.entries.len(), 1);
        assert_eq!(deadlines.take_up_to(at(start, 100)), [(100, 7)]);
        assert!(!deadlines.is_over(&mut deadline, 7, 100));
        assert_eq!(deadlines.take_up_to(at(start, 998)), []);
        assert_eq!(deadlines.take_up_to(at(start, 999)), [(999, 7)]);
        assert!(deadlines.is_over(&mut deadline, 7, 999));
        assert_eq!(deadlines.next(start), None);
    }

    proptest! {
        /// After any sequence of sets and clears, each connection expires exactly at its last
        /// deadline.
        #[test]
        fn the_last_deadline_counts(
            acts in prop::collection::vec((0..3usize, prop::option::of(1..50u64), 0..20u64), 1..60),
        ) {
            let start = Instant::now();
            let mut deadlines = Deadlines::new(start);
            let mut rows: [Deadline; 3] = Default::default();
            let mut model: [Option<u64>; 3] = [None; 3];
            let mut now = 0;
            for (row, due, step) in acts {
                match due {
                    Some(due) => {
                        deadlines.set(&mut rows[row], row as Slot, now + due);
                        model[row] = Some(now + due);
                    }
                    None => {
                        rows[row].clear();
                        model[row] = None;
                    }
                }
                now += step;
                let mut over = Vec::new();
                loop {
                    let up = deadlines.take_up_to(at(start, now));
                    if up.is_empty() {
                        break;
                    }
                    for (moment, slot) in up {
                        let row = slot as usize;
                        if deadlines.is_over(&mut rows[row], slot, moment) {
                            rows[row].clear();
                            over.push(row);
                        }
                    }
                }
                over.sort_unstable();
                let due: Vec<usize> = (0..3).filter(|row| model[*row].is_some_and(|due| due <= now)).collect();
                prop_assert_eq!(&over, &due);
                due.iter().for_each(|row| model[*row] = None);
            }
        }
    }
}
