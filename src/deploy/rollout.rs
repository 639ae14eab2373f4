//! The steps on the servers, in parallel. A server that fails does not stop the others.

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
use super::script::folders::Left;
use super::script::{Before, Keep};
use super::transfer::{self, Shipment};
use crate::ssh::Connection;
use crate::store::nodes::{self, Sent};
use crate::store::servers::Server;
use crate::store::{Conn, ReleaseId, StoreError};

/// Walks the chain of every server, at most `servers_at_once` at a time. `shipment` is the upload; a
/// rollback has none.
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

/// The steps of one server with their common state. The first step opens the connection.
pub(super) struct Chain<'a> {
    pub(super) run: &'a Run,
    server: &'a Server,
    pub(super) base: String,
    /// The release that `current` is to point to.
    pub(super) target: ReleaseId,
    destination: Option<Destination>,
    /// The earlier target of `current`, if it was another one.
    pub(super) before: Option<Before>,
    /// Paths that could not be removed.
    left: Vec<Left>,
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
        left: Vec::new(),
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
            Ok(match is_last {
                true => chain.note_of_left().unwrap_or(message),
                false => message,
            })
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

    /// The server's connection, opened again if it was lost.
    pub(super) fn destination(&mut self) -> Result<&Destination, StepError> {
        let opened = match self.destination.take() {
            Some(opened) if !opened.is_lost() => opened,
            _ => Destination::open(self.server, &self.run.keyring, self.run.stop.cancel())?,
        };
        Ok(self.destination.insert(opened))
    }

    fn switch(&mut self, frame: &StepFrame<'_>) -> Result<Message, StepError> {
        let (base, target) = (self.base.clone(), self.target);
        let needs_shell = self.run.spec.needs_shell();
        if self.switching.is_none() {
            self.destination()?;
        }
        let sent = self.sent_if_last()?;
        let script = script::switch(&base, target) + &self.prune_after_switch(sent.as_deref());
        let (mut before, mut left) = (None, Vec::new());
        let mut on_line = |line: &str| match (Before::read(line), Left::read(line)) {
            (Some(told), _) => {
                let target = told.as_ref().map_or("nothing", |before| &before.target);
                frame.line(&format!("before: {target}"));
                before = told;
            }
            (_, Some(told)) => hear_left(frame, told, &mut left),
            _ => frame.line(line),
        };
        let switching = self.switching.take();
        let (keep, mut left_by_sftp) = (self.keep(sent.as_deref().unwrap_or_default()), Vec::new());
        let by_sftp = |connection: &Connection, on_line: &mut dyn FnMut(&str)| {
            if needs_shell {
                return Err(Refusal::of(NO_COMMANDS, &[]).into());
            }
            files_alone::switch(connection, &base, target, frame.cancel(), on_line)?;
            if sent.is_some() {
                match files_alone::prune(connection, &base, &keep, frame.cancel(), on_line) {
                    Ok(left) => left_by_sftp = left,
                    Err(error) => on_line(&format!("{NOT_REMOVED}: {error}")),
                }
            }
            Ok(())
        };
        match (switching, &self.destination) {
            (Some(switching), Some(there)) => {
                there.go_on(switching, frame.time_left(), frame.cancel(), &mut on_line)?;
            }
            _ => script_or(
                self.destination.as_ref(),
                frame,
                &script,
                &mut on_line,
                by_sftp,
            )?,
        }
        for told in left_by_sftp {
            hear_left(frame, told, &mut left);
        }
        self.left.append(&mut left);
        self.before = before.filter(|before| before.named != Some(target));
        Ok(Message::default())
    }

    /// The end of the switch's script if `sent` is known: removes releases that are no longer kept.
    fn prune_after_switch(&self, sent: Option<&[Sent]>) -> String {
        sent.map_or_else(String::new, |sent| {
            let prune = script::prune(&self.base, &self.keep(sent));
            format!("({prune}) || echo '{NOT_REMOVED}'\n")
        })
    }

    fn keep<'b>(&'b self, sent: &'b [Sent]) -> Keep<'b> {
        Keep {
            count: self.run.spec.project.keep,
            sent,
            owner: &self.run.owner,
        }
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
                    + &self.prune_after_switch(self.sent_if_last()?.as_deref()),
            ),
            false => None,
        };
        let sent;
        (sent, self.switching) =
            shipment.send(self.destination()?, &base, then.as_deref(), frame)?;
        Ok(match sent {
            transfer::Sent::Nothing => {
                Said::new("note.there", format!("already in {base}")).arg("path", base)
            }
            transfer::Sent::Delta {
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
            transfer::Sent::Everything { bytes: size } => {
                let size = bytes(size);
                Said::new("note.uploaded", format!("{size} in {base}"))
                    .arg("size", size)
                    .arg("path", base)
            }
            transfer::Sent::Singly { bytes: size } => {
                let size = bytes(size);
                let text = format!("{size} in {base}, file by file by SFTP");
                Said::new("note.uploaded_singly", text)
                    .arg("size", size)
                    .arg("path", base)
            }
        }
        .into())
    }

    /// Removes old releases. The new release is already live, so a fault is logged and fails nothing.
    fn tidy(&mut self, frame: &StepFrame<'_>) {
        if let Err(error) = self.try_to_tidy(frame) {
            frame.line(&format!("{NOT_REMOVED}: {error}"));
        }
    }

    fn try_to_tidy(&mut self, frame: &StepFrame<'_>) -> Result<(), StepError> {
        let sent = self.run.keyring.store.read(|conn| self.sent_here(conn))?;
        self.destination()?;
        let keep = self.keep(&sent);
        let script = script::prune(&self.base, &keep);
        let (mut left, mut left_by_sftp) = (Vec::new(), Vec::new());
        let mut on_line = |line: &str| match Left::read(line) {
            Some(told) => hear_left(frame, told, &mut left),
            None => frame.line(line),
        };
        let by_sftp = |connection: &Connection, on_line: &mut dyn FnMut(&str)| {
            left_by_sftp =
                files_alone::prune(connection, &self.base, &keep, frame.cancel(), on_line)?;
            Ok(())
        };
        let there = self.destination.as_ref();
        let pruned = script_or(there, frame, &script, &mut on_line, by_sftp);
        for told in left_by_sftp {
            hear_left(frame, told, &mut left);
        }
        self.left.append(&mut left);
        pruned
    }

    /// A message about paths that could not be removed, if there are any.
    fn note_of_left(&self) -> Option<Message> {
        let first = self.left.first()?;
        let count = self.left.len();
        let text = format!(
            "not all of what is no longer kept could be removed ({count}): {}: {}",
            first.name, first.reason
        );
        let said = Said::new("note.left", text)
            .arg("count", count)
            .arg("name", &first.name)
            .arg("reason", &first.reason);
        Some(said.into())
    }

    /// [`sent_here`](Self::sent_here) if the release ends with the switch.
    fn sent_if_last(&self) -> Result<Option<Vec<Sent>>, StepError> {
        let is_last = self.run.spec.ends_with_switch();
        let sent = is_last.then(|| self.run.keyring.store.read(|conn| self.sent_here(conn)));
        sent.transpose().map_err(StepError::Store)
    }

    /// The releases sent to this server, except the one that goes live.
    pub(super) fn sent_here(&self, conn: &mut Conn) -> Result<Vec<Sent>, StoreError> {
        nodes::sent_to(conn, self.run.spec.project.id, self.server.id, self.target)
    }
}

/// Logs and collects a path that could not be removed.
fn hear_left(frame: &StepFrame<'_>, told: Left, left: &mut Vec<Left>) {
    frame.line(&told.to_string());
    left.push(told);
}

/// Runs one of the platform's own scripts, or its SFTP equivalent on a server without a shell.
fn script_or(
    destination: Option<&Destination>,
    frame: &StepFrame<'_>,
    script: &str,
    on_line: &mut dyn FnMut(&str),
    by_sftp: impl FnOnce(&Connection, &mut dyn FnMut(&str)) -> Result<(), StepError>,
) -> Result<(), StepError> {
    let Some(destination) = destination else {
        return Ok(());
    };
    match (frame.run(destination, script, None, on_line), destination) {
        (Err(error), Destination::Ssh(connection)) if error.is_without_shell() => {
            by_sftp(connection, on_line)
        }
        (result, _) => result,
    }
}
