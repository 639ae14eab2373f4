//! Commands and file transfers on servers outside releases. Each is entered in the audit log before it
//! begins, and its outcome afterwards. File content and output are never recorded.

use std::io::{Read, Write};
use std::path::Path;

use super::credentials::{Keyring, SshAccess};
use super::error::DeployError;
use super::run::bytes;
use super::said::Message;
use crate::git::UrlPolicy;
use crate::secret::Vault;
use crate::ssh::{Cancel, Command, Connection, Exit, NewRemoteFile, SshError, Stream};
use crate::store::audit::{self, NewEntry};
use crate::store::servers::{self, Server};
use crate::store::{AuditId, AuditOutcome, AuditWay, ServerKind, Store};

/// The author of a remote command and the way it was requested.
#[derive(Clone, Debug)]
pub struct By {
    /// The account.
    pub who: String,
    /// The way it was requested: command line, API or page.
    pub way: AuditWay,
}

/// Remote commands and files outside releases. Blocking.
#[derive(Clone)]
pub struct ByHand {
    pub(super) keyring: Keyring,
}

/// Receives the number of bytes transferred.
pub type Progress<'a> = &'a mut dyn FnMut(u64);

impl ByHand {
    /// Uses this database and key. A running platform on the same database does not matter.
    pub fn new(store: Store, vault: Vault, ssh: SshAccess) -> Self {
        Self {
            keyring: Keyring {
                store,
                vault,
                policy: UrlPolicy::default(),
                ssh,
            },
        }
    }

    /// The server with this name, else with this id.
    ///
    /// # Errors
    /// No server has the name or id, or the database fails.
    pub fn server(&self, name: &str) -> Result<Server, DeployError> {
        Ok(self.keyring.store.read(|conn| servers::named(conn, name))?)
    }

    /// Runs a command, as [`Connection::exec`] does.
    ///
    /// # Errors
    /// The server cannot be reached, the command cannot be run to its end, or the database fails. A
    /// command that exits with another status than 0 is no error.
    pub fn exec(
        &self,
        by: &By,
        server: &Server,
        command: Command<'_>,
        cancel: &Cancel,
        on_line: &mut dyn FnMut(Stream, &str),
    ) -> Result<Exit, DeployError> {
        let detail = command.text.to_owned();
        self.deed(by, "exec", server, &detail, cancel, |connection| {
            let exit = connection.exec(command, cancel, on_line)?;
            let outcome = match exit.success() {
                true => AuditOutcome::Succeeded,
                false => AuditOutcome::Failed,
            };
            let message = exit.to_string();
            Ok((exit, outcome, message))
        })
    }

    /// Copies a file, or a folder with its content, to the server, with modes and times. Returns the
    /// number of bytes sent.
    ///
    /// # Errors
    /// The local files cannot be read, the server cannot be reached or written to, or the database
    /// fails.
    pub fn put(
        &self,
        by: &By,
        server: &Server,
        local: &Path,
        remote: &str,
        cancel: &Cancel,
        progress: Progress<'_>,
    ) -> Result<u64, DeployError> {
        let detail = format!("{} → {remote}", local.display());
        self.bytes(
            by,
            "put",
            server,
            &detail,
            cancel,
            |connection| match local.is_dir() {
                true => connection.put_tree(local, remote, cancel, progress),
                false => connection.put_file(local, remote, cancel, progress),
            },
        )
    }

    /// Copies a file, or a folder with its content, from the server, with modes and times.
    ///
    /// # Errors
    /// The server cannot be reached or read from, the local files cannot be written, or the database
    /// fails.
    pub fn get(
        &self,
        by: &By,
        server: &Server,
        remote: &str,
        local: &Path,
        cancel: &Cancel,
        progress: Progress<'_>,
    ) -> Result<u64, DeployError> {
        let detail = format!("{remote} → {}", local.display());
        self.bytes(
            by,
            "get",
            server,
            &detail,
            cancel,
            |connection| match connection.remote_file(remote, cancel)?.is_folder() {
                true => connection.get_tree(remote, local, cancel, progress),
                false => connection.get_file(remote, local, cancel, progress),
            },
        )
    }

