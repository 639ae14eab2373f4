//! Connection tests of servers and git hosts, and acceptance of their host keys.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::destination::{Destination, LOGIN};
use super::engine::Engine;
use super::error::{DeployError, StepError};
use super::host_keys;
use super::inspection::{self, Folder, Found};
use super::placement::{Clash, Placement};
use super::resolver;
use super::said::refusal::{ROOT_NOT_MADE, Refusal};
use super::said::{Message, Said};
use super::script::{self, LOGGED_IN};
use crate::git::{self, GitError};
use crate::ssh::{Cancel, CancelOnDrop, Cause, Connection, Files, SshError};
use crate::store::servers::Server;
use crate::store::{ProjectId, ServerId, ServerKind, StoreError, projects, servers};

/// The number of checks of one server that run at once.
pub(super) const CHECKS_OF_SERVER: usize = 4;
/// The time limit of the inspection of a server.
const LOOK: Duration = Duration::from_secs(20);

/// The note about a server without a shell.
const FILES_ALONE: &str = "the server runs no commands: releases reach it file by file, by SFTP, and hooks, \
     the restart command and the health check cannot run there";

/// The result of a check.
#[derive(Clone, Debug, Default)]
pub struct Check {
    /// True if a release could get through.
    pub ok: bool,
    /// The fingerprint of the key that the host shows now. `None` for a host without SSH or out of
    /// reach.
    pub fingerprint: Option<String>,
    /// The kind of that key.
    pub key_kind: Option<String>,
    /// The host key that a person has accepted.
    pub accepted: Option<String>,
    /// True if the accepted key and the shown one differ: the host was reinstalled, or somebody
    /// intercepts the connection.
    pub changed: bool,
    /// The result in a sentence.
    pub message: Message,
    /// The duration of the check, in milliseconds.
    pub milliseconds: u64,
    /// Facts about the server, if the login succeeded.
    pub found: Option<Found>,
}

impl Engine {
    /// Connects to a server, logs in and tests that its root is writable. Dropping the future cancels
    /// the check.
    ///
    /// # Errors
    /// [`DeployError::Busy`] if too many servers are checked, or the database fails. A failed check is
    /// an `Ok` that says so.
    pub async fn check_server(&self, id: ServerId) -> Result<Check, DeployError> {
        let guard = CancelOnDrop::default();
        let (engine, cancel) = (self.clone(), guard.0.clone());
        let share = self.0.checks.share(id).await?;
        let check = move || {
            let _share = share;
            engine.check_server_unless(id, &cancel)
        };
        self.options().pools.servers.run(check).await?
    }

    fn check_server_unless(&self, id: ServerId, cancel: &Cancel) -> Result<Check, DeployError> {
        let server = self.keyring().store.read(|conn| servers::find(conn, id))?;
        let begun = Instant::now();
        let mut check = Check {
            accepted: server.host_key.clone(),
            ..Check::default()
        };
        match self.try_server(&server, &mut check, cancel) {
            Ok(message) => {
                check.ok = true;
                check.message = message;
            }
            Err(error) => check.message = Message::from(&error),
        }
        check.milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(check)
    }

