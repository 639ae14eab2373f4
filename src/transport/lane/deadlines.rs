//! When which connection is to be looked at again: one ordered map for all of them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::hub::Place;

/// Milliseconds since the lane's start.
pub(super) type Moment = u64;

/// One connection's deadline. Most polls are answered long before they are due: an entry that stands
/// at an earlier moment is left there, and moved on only when it comes up. So a busy connection
/// touches the map once a hold and not once a poll.
#[derive(Debug, Default)]
pub(super) struct Deadline {
    due: Option<Moment>,
    /// Where its entry stands, if it has one.
    entry: Option<Moment>,
}

impl Deadline {
    /// There is none any more.
    pub(super) fn clear(&mut self) {
        self.due = None;
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Deadlines {
    start: Instant,
    entries: BTreeMap<Moment, Vec<Place>>,
}

impl Deadlines {
    pub(super) fn new(start: Instant) -> Deadlines {
        Deadlines {
            start,
            entries: BTreeMap::new(),
        }
    }

    /// The moment at or right after `instant`.
    pub(super) fn moment(&self, instant: Instant) -> Moment {
        let micros = instant.saturating_duration_since(self.start).as_micros();
        u64::try_from(micros.div_ceil(1000)).unwrap_or(u64::MAX)
    }

    /// The connection at `place` is to be looked at at `due`.
    pub(super) fn set(&mut self, deadline: &mut Deadline, place: Place, due: Moment) {
        deadline.due = Some(due);
        if deadline.entry.is_none_or(|entry| due < entry) {
            deadline.entry = Some(due);
            self.entries.entry(due).or_default().push(place);
        }
    }

    /// How long until the next entry; none where there is none.
    pub(super) fn next(&self, now: Instant) -> Option<Duration> {
        let (first, _) = self.entries.first_key_value()?;
        let at = self.start + Duration::from_millis(*first);
        Some(at.saturating_duration_since(now))
    }

    /// Takes the entries that have come up, with the moment of each.
    pub(super) fn take_up_to(&mut self, now: Instant) -> Vec<(Moment, Place)> {
        let now = now.saturating_duration_since(self.start).as_millis();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        let mut up = Vec::new();
        while let Some(first) = self.entries.first_entry()
            && *first.key() <= now
        {
            let (moment, places) = first.remove_entry();
            up.extend(places.into_iter().map(|place| (moment, place)));
        }
        up
    }

    /// An entry of `moment` came up for the connection at `place`: whether that is over its deadline.
    /// An entry that another one or another connection has replaced counts for nothing.
    pub(super) fn is_over(
        &mut self,
        deadline: &mut Deadline,
        place: Place,
        moment: Moment,
    ) -> bool {
        if deadline.entry != Some(moment) {
            return false;
        }
        deadline.entry = None;
        match deadline.due {
            Some(due) if due <= moment => true,
            Some(due) => {
                self.set(deadline, place, due);
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
        /// Whatever is set, cleared and set again: each connection is over exactly when its last
        /// deadline has come.
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
                        deadlines.set(&mut rows[row], row as Place, now + due);
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
                    for (moment, place) in up {
                        let row = place as usize;
                        if deadlines.is_over(&mut rows[row], place, moment) {
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
