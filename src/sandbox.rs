//! Sandboxes for projects' commands on the platform's own machine, enforced by the kernel.
//!
//! A confined command starts this same program again: `unshare` and the restrictions of a process
//! cannot be undone, so they need a process of their own. There are three stages:
//!
//! | stage | what it does |
//! |---|---|
//! | supervisor | leads the process group, creates the namespaces, ends everything on request |
//! | init | the first process of the PID namespace: builds the file system, reaps, ends with the command |
//! | command | drops privileges, applies the last restrictions and becomes the command |
//!
//! If the kernel refuses namespaces, the supervisor reaps the processes that the command leaves behind,
//! and Landlock, if the kernel has it, protects the files of others.

mod mounts;
mod restrict;
mod stage;

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

pub use stage::entry;

/// The argument that starts the program as a stage of a sandbox instead of the platform.
const STAGE: &str = "sandbox-stage";
/// This program, even after an update has replaced its file.
const PROGRAM: &str = "/proc/self/exe";
/// The first of the 65,536 outer user ids of a sandbox whose root is mapped, on a platform that runs as
/// root. No distribution uses ids from here on, and systemd's containers end below.
const FIRST_MAPPED_ID: u32 = 1_900_000_000;
/// The number of user ids of a mapped sandbox.
const MAPPED_IDS: u32 = 65_536;
/// The work tree inside a sandbox with a file system of its own.
const TREE: &str = "/longshore/tree";
/// The cache folder inside such a sandbox.
const CACHE: &str = "/longshore/cache";

/// Prevents other processes of the account from reading this one's memory and environment, and keeps
/// the memory out of core dumps.
///
/// # Errors
/// The system refuses it.
pub fn hide_process() -> io::Result<()> {
    let hidden = rustix::process::DumpableBehavior::NotDumpable;
    Ok(rustix::process::set_dumpable_behavior(hidden)?)
}

/// The strongest confinement that the kernel offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// A file system, a `/proc` and process ids of its own.
    Namespaces,
    /// Files of others cannot be opened, and other processes can neither be traced nor signalled;
    /// they can be seen.
    Landlock,
    /// No process is left behind; files and processes of the account can be read.
    Supervised,
    /// No confinement: the setting `build_sandbox` is `off`.
    Off,
}

impl Isolation {
    /// True if a command cannot read the files of the platform's account.
    pub fn confines(self) -> bool {
        matches!(self, Self::Namespaces)
    }
}

/// An account to run a command as.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Identity {
    /// Its user id.
    pub uid: u32,
    /// Its main group.
    pub gid: u32,
    /// All its groups.
    pub groups: Vec<u32>,
}

/// The folders of one confined command.
#[derive(Clone, Copy, Debug)]
pub struct Rooms<'a> {
    /// The work tree, in which the command starts.
    pub tree: &'a Path,
    /// The cache, its `HOME`.
    pub cache: &'a Path,
    /// Its `/tmp`.
    pub temporary: &'a Path,
}

/// The paths that the sandboxes of an installation hide or show.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    /// Always hidden: the data folder, the settings file.
    pub hidden: Vec<PathBuf>,
    /// Readable in addition to the system's own folders.
    pub readable: Vec<PathBuf>,
    /// Writable in addition to the command's own folders.
    pub writable: Vec<PathBuf>,
}

/// The instructions of a stage to the next one.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Order {
    isolation: Isolation,
    /// The process that must stay alive.
    parent: u32,
    /// True if root inside has no privileges outside.
    mapped: bool,
    /// The platform's user and group, if root of the sandbox's user namespace is mapped to them.
    outer: Option<(u32, u32)>,
    identity: Option<Identity>,
    tree: PathBuf,
    cache: PathBuf,
    temporary: PathBuf,
    hidden: Vec<PathBuf>,
    readable: Vec<PathBuf>,
    writable: Vec<PathBuf>,
}

/// The confinement of commands on this machine.
#[derive(Clone, Debug)]
pub struct Sandbox {
    isolation: Isolation,
    mapped: bool,
    paths: Paths,
    /// The kernel's reason for refusing something stronger.
    refusal: Option<String>,
}

impl Sandbox {
    /// No sandbox.
    pub fn off() -> Self {
        Self {
            isolation: Isolation::Off,
            mapped: false,
            paths: Paths::default(),
            refusal: None,
        }
    }