    fn try_server(
        &self,
        server: &Server,
        check: &mut Check,
        cancel: &Cancel,
    ) -> Result<Message, StepError> {
        let opened = self.reach_anew(server, cancel);
        if let Err(StepError::Ssh(error)) = &opened
            && let Cause::UnknownHostKey { offered } | Cause::HostKeyChanged { offered, .. } =
                &error.cause
        {
            check.fingerprint = Some(offered.fingerprint.clone());
            check.key_kind = Some(offered.kind.clone());
            check.changed = matches!(error.cause, Cause::HostKeyChanged { .. });
        }
        let destination = opened?;
        if let Destination::Ssh(connection) = &destination {
            check.fingerprint = Some(connection.host_key().fingerprint.clone());
            check.key_kind = Some(connection.host_key().kind.clone());
        }
        check.found = self.inspect(server, &destination, cancel)?;
        if let Some(found) = &check.found {
            self.keep_real_paths(server, found)?;
        }
        if let Some(clash) = self.overlap_on(server.id)? {
            return Err(DeployError::Shared(clash).into());
        }
        if let Some(found) = check.found.as_ref().filter(|found| !found.shell) {
            return match found.folders.iter().any(|folder| folder.writable) {
                true => Ok(Said::new("note.files_alone", FILES_ALONE).into()),
                false => Err(Refusal::of(ROOT_NOT_MADE, &[&server.root]).into()),
            };
        }
        let mut said = String::new();
        destination.run(
            &script::inspect(&server.root),
            None,
            self.options()
                .command_limit
                .min(self.keyring().timeouts(server).idle),
            cancel,
            &mut |line| {
                if !line.starts_with(LOGIN) {
                    line.clone_into(&mut said);
                }
            },
        )?;
        Ok(match said.strip_prefix(LOGGED_IN) {
            Some(user) => Said::new("note.logged_in", &said).arg("user", user).into(),
            None => Message::Plain(said),
        })
    }

    /// Opens a new connection, since a pooled one does not prove that one can be opened.
    fn reach_anew(&self, server: &Server, cancel: &Cancel) -> Result<Destination, StepError> {
        if server.kind == ServerKind::Local {
            return Ok(Destination::Local);
        }
        let keyring = self.keyring();
        let target = keyring.target(server)?;
        let timeouts = keyring.timeouts(server);
        let pool = &keyring.ssh.pool;
        let leased = pool.lease_new(&target, &timeouts, cancel)?;
        Ok(Destination::Ssh(Box::new(leased)))
    }

    /// Collects facts about a server after the login.
    fn inspect(
        &self,
        server: &Server,
        destination: &Destination,
        cancel: &Cancel,
    ) -> Result<Option<Found>, StepError> {
        let placed = self.keyring().store.read(projects::placements)?;
        let own = placed.iter().filter(|row| row.server.id == server.id);
        let own: BTreeSet<String> = own
            .map(|row| script::base(&server.root, &row.path))
            .collect();
        let mut folders = vec![server.root.clone()];
        folders.extend(own);
        let mut found = Found::default();
        let limit = self.keyring().timeouts(server).idle.min(LOOK);
        let text = inspection::script(&folders);
        let looked = destination.run(&text, None, limit, cancel, &mut |line| {
            found.hear(line);
        });
        match (looked, destination) {
            // A server with SFTP only.
            (Err(error), Destination::Ssh(connection)) if error.is_without_shell() => {
                found.user = Some(server.user.clone());
                if see_files(connection, folders, &mut found, cancel).is_err() {
                    return Ok(None);
                }
            }
            (Err(error @ StepError::Ssh(_)), _) => return Err(error),
            // The script that decides reports the fault.
            (Err(_), _) if !found.shell => return Ok(None),
            _ => {}
        }
        Ok(Some(found))
    }

    /// Stores the real paths of the folders of a server's projects.
    fn keep_real_paths(&self, server: &Server, found: &Found) -> Result<(), StoreError> {
        self.keyring().store.write(|conn| {
            let placed = projects::placements(conn)?;
            for row in placed.iter().filter(|row| row.server.id == server.id) {
                let folder = script::base(&row.server.root, &row.path);
                let seen = found.folders.iter().find(|seen| seen.path == folder);
                let real = seen.and_then(|seen| seen.real_path.as_deref());
                if row.server.has_folders_of(server) && real != row.real_path.as_deref() {
                    projects::set_real_path(conn, row.project, server.id, real)?;
                }
            }
            Ok(())
        })
    }

    /// A clash of the folders of a server's projects that would be refused if one of them were saved.
    fn overlap_on(&self, server: ServerId) -> Result<Option<Clash>, StoreError> {
        let placed = self.keyring().store.read(projects::placements)?;
        let (own, others): (Vec<_>, Vec<_>) =
            placed.iter().partition(|row| row.server.id == server);
        let own: Vec<Placement> = own.into_iter().map(Placement::from).collect();
        let others: Vec<Placement> = others.into_iter().map(Placement::from).collect();
        let resolved = resolver::look_up(&own, &others);
        Ok(self.overlap(&own, &others, &resolved))
    }

