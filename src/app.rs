//! The shared handles of the server, built once at the start.

mod data_folder;
mod installation;
mod message_log;
mod presence;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::auth::{Auth, AuthOptions};
use crate::deploy::{self, ByHand, DeployError, Engine, SshAccess};
use crate::git::{Limits, MirrorOptions, Mirrors, UrlPolicy};
use crate::hub::{BadEpoch, Epochs, Hub, HubOptions};
use crate::limits::{Rate, Rates};
use crate::pools::{BlockingPool, Busy, Pools};
use crate::proxies::Proxies;
use crate::sandbox::{self, Isolation, Sandbox};
use crate::secret::{Vault, VaultError};
use crate::settings::{BuildSandbox, LogSync, Settings};
use crate::ssh::{KeyFolders, Pool, PoolOptions, Timeouts};
use crate::store::{Durability, Retention, Store, StoreError, audit, epochs, events, logins};
use crate::vote::Votes;

pub use data_folder::DataFolder;
use installation::Installation;
pub use installation::LostPart;
use message_log::MessageLog;

/// The interval between sweeps of expired entries in memory.
const MEMORY_SWEEP: Duration = Duration::from_secs(5);
/// The interval between sweeps of expired rows in the store.
const SWEEP: Duration = Duration::from_secs(60);
/// The interval between sweeps of work trees that no release uses any more.
const WORK_SWEEP: Duration = Duration::from_secs(600);
/// The interval between sweeps of mirrors that no project uses any more.
const MIRROR_SWEEP: Duration = Duration::from_secs(3600);
const DAY_SECONDS: i64 = 24 * 60 * 60;

