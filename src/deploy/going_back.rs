//! Automatic rollback of a server, if the project has a health check and the release fails it, or its
//! restart fails.

use std::thread;
use std::time::{Duration, Instant};

use super::error::StepError;
use super::health::{Earlier, Shown, Times, Tries, WayBack};
use super::hook::Hook;
use super::rollout::Chain;
use super::run::StepFrame;
use super::said::Message;
use super::script;
use crate::store::releases::{self, Release};
use crate::store::{Conn, ReleaseId};

/// Divisor of a check's time that gives the extra time for its script. On a busy server each second of
/// the script takes a little longer.
const SLOWNESS: u32 = 4;
/// Extra time for the script's start and end.
const SLACK: Duration = Duration::from_secs(10);
/// The time limit of the switch back.
const SWITCH_LIMIT: Duration = Duration::from_secs(60);
/// The time in which a lost server may accept connections again.
const RETURN: Duration = Duration::from_secs(30);
/// The pause between two attempts to reach it, short enough for a cancel.
const PAUSE: Duration = Duration::from_millis(500);

impl Chain<'_> {
    /// Waits until the project's health check holds.
    pub(super) fn health(&mut self, frame: &StepFrame<'_>) -> Result<Message, StepError> {
        let project = &self.run.spec.project;
        let times = Times::within(project.health_seconds);
        let script = script::health(
            &self.base,
            &self.run.variables(),
            Hook::health_check(project),
            times,
        );
        let limit = Duration::from_secs(u64::from(times.seconds + times.seconds / SLOWNESS));
        let limit = (limit + SLACK).min(frame.time_left());
        let mut tries = Tries::new(times);
        let cancel = frame.cancel();
        let ended =
            self.destination()?.run(
                &script,
                None,
                limit,
                cancel,
                &mut |line| match tries.hear(line) {
                    Shown::Lines(lines) => lines.iter().for_each(|line| frame.line(line)),
                    Shown::Holding(held) => {
                        frame.progress(|| format!("{held}/{} s", times.steady));
                    }
                },
            );
        for line in tries.unfinished() {
            frame.line(&line);
        }
        match (ended, tries.verdict()) {
            (Ok(()), _) => {
                frame.line(&format!("it held for {} s", times.steady));
                Ok(Message::default())
            }
            (Err(StepError::Command(_)), Some(unhealthy)) => Err(StepError::Unhealthy(unhealthy)),
            (Err(error), _) => Err(error),
        }
    }

    /// Rolls the server back to the earlier release if `done` is a failure and the project has a
    /// health check. A stop of the release stops the rollback too: the server stays as it is.
    pub(super) fn or_back(
        &mut self,
        frame: &StepFrame<'_>,
        done: Result<Message, StepError>,
    ) -> Result<Message, StepError> {
        let cause = match done {
            Err(cause) if !self.run.spec.project.health.is_empty() => cause,
            done => return done,
        };
        if self.run.stop.reason().is_some() {
            frame.line(&format!(
                "stopped: the server stays at release {}, whose health is not known",
                self.target
            ));
            return Err(cause);
        }
        let way = match self.earlier() {
            None => WayBack::Nowhere,
            Some((earlier, release)) => {
                frame.line(&cause.to_string());
                frame.line(&format!("going back to {earlier}"));
                frame.progress(|| format!("→ {earlier}"));
                self.go_back(frame, earlier, release.as_ref())
            }
        };
        let cause = Box::new(cause);
        Err(StepError::SentBack { cause, way })
    }

    /// The target of `current` before this release. The release is given if this installation sent it
    /// to this server.
    fn earlier(&self) -> Option<(Earlier, Option<Release>)> {
        let before = self.before.as_ref()?;
        let release = before.named.and_then(|id| self.release_sent_here(id));
        let earlier = match &release {
            Some(release) => Earlier::Release(release.id),
            None => Earlier::Path(before.target.clone()),
        };
        Some((earlier, release))
    }

    fn go_back(
        &mut self,
        frame: &StepFrame<'_>,
        earlier: Earlier,
        release: Option<&Release>,
    ) -> WayBack {
        let switch = script::switch_back(&self.base, self.target);
        let switched = self
            .reach_again(frame)
            .and_then(|()| self.run_back(frame, &switch, SWITCH_LIMIT));
        if let Err(why) = switched {
            return WayBack::NotGone(earlier, Box::new(why));
        }
        let restart = &self.run.spec.project.restart;
        if !restart.is_empty() {
            let variables = match release {
                Some(old) => {
                    let commit = old.commit_id.clone().unwrap_or_default();
                    self.run.variables_of(Some(old.id), &old.revision, commit)
                }
                None => self.run.variables_of(None, "", String::new()),
            };
            let hook = Hook::of(&self.run.spec.project, restart);
            let script = script::command(&self.base, "current", &variables, hook);
            if let Err(why) = self.run_back(frame, &script, self.run.options.command_limit) {
                return WayBack::NotRestarted(earlier, Box::new(why));
            }
        }
        WayBack::Gone(earlier)
    }

    /// Reaches the server again, which may restart after a lost connection.
    fn reach_again(&mut self, frame: &StepFrame<'_>) -> Result<(), StepError> {
        let patience = Instant::now() + RETURN;
        loop {
            match self.destination() {
                Ok(_) => return Ok(()),
                Err(_) if frame.cancel().is_cancelled() => return Err(StepError::Stopped),
                Err(error) if !error.is_unreachable() || Instant::now() >= patience => {
                    return Err(error);
                }
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    /// Runs a script of the rollback with its own time limit, since the step's may be over.
    fn run_back(
        &mut self,
        frame: &StepFrame<'_>,
        script: &str,
        limit: Duration,
    ) -> Result<(), StepError> {
        let cancel = frame.cancel();
        self.destination()?
            .run(script, None, limit, cancel, &mut |line| frame.line(line))
    }

    fn release_sent_here(&self, id: ReleaseId) -> Option<Release> {
        let find = |conn: &mut Conn| {
            let sent = self.sent_here(conn)?.iter().any(|sent| sent.release == id);
            sent.then(|| releases::find(conn, id)).transpose()
        };
        self.run.keyring.store.read(find).ok().flatten()
    }
}
