//! When a large room under load is woken: waiting a moment for company, where company has been seen to
//! come. Pure.
//!
//! Waking a thousand polls costs a thousand replies, and one reply can carry several messages. So a
//! message in a large, busy room waits for those that are about to come, at most as long as the room's
//! replies take anyway. A message that waited in vain (a publisher that waits for its readers, say)
//! makes the next ones go at once, for twice as many messages as the last time.

use std::time::Duration;

use tokio::time::Instant;

/// What a reply costs, about, on a slow machine; a room waits no longer than all its replies would take.
const REPLY: Duration = Duration::from_micros(25);
/// Smaller rooms never wait: there is little to save.
const FEWEST: usize = 64;
/// After waiting in vain again and again, so many messages go at once before the next try.
const MOST_SKIPPED: u32 = 1024;

/// One room's pace.
#[derive(Debug, Default)]
pub(super) struct Linger {
    last: Option<Instant>,
    spacing: Option<Duration>,
    /// Messages wait until then.
    due: Option<Instant>,
    gathered: u32,
    skip: u32,
    vain: u32,
}

impl Linger {
    /// A message came; `true`: the room is to be woken now. `most` bounds the waiting.
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

    /// Until when messages wait, if any do.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The room is woken.
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

    /// The spacing of messages is a running mean over about the last eight.
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

    /// Messages every `gap`, woken when due: how many messages went with each waking.
    fn open_loop(gap: Duration, members: usize, messages: u32) -> Vec<u32> {
        let (mut linger, start) = (Linger::default(), Instant::now());
        let (mut together, mut waiting) = (Vec::new(), 0);
        for number in 0..messages {
            let now = start + gap * number;
            if linger.due().is_some_and(|due| due <= now) {
                linger.wake();
                together.push(std::mem::take(&mut waiting));
            }
            waiting += 1;
            if linger.arrive(now, members, MOST) {
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
        let (mut linger, mut now) = (Linger::default(), Instant::now());
        let mut held = Duration::ZERO;
        for _ in 0..5000 {
            if !linger.arrive(now, 1000, MOST)
                && let Some(due) = linger.due()
            {
                held += due - now;
                now = due;
                linger.wake();
            }
            now += ms(12);
        }
        assert!(held < ms(500), "{held:?}");
    }

    #[test]
    fn nothing_waits_longer_than_allowed() {
        let (mut linger, start) = (Linger::default(), Instant::now());
        for number in 0..1000 {
            let now = start + Duration::from_micros(700) * number;
            if !linger.arrive(now, 100_000, MOST) {
                let due = linger.due().unwrap();
                assert!(due <= now + MOST);
                if due <= now + Duration::from_micros(700) {
                    linger.wake();
                }
            }
        }
    }
}