    /// Fetches a project's repository.
    ///
    /// # Errors
    /// [`DeployError::Busy`] if too many fetches wait, or the database fails. A fault of git or its
    /// host is an `Ok` that says so.
    pub async fn check_git_host(&self, id: ProjectId) -> Result<Check, DeployError> {
        let store = self.keyring().store.clone();
        let find = move || store.read(|conn| projects::find(conn, id));
        let project = self.options().pools.database.run(find).await??;
        let begun = Instant::now();
        let mut check = Check {
            accepted: project.host_key.clone(),
            ..Check::default()
        };
        match self.fetch_now(id).await {
            Ok(refs) => {
                check.ok = true;
                check.fingerprint = project
                    .host_key
                    .as_deref()
                    .map(|pinned| host_keys::fingerprint_of(pinned).to_owned());
                let (branches, tags) = (refs.branches.len(), refs.tags.len());
                let text = format!("{branches} branches, {tags} tags");
                check.message = Said::new("note.refs", text)
                    .arg("branches", branches)
                    .arg("tags", tags)
                    .into();
            }
            Err(error) => {
                let Some(error) = error.git() else {
                    return Err(error);
                };
                match error {
                    GitError::UnknownHostKey { fingerprint, .. } => {
                        check.fingerprint = Some(fingerprint.clone());
                    }
                    GitError::HostKeyChanged { offered, .. } => {
                        check.fingerprint = Some(offered.clone());
                        check.changed = true;
                    }
                    _ => {}
                }
                check.message = Message::from(error);
            }
        }
        check.milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(check)
    }

    /// Pins the SSH key of a project's git host: the fingerprint that a person saw, if the host still
    /// shows it. Blocking: waits for the host.
    ///
    /// # Errors
    /// The repository is not reached over SSH, the host cannot be reached or shows another key, or the
    /// database fails.
    pub fn accept_git_host_key(&self, id: ProjectId, fingerprint: &str) -> Result<(), DeployError> {
        let store = &self.keyring().store;
        let project = store.read(|conn| projects::find(conn, id))?;
        let url =
            git::RepoUrl::parse(&project.repo, &self.keyring().policy).map_err(GitError::from)?;
        if !url.is_ssh() {
            return Err(DeployError::NoHostKey { what: project.repo });
        }
        let offered = git::host_key(
            &url,
            &self.keyring().policy,
            self.options().ssh.timeouts.connect,
        )?;
        host_keys::same(fingerprint, &offered.fingerprint)?;
        store.write(|conn| projects::set_host_key(conn, id, &offered.fingerprint))?;
        tracing::info!(
            project = project.title,
            key = offered.fingerprint,
            "git host key accepted"
        );
        Ok(())
    }
}

/// Tests folders by SFTP on a server without a shell.
fn see_files(
    connection: &Connection,
    folders: Vec<String>,
    found: &mut Found,
    cancel: &Cancel,
) -> Result<(), SshError> {
    let files = connection.files(cancel)?;
    for path in folders {
        let mut at = Path::new(&path);
        while files.look(at)?.is_none()
            && let Some(above) = at.parent()
        {
            at = above;
        }
        let room = files.try_folder(at)?;
        found.free_bytes = found.free_bytes.or(room.flatten());
        found.folders.push(Folder {
            path: path.clone(),
            real_path: real_path(&files, at, &path)?,
            writable: room.is_some(),
        });
    }
    Ok(())
}

/// The real path of the folder `path`: `at`, its part that exists, is resolved.
fn real_path(files: &Files<'_>, at: &Path, path: &str) -> Result<Option<String>, SshError> {
    let Ok(rest) = Path::new(path).strip_prefix(at) else {
        return Ok(None);
    };
    let real = files.real(at)?;
    let whole: PathBuf = real.components().chain(rest.components()).collect();
    Ok(whole.to_str().map(str::to_owned))
}
