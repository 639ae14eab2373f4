//! A timer that serves one poll after another.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll as Step, Waker},
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer for polls that follow each other, as those of one connection do. Most polls are answered
/// long before they are due: a timer that still stands at an earlier moment is left there, and moved
/// on only when it rings. So a busy connection touches the runtime's clock once a hold and not once a
/// poll.
#[derive(Debug)]
pub struct Alarm {
    sleep: Pin<Box<Sleep>>,
    /// Until when the timer stands, and whom it wakes.
    set: Option<(Instant, Waker)>,
}

impl Default for Alarm {
    fn default() -> Alarm {
        Alarm {
            sleep: Box::pin(sleep_until(Instant::now())),
            set: None,
        }
    }
}

impl Alarm {
    /// Whether `due` has come; where not, the one who asks is woken when it does (and perhaps
    /// earlier). Every call may name another moment.
    pub fn is_due(&mut self, due: Instant, cx: &mut Context<'_>) -> bool {
        if let Some((until, waker)) = &self.set
            && *until <= due
            && waker.will_wake(cx.waker())
            && Instant::now() < *until
        {
            return false;
        }
        self.set = None;
        if self.sleep.deadline() > due {
            self.sleep.as_mut().reset(due);
        }
        loop {
            match self.sleep.as_mut().poll(cx) {
                Step::Pending => {
                    self.set = Some((self.sleep.deadline(), cx.waker().clone()));
                    return false;
                }
                Step::Ready(()) if self.sleep.deadline() >= due => return true,
                Step::Ready(()) => self.sleep.as_mut().reset(due),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    async fn rings_at(alarm: &mut Alarm, due: Instant) -> Duration {
        poll_fn(|cx| match alarm.is_due(due, cx) {
            true => Step::Ready(()),
            false => Step::Pending,
        })
        .await;
        Instant::now() - due
    }

    #[tokio::test]
    async fn rings_at_each_moment_whatever_was_asked_before() {
        let (mut alarm, start) = (Alarm::default(), Instant::now());
        let late = start + Duration::from_secs(3600);
        poll_fn(|cx| {
            assert!(!alarm.is_due(late, cx));
            Step::Ready(())
        })
        .await;
        for ms in [40, 20, 60, 60] {
            let due = start + Duration::from_millis(ms);
            let past = rings_at(&mut alarm, due).await;
            assert!(past < Duration::from_secs(5), "{past:?}");
            assert!(Instant::now() >= due);
        }
        assert!(!poll_fn(|cx| Step::Ready(alarm.is_due(late, cx))).await);
    }
}