    /// Tries the kernel's means, strongest first, each with a command that does nothing, in folders
    /// below `place`.
    ///
    /// # Errors
    /// The folders cannot be created.
    pub fn probe(mut paths: Paths, place: &Path) -> io::Result<Self> {
        for path in paths
            .hidden
            .iter_mut()
            .chain(&mut paths.readable)
            .chain(&mut paths.writable)
        {
            *path = path.canonicalize().unwrap_or_else(|_| path.clone());
        }
        // On many systems a symlink into /run, which sandboxes do not show.
        paths
            .readable
            .extend(Path::new("/etc/resolv.conf").canonicalize().ok());
        let folder = tempfile::Builder::new()
            .prefix("probe-")
            .tempdir_in(place)?;
        let is_root = rustix::process::geteuid().is_root();
        let means = [
            (Isolation::Namespaces, is_root),
            (Isolation::Namespaces, false),
            (Isolation::Landlock, false),
        ];
        let mut refusal = None;
        for (isolation, mapped) in means {
            let sandbox = Self {
                isolation,
                mapped,
                paths: paths.clone(),
                refusal: refusal.clone(),
            };
            match sandbox.try_out(folder.path())? {
                None => return Ok(sandbox),
                Some(said) => refusal = refusal.or(Some(said)),
            }
        }
        Ok(Self {
            isolation: Isolation::Supervised,
            mapped: false,
            paths,
            refusal,
        })
    }

    /// The error of a sandbox that cannot be created.
    fn try_out(&self, folder: &Path) -> io::Result<Option<String>> {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "exit 0"]).env_clear();
        let rooms = Rooms {
            tree: folder,
            cache: folder,
            temporary: folder,
        };
        let answer = self
            .confine(&shell, &rooms, None)
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&answer.stderr);
        Ok(match answer.status.success() {
            true => None,
            false => Some(match said.trim().lines().next() {
                Some(line) => line.trim_start_matches("sandbox: ").to_owned(),
                None => answer.status.to_string(),
            }),
        })
    }

    /// The confinement in use.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// The kernel's reason for refusing something stronger.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// The owner that a command's folders must have, if it is not the platform's account.
    pub fn owner(&self, identity: Option<&Identity>) -> Option<(u32, u32)> {
        match identity {
            Some(identity) => Some((identity.uid, identity.gid)),
            None if self.mapped => Some((FIRST_MAPPED_ID, FIRST_MAPPED_ID)),
            None => None,
        }
    }

    /// Wraps `command` (its program, arguments and variables) so that it runs confined in the work
    /// tree. The caller sets its streams and its process group. With [`Isolation::Off`] it is the
    /// command itself with its folder and account.
    pub fn confine(
        &self,
        command: &Command,
        rooms: &Rooms<'_>,
        identity: Option<&Identity>,
    ) -> Command {
        let mut confined = match self.isolation {
            Isolation::Off => {
                let mut plain = Command::new(command.get_program());
                if let Some(identity) = identity {
                    plain.uid(identity.uid).gid(identity.gid);
                }
                plain
            }
            _ => self.supervised(command, rooms, identity),
        };
        confined.args(command.get_args()).env_clear();
        confined.envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        if self.isolation != Isolation::Off {
            let (cache, temporary) = match self.isolation {
                Isolation::Namespaces => (Path::new(CACHE), Path::new("/tmp")),
                _ => (rooms.cache, rooms.temporary),
            };
            confined
                .env("HOME", cache)
                .env("XDG_CACHE_HOME", cache.join(".cache"))
                .env("TMPDIR", temporary);
        }
        confined.current_dir(rooms.tree);
        confined
    }

    fn supervised(
        &self,
        command: &Command,
        rooms: &Rooms<'_>,
        identity: Option<&Identity>,
    ) -> Command {
        let order = Order {
            isolation: self.isolation,
            parent: std::process::id(),
            mapped: self.mapped && identity.is_none(),
            outer: None,
            identity: identity.cloned(),
            tree: rooms.tree.to_owned(),
            cache: rooms.cache.to_owned(),
            temporary: rooms.temporary.to_owned(),
            hidden: self.paths.hidden.clone(),
            readable: self.paths.readable.clone(),
            writable: self.paths.writable.clone(),
        };
        let mut supervisor = Command::new(PROGRAM);
        supervisor
            .args([STAGE, "supervisor"])
            // Paths that are not UTF-8 cannot be encoded as JSON: the stage then refuses the
            // instructions with an error.
            .arg(serde_json::to_string(&order).unwrap_or_default())
            .arg(command.get_program());
        supervisor
    }
}
