//! Coalesces messages in a large room under load: a message waits a moment for others, if others have
//! been seen to follow. Pure.
//!
//! Waking a thousand polls costs a thousand replies, and one reply can carry several messages. So a
//! message in a large, busy room waits for those that are about to follow, at most for the time that
//! the room's replies take anyway. A message that waited in vain (for example because the publisher
//! waits for its readers) makes the next ones go out at once; each time in vain doubles how many.

use std::time::Duration;

use tokio::time::Instant;

/// The approximate cost of a reply on a slow machine; a room waits no longer than all its replies would
/// take.
const REPLY: Duration = Duration::from_micros(25);
/// The minimum size of a room that waits; in smaller ones there is little to save.
const FEWEST: usize = 64;
/// The maximum number of messages sent at once, after repeated waits in vain, before the next try.
const MOST_SKIPPED: u32 = 1024;

/// The coalescing state of one room.
#[derive(Debug, Default)]
pub(super) struct Coalescer {
    last: Option<Instant>,
    spacing: Option<Duration>,
    /// Messages wait until this moment.
    due: Option<Instant>,
    gathered: u32,
    skip: u32,
    vain: u32,
}

impl Coalescer {
    /// Records a message; `true` if the room is to be woken now. `most` bounds the wait.
    pub(super) fn arrive(&mut self, now: Instant, members: usize, most: Duration) -> bool {
        self.learn(now);
        let hold = most.min(REPLY.saturating_mul(u32::try_from(members).unwrap_or(u32::MAX)));
        let spacing = self.spacing.unwrap_or(Duration::MAX);
        match self.due {
            Some(due) => {
                self.gathered += 1;
                let full = now.checked_add(spacing).is_none_or(|next| next > due);
                if full {
                    self.wake();
                }
                full
            }
            None if members < FEWEST || spacing > hold => true,
            None if self.skip > 0 => {
                self.skip -= 1;
                true
            }
            None => {
                self.due = Some(now + hold);
                self.gathered = 1;
                false
            }
        }
    }

    /// The moment until which messages wait, if any do.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Records that the room is woken.
    pub(super) fn wake(&mut self) {
        if self.due.take().is_none() {
            return;
        }
        match self.gathered {
            0 | 1 => {
                self.vain = (self.vain.max(1) * 2).min(MOST_SKIPPED);
                self.skip = self.vain;
            }
            _ => self.vain = 0,
        }
        self.gathered = 0;
    }

    /// Updates the spacing of messages, a running mean over about the last eight.
    fn learn(&mut self, now: Instant) {
        if let Some(last) = self.last.replace(now) {
            let gap = now
                .saturating_duration_since(last)
                .min(Duration::from_secs(1));
            self.spacing = Some(match self.spacing {
                Some(spacing) => (spacing * 7 + gap) / 8,
                None => gap,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_millis(30);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Publishes a message every `gap` and wakes when due; returns the number of messages per wake-up.
    fn open_loop(gap: Duration, members: usize, messages: u32) -> Vec<u32> {
        let (mut coalescer, start) = (Coalescer::default(), Instant::now());
        let (mut together, mut waiting) = (Vec::new(), 0);
        for number in 0..messages {
            let now = start + gap * number;
            if coalescer.due().is_some_and(|due| due <= now) {
                coalescer.wake();
                together.push(std::mem::take(&mut waiting));
            }
            waiting += 1;
            if coalescer.arrive(now, members, MOST) {
                together.push(std::mem::take(&mut waiting));
            }
        }
        together
    }

    #[test]
    fn a_busy_large_room_gathers() {
        let together = open_loop(ms(10), 1000, 100);
        assert!(together[10..].iter().all(|n| *n == 3), "{together:?}");
        let together = open_loop(ms(10), 500, 100);
        assert!(together[10..].iter().all(|n| *n == 2), "{together:?}");
    }

    #[test]
    fn small_rooms_and_quiet_rooms_go_at_once() {
        assert!(open_loop(ms(1), 63, 100).iter().all(|n| *n == 1));
        assert!(open_loop(ms(100), 10_000, 100).iter().all(|n| *n == 1));
    }

    #[test]
    fn who_waits_for_each_message_is_hardly_held_up() {
        let (mut coalescer, mut now) = (Coalescer::default(), Instant::now());
        let mut held = Duration::ZERO;
        for _ in 0..5000 {
            if !coalescer.arrive(now, 1000, MOST)
                && let Some(due) = coalescer.due()
            {
                held += due - now;
                now = due;
                coalescer.wake();
            }
            now += ms(12);
        }
        assert!(held < ms(500), "{held:?}");
    }

    #[test]
    fn nothing_waits_longer_than_allowed() {
        let (mut coalescer, start) = (Coalescer::default(), Instant::now());
        for number in 0..1000 {
            let now = start + Duration::from_micros(700) * number;
            if !coalescer.arrive(now, 100_000, MOST) {
                let due = coalescer.due().unwrap();
                assert!(due <= now + MOST);
                if due <= now + Duration::from_micros(700) {
                    coalescer.wake();
                }
            }
        }
    }
}