    /// Writes the content of `source` to `place`: a file as it is, a folder from a tar stream.
    ///
    /// # Errors
    /// The source fails, the server cannot be reached or written to, or the database fails.
    pub fn write(
        &self,
        by: &By,
        server: &Server,
        source: &mut dyn Read,
        place: &Place,
        cancel: &Cancel,
    ) -> Result<u64, DeployError> {
        let action = match place {
            Place::File { .. } => "put",
            Place::Folder { .. } => "put_tree",
        };
        let unheard = &mut |_| {};
        self.bytes(
            by,
            action,
            server,
            place.path(),
            cancel,
            |connection| match place {
                Place::File { path, new } => {
                    connection.upload_from(source, path, *new, cancel, unheard)
                }
                Place::Folder { path } => connection.send_tar(path, source, cancel, unheard),
            },
        )
    }

    /// Copies `place` to `sink`: a file as it is, a folder as a tar stream.
    ///
    /// # Errors
    /// The server cannot be reached or read from, the sink fails, or the database fails.
    pub fn read(
        &self,
        by: &By,
        server: &Server,
        place: &Place,
        sink: &mut dyn Write,
        cancel: &Cancel,
    ) -> Result<u64, DeployError> {
        let action = match place {
            Place::File { .. } => "get",
            Place::Folder { .. } => "get_tree",
        };
        let unheard = &mut |_| {};
        self.bytes(
            by,
            action,
            server,
            place.path(),
            cancel,
            |connection| match place {
                Place::File { path, .. } => connection.read_file(path, sink, cancel, unheard),
                Place::Folder { path } => connection.receive_tar(path, sink, cancel, unheard),
            },
        )
    }

    fn bytes(
        &self,
        by: &By,
        action: &str,
        server: &Server,
        detail: &str,
        cancel: &Cancel,
        work: impl FnOnce(&Connection) -> Result<u64, SshError>,
    ) -> Result<u64, DeployError> {
        self.deed(by, action, server, detail, cancel, |connection| {
            let count = work(connection)?;
            Ok((count, AuditOutcome::Succeeded, bytes(count)))
        })
    }

    fn deed<T>(
        &self,
        by: &By,
        action: &str,
        server: &Server,
        detail: &str,
        cancel: &Cancel,
        work: impl FnOnce(&Connection) -> Result<(T, AuditOutcome, String), SshError>,
    ) -> Result<T, DeployError> {
        let named = Some((server.id, server.hostname.as_str()));
        let deed = self.begin(by, action, named, detail)?;
        let done = self
            .connect(server, cancel)
            .and_then(|connection| Ok(work(&connection)?));
        match done {
            Ok((value, outcome, message)) => {
                self.end(deed, outcome, &message)?;
                Ok(value)
            }
            Err(error) => {
                self.end(deed, AuditOutcome::Failed, &Message::from(&error).stored())?;
                Err(error)
            }
        }
    }

    fn connect(&self, server: &Server, cancel: &Cancel) -> Result<crate::ssh::Leased, DeployError> {
        if server.kind == ServerKind::Local {
            return Err(DeployError::ThisMachine {
                what: server.hostname.clone(),
            });
        }
        let target = self.keyring.target(server)?;
        let timeouts = self.keyring.timeouts(server);
        Ok(self.keyring.ssh.pool.lease(&target, &timeouts, cancel)?)
    }

    pub(super) fn begin(
        &self,
        by: &By,
        action: &str,
        server: Option<(crate::store::ServerId, &str)>,
        detail: &str,
    ) -> Result<AuditId, DeployError> {
        let entry = NewEntry {
            who: &by.who,
            way: by.way,
            action,
            server,
            detail,
        };
        if by.way != AuditWay::Cli {
            let server = server.map(|(_, name)| name);
            tracing::info!(who = by.who, way = %by.way, action, server, "by hand");
        }
        Ok(self
            .keyring
            .store
            .write(|conn| audit::begin(conn, &entry))?)
    }

    pub(super) fn end(
        &self,
        deed: AuditId,
        outcome: AuditOutcome,
        message: &str,
    ) -> Result<(), DeployError> {
        let store = &self.keyring.store;
        Ok(store.write(|conn| audit::end(conn, deed, outcome, message))?)
    }
}

/// A file or folder to write or read on a server.
#[derive(Clone, Debug)]
pub enum Place {
    /// A file.
    File {
        /// Its path.
        path: String,
        /// The mode, modification time and durability of a written file.
        new: NewRemoteFile,
    },
    /// A folder with its content.
    Folder {
        /// Its path.
        path: String,
    },
}

impl Place {
    fn path(&self) -> &str {
        match self {
            Self::File { path, .. } | Self::Folder { path } => path,
        }
    }
}
