//! The release engine: plan, state, worker, steps, roll-out, recovery.
//!
//! [`Engine::submit`] makes a plan and stores it as queued; the dispatcher's thread gives it to a
//! worker, which walks it. What happens is in the database before it happens on a server, and
//! every change is a message of the release's room. Everything here blocks, but what waits for a git
//! host or a server on behalf of a page: that is async and keeps to the pools.
//!
//! | file | what it is |
//! |---|---|
//! | `plan`, `state`, `tree`, `script`, `health` | pure: the nodes, their legal changes, their looks, the servers' scripts, what the health check's says |
//! | `recorder`, `node_log` | writing down what happens |
//! | `said` | what is said to people, for the catalogues of every language |
//! | `engine`, `dispatcher` | submit, cancel, roll back; giving queued releases to workers |
//! | `worker`, `run`, `platform`, `rollout`, `going_back` | walking a plan; back from a release that does not work |
//! | `transfer` | a release's way to the servers |
//! | `files_alone` | what the scripts do, on servers without a shell |
//! | `build_cache` | what builds keep from release to release |
//! | `local`, `destination`, `credentials` | where commands run, and what opens it |
//! | `proxy_command` | the commands that servers are reached by |
//! | `by_hand`, `host_keys`, `inspection` | servers worked on by hand and written down; their keys; their looks |
//! | `repository`, `fetches` | what a repository offers; one fetch a mirror, shared by who waits for it |
//! | `check` | trying servers and git hosts, accepting their keys |

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
mod plan;
mod platform;
mod preview;
mod proxy_command;
mod recorder;
mod removal;
mod repository;
mod rollout;
mod run;
mod said;
mod script;
mod state;
#[cfg(test)]
mod tests;
mod transfer;
mod tree;
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
pub use plan::{Spec, Step};
pub use preview::{Change, Live, Preview};
pub use recorder::{RELEASES, project_room, room};
pub use repository::{Freshness, KnownRefs};
pub use said::{Causes, Message, Said, Tell};
pub use state::{node_may, outcome, release_may};
pub use tree::{NODE_COLORS, color, figure, release_data};

/// Where the engine works and what its limits are.
#[derive(Clone, Debug)]
pub struct Options {
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
    /// How many bytes the build caches may have together.
    pub cache_bytes: u64,
    /// How servers are reached.
    pub ssh: SshAccess,
    /// Where what blocks runs.
    pub pools: Pools,
    /// How long one command may run.
    pub command_limit: Duration,
    /// How long any one step may take.
    pub step_limit: Duration,
    /// How many releases run at once.
    pub releases_at_once: usize,
    /// How many servers one release works on at once.
    pub servers_at_once: usize,
    /// How much of a node's log is kept, in bytes.
    pub node_log_bytes: u64,
}
