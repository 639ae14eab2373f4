//! Commands of projects on the platform's own machine, confined by the kernel.
//!
//! A confined command starts this very program again: `unshare` and the restrictions of a process
//! cannot be undone, so they belong to a process of their own. Three stages follow each other:
//!
//! | stage | what it does |
//! |---|---|
//! | supervisor | leads the process group, makes the namespaces, ends everything when it is told to |
//! | init | the first process of the PID namespace: builds the file system, reaps, ends with the command |
//! | command | drops privileges, takes the last restrictions and becomes the command |
//!
//! Where the kernel refuses namespaces, the supervisor is the reaper of what the command leaves behind,
//! and Landlock keeps the files of others away, if the kernel has it.

mod mounts;
mod restrict;
mod stage;

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

pub use stage::entry;

/// The word that makes the program a stage of a sandbox instead of the platform.
const STAGE: &str = "sandbox-stage";
/// This program, also after its file was replaced by an update.
const PROGRAM: &str = "/proc/self/exe";
/// The first of the 65,536 user ids that root inside a sandbox of a platform that runs as root has
/// outside. Ids from here on are used by no distribution, and systemd's containers end before.
const FIRST_MAPPED_ID: u32 = 1_900_000_000;
/// How many user ids a mapped sandbox has.
const MAPPED_IDS: u32 = 65_536;
/// The work tree inside a sandbox with a file system of its own.
const TREE: &str = "/longshore/tree";
/// The cache folder there.
const CACHE: &str = "/longshore/cache";

/// Keeps other processes of the account from reading this one's memory and environment, and the memory out
/// of core dumps.
///
/// # Errors
/// The system refuses it.
pub fn hide_process() -> io::Result<()> {
    let hidden = rustix::process::DumpableBehavior::NotDumpable;
    Ok(rustix::process::set_dumpable_behavior(hidden)?)
}

/// The strongest means that the kernel gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// A file system, a `/proc` and process ids of its own.
    Namespaces,
    /// Files of others cannot be opened, and other processes can neither be traced nor signalled;
    /// they can be seen.
    Landlock,
    /// Nothing is left behind; files and processes of the account can be read.
    Supervised,
    /// Nothing: the setting `build_sandbox` is `off`.
    Off,
}

impl Isolation {
    /// True where a command cannot read what the platform's account can.
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
    /// All of its groups.
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

/// Where the sandboxes of an installation open and close the file system.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    /// Never to be seen: the data folder, the settings file.
    pub hidden: Vec<PathBuf>,
    /// To be read beside the system's own folders.
    pub readable: Vec<PathBuf>,
    /// To be written beside the command's own folders.
    pub writable: Vec<PathBuf>,
}

/// What a stage is told by the one before it.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Order {
    isolation: Isolation,
    /// The process that must live on.
    parent: u32,
    /// True where root inside is nobody outside.
    mapped: bool,
    /// The platform's user and group, where root of the sandbox's user namespace stands for them.
    outer: Option<(u32, u32)>,
    identity: Option<Identity>,
    tree: PathBuf,
    cache: PathBuf,
    temporary: PathBuf,
    hidden: Vec<PathBuf>,
    readable: Vec<PathBuf>,
    writable: Vec<PathBuf>,
}

/// How commands are confined here.
#[derive(Clone, Debug)]
pub struct Sandbox {
    isolation: Isolation,
    mapped: bool,
    paths: Paths,
    /// Said by the kernel where it refused something stronger.
    refusal: Option<String>,
}

impl Sandbox {
    /// No sandbox at all.
    pub fn off() -> Self {
        Self {
            isolation: Isolation::Off,
            mapped: false,
            paths: Paths::default(),
            refusal: None,
        }
    }

    /// Tries the kernel's means from the strongest on, each with a command that does nothing, in folders
    /// below `place`.
    ///
    /// # Errors
    /// The folders cannot be made.
    pub fn probe(mut paths: Paths, place: &Path) -> io::Result<Self> {
        for path in paths
            .hidden
            .iter_mut()
            .chain(&mut paths.readable)
            .chain(&mut paths.writable)
        {
            *path = path.canonicalize().unwrap_or_else(|_| path.clone());
        }
        // A symlink into /run on many systems, which sandboxes do not see.
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

    /// The complaint of a sandbox that cannot be made.
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

    /// The means in use.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// The kernel's reason against something stronger.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// The owner that a command's folders must have, where it is not the platform's account.
    pub fn owner(&self, identity: Option<&Identity>) -> Option<(u32, u32)> {
        match identity {
            Some(identity) => Some((identity.uid, identity.gid)),
            None if self.mapped => Some((FIRST_MAPPED_ID, FIRST_MAPPED_ID)),
            None => None,
        }
    }

    /// `command` (its program, arguments and variables) as one that runs confined, in the work tree. Its
    /// streams and its process group are the caller's to set. On [`Isolation::Off`] it is the
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
            // Paths that are no UTF-8 have no JSON: the stage then refuses the order, and says so.
            .arg(serde_json::to_string(&order).unwrap_or_default())
            .arg(command.get_program());
        supervisor
    }
}
