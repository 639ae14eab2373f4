//! The engine on real parts: a git repository, local servers, a database.

mod endings;
mod health;
mod mirrors;
mod reaching;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::*;

use crate::git::{MirrorOptions, Mirrors, UrlPolicy};
use crate::secret::Vault;
use crate::ssh::{KeyFolders, Pool, Timeouts};
use crate::store::nodes::{self, Node};
use crate::store::projects::{self, Project, ProjectValues};
use crate::store::releases::{self, Release};
use crate::store::servers::{self, ServerValues};
use crate::store::{
    Durability, Environment, NodeState, ProjectId, ReleaseId, ReleaseState, ServerKind, Store,
    StoreError, events,
};

/// Longer than any of these releases takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Stage {
    folder: tempfile::TempDir,
    store: Store,
    engine: Engine,
    project: Project,
}

fn values(repo: &Path) -> ProjectValues {
    ProjectValues {
        title: "shop".into(),
        repo: repo.display().to_string(),
        credential_id: None,
        unchanged: crate::store::Unchanged::Copy,
        env: Environment::Test,
        path: "/srv/shop".into(),
        keep: 2,
        build: String::new(),
        restart: String::new(),
        before_download: String::new(),
        after_download: String::new(),
        before_deploy: String::new(),
        after_deploy: String::new(),
        depth: 0,
        submodules: false,
        health: String::new(),
        health_seconds: projects::HEALTH_SECONDS,
        hooks_stop: false,
        login_shell: false,
    }
}

fn repository(path: &Path) {
    let repository = git2::Repository::init_bare(path).unwrap();
    let empty = repository.treebuilder(None).unwrap().write().unwrap();
    let blob = repository.blob(b"hello\n").unwrap();
    let tree = git2::build::TreeUpdateBuilder::new()
        .upsert("index.html", blob, git2::FileMode::Blob)
        .upsert("bin/run", blob, git2::FileMode::BlobExecutable)
        .create_updated(&repository, &repository.find_tree(empty).unwrap())
        .unwrap();
    let author = git2::Signature::now("Ann", "ann@shop.example").unwrap();
    let tree = repository.find_tree(tree).unwrap();
    repository
        .commit(
            Some("refs/heads/main"),
            &author,
            &author,
            "Begin",
            &tree,
            &[],
        )
        .unwrap();
    repository.set_head("refs/heads/main").unwrap();
}

fn open_engine(folder: &Path, store: &Store) -> Engine {
    try_open_engine(folder, store, None).unwrap()
}

fn try_open_engine(
    folder: &Path,
    store: &Store,
    run_as: Option<String>,
) -> Result<Engine, DeployError> {
    let policy = UrlPolicy {
        allow_http: false,
        allow_loopback: false,
        local_folders: vec![folder.to_owned()],
    };
    let mirrors = Mirrors::new(
        folder.join("mirrors"),
        MirrorOptions {
            policy: policy.clone(),
            stall_timeout: Duration::from_secs(10),
            ..MirrorOptions::default()
        },
    );
    let options = Options {
        work: folder.join("work"),
        logs: folder.join("logs"),
        manifests: folder.join("manifests"),
        run_as,
        // The program of these tests cannot run as a stage of a sandbox.
        sandbox: crate::sandbox::Sandbox::off(),
        caches: folder.join("caches"),
        cache_bytes: 1 << 20,
        ssh: SshAccess {
            pool: Pool::default(),
            timeouts: Timeouts::default(),
            key_folders: KeyFolders::default(),
            agent: Agent::Off,
            run_as: None,
        },
        pools: Pools::new().unwrap(),
        command_limit: Duration::from_secs(30),
        step_limit: Duration::from_secs(60),
        data: folder.join("data"),
        releases_at_once: 2,
        servers_at_once: 4,
        node_log_bytes: 10_000,
    };
    let vault = Vault::open_or_create(&folder.join("secret.key")).unwrap();
    Engine::new(store.clone(), vault, mirrors, policy, options)
}

impl Stage {
    fn new(server_count: usize, change: impl FnOnce(&mut ProjectValues)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        repository(&root.join("shop.git"));
        let store = Store::open(&root.join("longshore.db"), Durability::Process).unwrap();
        let mut wanted = values(&root.join("shop.git"));
        change(&mut wanted);
        let project = store
            .write(|conn| {
                let mut ids = Vec::new();
                for number in 1..=server_count {
                    let server = servers::add(
                        conn,
                        &ServerValues {
                            hostname: format!("web-{number}"),
                            host: "127.0.0.1".into(),
                            port: 22,
                            user: String::new(),
                            kind: ServerKind::Local,
                            credential_id: None,
                            root: root.join(format!("web-{number}")).display().to_string(),
                            jump_id: None,
                            connect_seconds: None,
                            idle_seconds: None,
                        },
                    )?;
                    ids.push(server.id);
                }
                projects::add(conn, &wanted, &ids)
            })
            .unwrap();
        let engine = open_engine(&root, &store);
        engine.start().unwrap();
        Self {
            folder,
            store,
            engine,
            project,
        }
    }

    fn submit(&self, revision: &str) -> Result<Release, DeployError> {
        self.engine.submit(Order {
            project: self.project.id,
            revision: revision.into(),
            commit: None,
            by: "ann".into(),
        })
    }

    /// The release, with its message in English.
    fn find(&self, id: ReleaseId) -> Release {
        let mut release = self.store.read(|conn| releases::find(conn, id)).unwrap();
        release.message = Message::read(&release.message).english();
        release
    }

    fn wait_for(&self, id: ReleaseId, what: impl Fn(&Release) -> bool) -> Release {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let release = self.find(id);
            if what(&release) {
                return release;
            }
            assert!(
                Instant::now() < deadline,
                "{release:?} {:?}",
                self.nodes(id)
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn release(&self, revision: &str) -> Release {
        let id = self.submit(revision).unwrap().id;
        self.wait_for(id, |release| !release.state.is_active())
    }

    fn nodes(&self, id: ReleaseId) -> Vec<Node> {
        self.store.read(|conn| nodes::of_release(conn, id)).unwrap()
    }

    fn states(&self, id: ReleaseId) -> Vec<(String, NodeState)> {
        let nodes = self.nodes(id);
        nodes
            .into_iter()
            .map(|node| (node.key, node.state))
            .collect()
    }

    fn base(&self, server: usize) -> PathBuf {
        self.folder.path().join(format!("web-{server}/srv/shop"))
    }

    fn current(&self, server: usize) -> String {
        fs::read_link(self.base(server).join("current"))
            .unwrap()
            .display()
            .to_string()
    }

    fn wait_for_node(&self, id: ReleaseId, key: &str, state: NodeState) {
        self.wait_for(id, |_| self.states(id).contains(&(key.to_owned(), state)));
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        assert!(self.engine.stop(PATIENCE) || thread::panicking());
    }
}
