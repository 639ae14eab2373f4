//! The steps on the servers, side by side. A server that fails stops nobody else.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::destination::{Destination, Ongoing};
use super::error::StepError;
use super::files_alone;
use super::hook::Hook;
use super::plan::{Step, key};
use super::run::{Run, StepFrame, bytes};
use super::said::refusal::{NO_COMMANDS, Refusal};
use super::said::{Message, Said};
use super::script;
use super::transfer::{Sent, Shipment};
use crate::ssh::Connection;
use crate::store::nodes;
use crate::store::servers::Server;
use crate::store::{ReleaseId, StoreError};

/// Walks every server's chain, at most `servers_at_once` at a time. `shipment` is what to
/// upload; a rollback has none.
pub(super) fn roll_out(run: &Run, shipment: Option<&Shipment>) -> Result<(), StoreError> {
    let waiting: Mutex<VecDeque<&Server>> = Mutex::new(run.spec.servers.iter().collect());
    let next = || {
        waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    };
    let hands = run.options.servers_at_once.min(run.spec.servers.len());
    thread::scope(|scope| {
        let working: Vec<_> = (0..hands)
            .map(|_| {
                scope.spawn(|| {
                    while let Some(server) = next() {
                        serve(run, server, shipment)?;
                    }
                    Ok(())
                })
            })
            .collect();
        working
            .into_iter()
            .try_for_each(|hand| hand.join().unwrap_or(Ok(())))
    })
}

const NOT_REMOVED: &str = "old releases are not removed";

/// What a server's steps share: the connection, opened by the first of them.
pub(super) struct Chain<'a> {
    pub(super) run: &'a Run,
    server: &'a Server,
    pub(super) base: String,
    /// The release whose folder `current` is to point to.
    pub(super) target: ReleaseId,
    destination: Option<Destination>,
    /// The release that was live before the switch, if another one was.
    pub(super) before: Option<ReleaseId>,
    /// The upload's script, which goes on with the switch.
    switching: Option<Ongoing>,
}

fn serve(run: &Run, server: &Server, shipment: Option<&Shipment>) -> Result<(), StoreError> {
    let mut chain = Chain {
        run,
        server,
        base: script::base(&server.root, &run.spec.project.path),
        target: run.release.target_id.unwrap_or(run.release.id),
        destination: None,
        before: None,
        switching: None,
    };
    let steps = run.spec.server_steps(shipment.map(|_| Step::Upload));
    let keys: Vec<String> = steps
        .iter()
        .map(|&step| key(step, Some(server.id)))
        .collect();
    let tidies_with_switch = run.spec.ends_with_switch();
    for (place, &step) in steps.iter().enumerate() {
        let is_last = place + 1 == steps.len();
        let is_begun = chain.switching.is_some();
        let act = |frame: &StepFrame<'_>| {
            let message = chain.act(step, frame, shipment)?;
            if is_last && !tidies_with_switch {
                chain.tidy(frame);
            }
            Ok(message)
        };
        let done = match is_begun {
            true => run.begun_step(&keys[place], act)?,
            false => run.step(&keys[place], act)?,
        };
        if !done {
            return run.skip(&keys[place + 1..]);
        }
    }
    Ok(())
}

