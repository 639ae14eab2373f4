//! The release engine: plan, state, worker, steps, rollout, recovery.
//!
//! [`Engine::submit`] makes a plan and stores it as queued. The dispatcher's thread gives it to a
//! worker, which walks it. The database records a change before it happens on a server, and every
//! change is a message in the release's room. Everything here blocks, except calls to a git host or a
//! server on behalf of a page: these are async and run on the pools.
//!
//! | file | content |
//! |---|---|
//! | `plan`, `state`, `tree`, `script`, `health` | pure: nodes, legal state changes, the tree shown to people, scripts for servers, the health check's verdicts |
//! | `recorder`, `node_log` | recording of changes and of nodes' output |
//! | `said` | texts for people, rendered from the catalogue of each language |
//! | `engine`, `dispatcher` | submit, cancel, roll back; queued releases are given to workers |
//! | `worker`, `run`, `platform`, `rollout`, `going_back` | walking a plan; automatic rollback of a release that does not work |
//! | `transfer` | transfer of a release's files to the servers |
//! | `files_alone` | the scripts' work on servers with SFTP only |
//! | `build_cache` | files that builds keep from release to release |
//! | `local`, `destination`, `credentials` | machines that commands run on, and the credentials for them |
//! | `proxy_command` | commands that carry the connections to servers |
//! | `by_hand`, `host_keys`, `inspection` | audited remote commands and files outside releases; host keys; facts about servers |
//! | `repository`, `fetches` | refs of a repository; one shared fetch per mirror |
//! | `placement`, `resolver` | pure: folders of projects that are one or overlap; lookup of addresses and links for it |
//! | `check` | connection tests of servers and git hosts, acceptance of their keys |

mod build_cache;
mod by_hand;
mod check;
mod credentials;
mod destination;
mod dispatcher;
mod engine;
mod error;
mod fetches;
mod files_alone;
mod going_back;
mod health;
mod hook;
mod host_keys;
mod inspection;
mod local;
mod node_log;
mod placement;
mod plan;
mod platform;
mod preview;
mod proxy_command;
mod recorder;
mod removal;
mod repository;
mod resolver;
mod rollout;
mod run;
mod said;
mod script;
mod state;
#[cfg(test)]
mod tests;
mod transfer;
mod tree;
mod work_folder;
mod worker;

use std::path::PathBuf;
use std::time::Duration;

use crate::sandbox::Sandbox;

use crate::pools::Pools;

pub use by_hand::{By, ByHand, Place};
pub use check::Check;
pub use credentials::{Agent, SshAccess};
pub use engine::{Engine, Order};
pub use error::DeployError;
pub use host_keys::{Import, ImportOutcome, Imported};
pub use inspection::{Folder, Found, Tool};
pub use node_log::NodeLog;
pub use placement::{Clash, Neighbour, Placement, Relation, Resolved};
pub use plan::{Spec, Step};
pub use preview::{Change, Live, Preview};
pub use recorder::{RELEASES, project_room, room};
pub use repository::{Freshness, KnownRefs};
pub use said::{Causes, Message, Said, Tell};
pub use state::{node_may, outcome, release_may};
pub use tree::{NODE_COLORS, color, figure, release_data};

/// The folders, connections and limits of the engine.
#[derive(Clone, Debug)]
pub struct Options {
    /// The platform's data folder, which no project may have.
    pub data: PathBuf,
    /// The folder of work trees.
    pub work: PathBuf,
    /// The folder of the nodes' logs.
    pub logs: PathBuf,
    /// The folder of the releases' manifests.
    pub manifests: PathBuf,
    /// The account that builds and platform hooks run as.
    pub run_as: Option<String>,
    /// The sandbox of builds and platform hooks.
    pub sandbox: Sandbox,
    /// The folder of the build caches.
    pub caches: PathBuf,
    /// The limit of all build caches together, in bytes.
    pub cache_bytes: u64,
    /// SSH connections, time-outs and keys.
    pub ssh: SshAccess,
    /// The thread pools for work that blocks.
    pub pools: Pools,
    /// The time limit of one command.
    pub command_limit: Duration,
    /// The time limit of one step.
    pub step_limit: Duration,
    /// The number of releases that run at once.
    pub releases_at_once: usize,
    /// The number of servers that one release works on at once.
    pub servers_at_once: usize,
    /// The kept size of a node's log, in bytes.
    pub node_log_bytes: u64,
}