/// Errors at the start of the platform.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The data folder cannot be used.
    #[error("data folder {path}: {cause}")]
    Data {
        /// The folder or file.
        path: String,
        /// The error of the system.
        cause: std::io::Error,
    },
    /// Another process uses the data folder.
    #[error("data folder {path}: another longshore is running on it")]
    InUse {
        /// The folder.
        path: String,
    },
    /// The database and the key do not belong together, or one of them is missing.
    #[error("data folder {path}: {part}")]
    LostPart {
        /// The folder.
        path: String,
        /// The missing part.
        part: LostPart,
    },
    /// A file that this process may not read.
    #[error(
        "{path}: permission denied: it belongs to user {owner}, and longshore runs as user {user}. Run longshore as \
         its owner, or give it to user {user} with chown"
    )]
    Unreadable {
        /// The file.
        path: String,
        /// The number of the account that it belongs to.
        owner: u32,
        /// The number of the account that this process runs as.
        user: u32,
    },
    /// Errors of the key file.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// Errors of the database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system cannot start the thread pools.
    #[error("threads: {0}")]
    Threads(std::io::Error),
    /// A stored epoch of the log is malformed.
    #[error(transparent)]
    Epoch(#[from] BadEpoch),
    /// Errors of the release engine.
    #[error(transparent)]
    Deploy(#[from] DeployError),
    /// The setting `build_sandbox` is `require`, and the system has no namespaces for the platform.
    #[error("setting build_sandbox: a sandbox is required and cannot be made here: {reason}")]
    NoSandbox {
        /// The reason, as the system gives it.
        reason: String,
    },
}

/// The shared handles; clones share them.
#[derive(Clone)]
pub struct App(Arc<Parts>);

struct Parts {
    settings: Settings,
    store: Store,
    vault: Vault,
    auth: Auth,
    hub: Hub,
    rates: Rates,
    engine: Engine,
    pools: Pools,
    /// Holds the lock of the data folder while the app lives.
    _folder: DataFolder,
}

impl App {
    /// Opens the data folder at `data` and builds all handles. Releases that were active when the
    /// platform last ended become `interrupted`. A folder that lacks a part is refused, and nothing
    /// is written to it.
    ///
    /// # Errors
    /// [`AppError`] says which part of the platform cannot be built.
    pub fn open(settings: Settings, data: &Path) -> Result<Self, AppError> {
        // Checked before the lock is taken, since that would create its file in a copied folder.
        Installation::inspect(data)?;
        let folder = DataFolder::open(data)?;
        let (store, vault) = open_installation(&folder, &settings)?;
        let auth = Auth::new(store.clone(), &auth_options(&settings));
        let hub = open_hub(&store, &settings)?;
        let pools = Pools::new().map_err(AppError::Threads)?;
        let engine = open_engine(&folder, &store, &vault, (&settings, &pools))?;
        let rates = rates(&settings);
        Ok(Self(Arc::new(Parts {
            rates,
            settings,
            store,
            vault,
            auth,
            hub,
            engine,
            pools,
            _folder: folder,
        })))
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// The database. Blocking: see [`blocking`](Self::blocking).
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The vault that encrypts credentials.
    pub fn vault(&self) -> &Vault {
        &self.0.vault
    }

    /// Accounts and logins. Blocking.
    pub fn auth(&self) -> &Auth {
        &self.0.auth
    }

    /// The push hub.
    pub fn hub(&self) -> &Hub {
        &self.0.hub
    }

    /// The rate limits of senders.
    pub fn rates(&self) -> &Rates {
        &self.0.rates
    }

    /// The release engine. Blocking.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// The policy for repository addresses.
    pub fn url_policy(&self) -> UrlPolicy {
        url_policy(&self.0.settings)
    }

    /// The pools of threads for blocking work, one for each resource that is waited for.
    pub fn pools(&self) -> &Pools {
        &self.0.pools
    }

    /// Runs blocking local work (the database, password hashing, files) off the async threads. Work
    /// that waits for a remote network uses [another pool](Self::blocking_in).
    ///
    /// # Errors
    /// [`Busy`] as in [`BlockingPool::run`].
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, Busy> {
        self.blocking_in(&self.0.pools.database, work).await
    }

    /// Runs blocking work on the threads of `pool`.
    ///
    /// # Errors
    /// See [`BlockingPool::run`].
    pub async fn blocking_in<T: Send + 'static>(
        &self,
        pool: &BlockingPool,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let app = self.clone();
        pool.run(move || work(&app)).await
    }

    /// Removes expired entries periodically, forever. Run it alongside the server.
    pub async fn sweep(self) {
        tokio::join!(
            self.sweep_memory(),
            self.sweep_store(),
            self.sweep_work_folder(),
            self.sweep_mirrors()
        );
    }

    async fn sweep_memory(&self) {
        let mut ticks = tokio::time::interval(MEMORY_SWEEP);
        loop {
            ticks.tick().await;
            // In slices, so that others get the lock of the hub in between.
            while self.0.hub.sweep() {
                tokio::task::yield_now().await;
            }
            self.0.hub.positions().sweep();
            self.0.rates.sweep(Instant::now());
        }
    }

    async fn sweep_store(&self) {
        let mut ticks = tokio::time::interval(SWEEP);
        loop {
            ticks.tick().await;
            let swept = |app: &Self| {
                let swept = app.sweep_once();
                longshore_heap::give_back();
                swept
            };
            if let Ok(Err(error)) = self.blocking(swept).await {
                tracing::warn!(%error, "sweep");
            }
        }
    }

    async fn sweep_work_folder(&self) {
        let mut ticks = tokio::time::interval(WORK_SWEEP);
        loop {
            ticks.tick().await;
            let swept = |app: &Self| app.0.engine.sweep_work_folder();
            match self.blocking_in(&self.0.pools.mirrors, swept).await {
                Ok(Err(error)) => tracing::warn!(%error, "sweep of work trees"),
                Ok(Ok(count)) if count > 0 => tracing::info!(count, "removed old work trees"),
                _ => {}
            }
        }
    }

    async fn sweep_mirrors(&self) {
        let unused = Duration::from_secs(u64::from(self.0.settings.git_mirror_days) * 86_400);
        let mut ticks = tokio::time::interval(MIRROR_SWEEP);
        loop {
            ticks.tick().await;
            let swept = move |app: &Self| app.0.engine.sweep_mirrors(unused);
            match self.blocking_in(&self.0.pools.mirrors, swept).await {
                Ok(Err(error)) => tracing::warn!(%error, "sweep of mirrors"),
                Ok(Ok(count)) if count > 0 => tracing::info!(count, "removed unused mirrors"),
                _ => {}
            }
        }
    }

    fn sweep_once(&self) -> Result<(), StoreError> {
        let settings = &self.0.settings;
        let retention = Retention {
            messages: i64::from(settings.room_messages),
            bytes: i64::try_from(settings.room_bytes).unwrap_or(i64::MAX),
            seconds: i64::from(settings.room_days) * DAY_SECONDS,
        };
        self.0.store.trim(retention, |room, mark| {
            message_log::tell_dropped(&self.0.hub, room, mark);
        })?;
        Votes::of(&self.0.store).sweep()?;
        self.0.store.write(|conn| {
            audit::sweep(conn, settings.audit_days)?;
            logins::sweep(conn)
        })
    }
}

fn open_installation(folder: &DataFolder, settings: &Settings) -> Result<(Store, Vault), AppError> {
    let durability = match settings.log_sync {
        LogSync::Process => Durability::Process,
        LogSync::Always => Durability::Machine,
    };
    let (store, vault) = Installation::inspect(&folder.path(""))?.open(durability)?;
    store.begin_log()?;
    Ok((store, vault))
}

fn open_hub(store: &Store, settings: &Settings) -> Result<Hub, AppError> {
    let (known, head) = store.read(|conn| Ok((epochs::all(conn)?, events::head(conn)?)))?;
    let number = |stored: i64| u64::try_from(stored).unwrap_or(0);
    let earlier = known.earlier.iter();
    let earlier = earlier.map(|(epoch, last)| (epoch.as_str(), number(*last)));
    let hub = Hub::new(
        Arc::new(MessageLog::new(store.clone())),
        Epochs::new(&known.current, earlier)?,
        number(head),
        HubOptions {
            queue: settings.queue_messages,
            clients: settings.clients as usize,
            address_clients: settings.address_clients as usize,
            rooms: settings.poll_rooms as usize,
            drain: Duration::from_secs(settings.drain_seconds),
            ..HubOptions::default()
        },
    );
    let publisher = hub.clone();
    store.on_publish(Box::new(move |events| {
        publisher.publish(message_log::messages(events));
    }));
    Ok(hub)
}

fn rates(settings: &Settings) -> Rates {
    let client = Rate {
        per_second: settings.client_messages_second,
        burst: settings.client_messages_burst,
    };
    let address = Rate {
        per_second: settings.address_messages_second,
        burst: settings.address_messages_burst,
    };
    Rates::new(client, address)
}

fn open_engine(
    folder: &DataFolder,
    store: &Store,
    vault: &Vault,
    (settings, pools): (&Settings, &Pools),
) -> Result<Engine, AppError> {
    let policy = url_policy(settings);
    let sandbox = open_sandbox(folder, settings)?;
    let mirrors = Mirrors::new(
        folder.private_folder("mirrors")?,
        MirrorOptions {
            policy: policy.clone(),
            stall_timeout: settings.git_stall(),
            limits: Limits {
                files: settings.git_files,
                bytes: settings.git_bytes,
                fetch_bytes: settings.git_fetch_bytes,
            },
        },
    );
    Ok(Engine::new(
        store.clone(),
        vault.clone(),
        mirrors,
        policy,
        deploy::Options {
            data: folder.root().to_owned(),
            work: folder.path("work"),
            logs: folder.private_folder("logs")?,
            manifests: folder.private_folder("manifests")?,
            run_as: settings.run_as.clone(),
            sandbox,
            caches: folder.path("caches"),
            cache_bytes: settings.build_cache_bytes,
            ssh: ssh_access(settings),
            pools: pools.clone(),
            command_limit: settings.command_limit(),
            step_limit: settings.step_limit(),
            releases_at_once: settings.releases_at_once,
            servers_at_once: settings.servers_at_once,
            node_log_bytes: settings.node_log_bytes,
        },
    )?)
}

/// Probes the sandbox of builds; its limitations are logged.
fn open_sandbox(folder: &DataFolder, settings: &Settings) -> Result<Sandbox, AppError> {
    if settings.build_sandbox == BuildSandbox::Off {
        tracing::warn!("builds run without a sandbox: the setting build_sandbox is off");
        return Ok(Sandbox::off());
    }
    let mut hidden = vec![folder.path("")];
    hidden.extend(settings.ssh_key_folders.iter().cloned());
    hidden.extend(settings.file.clone());
    // The home folder and the SSH agent of the account, which may be below /var/lib; never a
    // top-level folder.
    let known = ["HOME", "SSH_AUTH_SOCK"]
        .into_iter()
        .filter_map(std::env::var_os);
    let known = known.map(PathBuf::from);
    hidden.extend(known.filter(|path| path.is_absolute() && path.components().count() > 2));
    let paths = sandbox::Paths {
        hidden,
        readable: settings.build_read_folders.clone(),
        writable: settings.build_write_folders.clone(),
    };
    let place = folder.path("work");
    std::fs::create_dir_all(&place).map_err(data_folder::at(&place))?;
    let sandbox = Sandbox::probe(paths, &place).map_err(data_folder::at(&place))?;
    let reason = sandbox.refusal().unwrap_or_default().to_owned();
    match sandbox.isolation() {
        Isolation::Namespaces => {}
        _ if settings.build_sandbox == BuildSandbox::Require => {
            return Err(AppError::NoSandbox { reason });
        }
        isolation => tracing::warn!(
            ?isolation,
            reason,
            "builds run without a full sandbox: the system gives no namespaces"
        ),
    }
    Ok(sandbox)
}

fn ssh_access(settings: &Settings) -> SshAccess {
    SshAccess {
        pool: Pool::new(PoolOptions {
            connections: settings.ssh_connections,
            opening: settings.ssh_connects_at_once,
            idle: Duration::from_secs(settings.ssh_rest_seconds),
        }),
        timeouts: Timeouts {
            connect: Duration::from_secs(settings.ssh_connect_seconds),
            idle: Duration::from_secs(settings.ssh_idle_seconds),
        },
        key_folders: KeyFolders::new(settings.ssh_key_folders.clone()),
        run_as: settings.run_as.clone(),
        agent: match (settings.ssh_agent, std::env::var_os("SSH_AUTH_SOCK")) {
            (false, _) => deploy::Agent::Off,
            (true, None) => deploy::Agent::Missing,
            (true, Some(socket)) => deploy::Agent::At(socket.into()),
        },
    }
}

fn url_policy(settings: &Settings) -> UrlPolicy {
    UrlPolicy {
        allow_http: settings.git_allow_http,
        allow_loopback: settings.git_allow_loopback,
        local_folders: settings.git_local_folders.clone(),
    }
}

/// The accounts and logins of the installation at `data`, for command-line tools that run alongside
/// a server.
///
/// # Errors
/// The data folder, its database or its key cannot be used.
pub fn open_accounts(settings: &Settings, data: &Path) -> Result<Auth, AppError> {
    let (store, _) = open_beside_server(data)?;
    Ok(Auth::new(store, &auth_options(settings)))
}

/// The servers of the installation at `data`, for commands that run alongside a server.
///
/// # Errors
/// As for [`open_accounts`].
pub fn open_by_hand(settings: &Settings, data: &Path) -> Result<ByHand, AppError> {
    let (store, vault) = open_beside_server(data)?;
    Ok(ByHand::new(store, vault, ssh_access(settings)))
}

fn open_beside_server(data: &Path) -> Result<(Store, Vault), AppError> {
    let installation = Installation::inspect(data)?;
    data_folder::make(data)?;
    installation.open(Durability::Machine)
}

fn auth_options(settings: &Settings) -> AuthOptions {
    AuthOptions {
        login_days: settings.login_days,
        public_urls: settings.public_urls.clone(),
        proxies: Proxies::new(settings.trusted_proxies.clone()),
    }
}