impl Chain<'_> {
    fn act(
        &mut self,
        step: Step,
        frame: &StepFrame<'_>,
        shipment: Option<&Shipment>,
    ) -> Result<Message, StepError> {
        let project = &self.run.spec.project;
        let release_folder = format!("releases/{}", self.target);
        match (step, shipment) {
            (Step::Upload, Some(shipment)) => self.upload(frame, shipment),
            (Step::BeforeDeploy, _) => self.command(frame, &release_folder, &project.before_deploy),
            (Step::Switch, _) => self.switch(frame),
            (Step::Restart, _) if project.restart.is_empty() => {
                Ok(Said::new("note.nothing_to_restart", "nothing to restart").into())
            }
            (Step::Restart, _) => {
                let restarted = self.command(frame, "current", &project.restart);
                self.or_back(frame, restarted)
            }
            (Step::Health, _) => {
                let healthy = self.health(frame);
                self.or_back(frame, healthy)
            }
            (Step::AfterDeploy, _) => self.command(frame, "current", &project.after_deploy),
            _ => Ok(Message::default()),
        }
    }

    /// The server, reached; anew where the line to it was lost.
    pub(super) fn destination(&mut self) -> Result<&Destination, StepError> {
        let opened = match self.destination.take() {
            Some(opened) if !opened.is_lost() => opened,
            _ => Destination::open(self.server, &self.run.keyring, self.run.stop.cancel())?,
        };
        Ok(self.destination.insert(opened))
    }

    /// Runs one of our own scripts, or does the same by SFTP where the server has no shell.
    fn script_or(
        &mut self,
        frame: &StepFrame<'_>,
        script: &str,
        on_line: &mut dyn FnMut(&str),
        by_sftp: impl FnOnce(&Connection, &mut dyn FnMut(&str)) -> Result<(), StepError>,
    ) -> Result<(), StepError> {
        let destination = self.destination()?;
        match (frame.run(destination, script, None, on_line), destination) {
            (Err(error), Destination::Ssh(connection)) if error.is_without_shell() => {
                by_sftp(connection, on_line)
            }
            (result, _) => result,
        }
    }

    fn switch(&mut self, frame: &StepFrame<'_>) -> Result<Message, StepError> {
        let (base, target) = (self.base.clone(), self.target);
        let needs_shell = self.run.spec.needs_shell();
        let failed = self.failed_if_last()?;
        let keep = self.run.spec.project.keep;
        let script = script::switch(&base, target) + &self.prune_after_switch(failed.as_deref());
        let mut before = None;
        let mut on_line = |line: &str| {
            before = before.or_else(|| script::live_before(line));
            frame.line(line);
        };
        let by_sftp = |connection: &Connection, on_line: &mut dyn FnMut(&str)| {
            if needs_shell {
                return Err(Refusal::of(NO_COMMANDS, &[]).into());
            }
            files_alone::switch(connection, &base, target, frame.cancel(), on_line)?;
            if let Some(failed) = &failed
                && let Err(error) =
                    files_alone::prune(connection, &base, keep, failed, frame.cancel(), on_line)
            {
                on_line(&format!("{NOT_REMOVED}: {error}"));
            }
            Ok(())
        };
        match (self.switching.take(), &self.destination) {
            (Some(switching), Some(there)) => {
                there.go_on(switching, frame.time_left(), frame.cancel(), &mut on_line)?;
            }
            _ => self.script_or(frame, &script, &mut on_line, by_sftp)?,
        }
        self.before = before.filter(|release| *release != target);
        Ok(Message::default())
    }

    /// How the switch's script ends where `failed` is known: what is no longer kept goes.
    fn prune_after_switch(&self, failed: Option<&[ReleaseId]>) -> String {
        let keep = self.run.spec.project.keep;
        failed.map_or_else(String::new, |failed| {
            let prune = script::prune(&self.base, keep, failed, Some(self.target));
            format!("({prune}) || echo '{NOT_REMOVED}'\n")
        })
    }

    /// Runs a user's command.
    fn command(
        &mut self,
        frame: &StepFrame<'_>,
        folder: &str,
        text: &str,
    ) -> Result<Message, StepError> {
        let hook = Hook::of(&self.run.spec.project, text);
        let script = script::command(&self.base, folder, &self.run.variables(), hook);
        let limit = frame.command_limit();
        self.destination()?
            .run(&script, None, limit, frame.cancel(), &mut |line| {
                frame.line(line);
            })?;
        Ok(Message::default())
    }

    fn upload(&mut self, frame: &StepFrame<'_>, shipment: &Shipment) -> Result<Message, StepError> {
        let base = self.base.clone();
        let then = match self.run.spec.project.before_deploy.is_empty() {
            true => Some(
                script::switch_from_live(self.target)
                    + &self.prune_after_switch(self.failed_if_last()?.as_deref()),
            ),
            false => None,
        };
        let sent;
        (sent, self.switching) =
            shipment.send(self.destination()?, &base, then.as_deref(), frame)?;
        Ok(match sent {
            Sent::Nothing => {
                Said::new("note.there", format!("already in {base}")).arg("path", base)
            }
            Sent::Delta {
                bytes: size,
                files,
                from,
            } => {
                let size = bytes(size);
                let text = format!("{size} in {base}: {files} files since release {from}");
                Said::new("note.uploaded_delta", text)
                    .arg("size", size)
                    .arg("path", base)
                    .arg("count", files)
                    .arg("release", from)
            }
            Sent::Everything { bytes: size } => {
                let size = bytes(size);
                Said::new("note.uploaded", format!("{size} in {base}"))
                    .arg("size", size)
                    .arg("path", base)
            }
            Sent::Singly { bytes: size } => {
                let size = bytes(size);
                let text = format!("{size} in {base}, file by file by SFTP");
                Said::new("note.uploaded_singly", text)
                    .arg("size", size)
                    .arg("path", base)
            }
        }
        .into())
    }

    /// Removes old releases. The release is already there: what cannot be removed is a line in the
    /// log, not a failure.
    fn tidy(&mut self, frame: &StepFrame<'_>) {
        let failed = match self.failed_releases() {
            Ok(failed) => failed,
            Err(error) => {
                frame.line(&format!("{NOT_REMOVED}: {error}"));
                return;
            }
        };
        let keep = self.run.spec.project.keep;
        let base = self.base.clone();
        let script = script::prune(&base, keep, &failed, None);
        let mut on_line = |line: &str| frame.line(line);
        let pruned = self.script_or(frame, &script, &mut on_line, |connection, on_line| {
            files_alone::prune(connection, &base, keep, &failed, frame.cancel(), on_line)
        });
        if let Err(error) = pruned {
            frame.line(&format!("{NOT_REMOVED}: {error}"));
        }
    }

    /// [`failed_releases`](Self::failed_releases) where the switch is what the release ends with.
    fn failed_if_last(&self) -> Result<Option<Vec<ReleaseId>>, StepError> {
        let is_last = self.run.spec.ends_with_switch();
        let failed = is_last.then(|| self.failed_releases());
        failed.transpose().map_err(StepError::Store)
    }

    /// Releases that came to this server without getting through their chain there.
    fn failed_releases(&self) -> Result<Vec<ReleaseId>, StoreError> {
        self.run.keyring.store.read(|conn| {
            nodes::unfinished_on(conn, self.run.spec.project.id, self.server.id, self.target)
        })
    }
}
