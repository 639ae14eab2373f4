//! The engine on real parts: a git repository, local servers, a database.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::git::{MirrorOptions, Mirrors, UrlPolicy};
use crate::secret::Vault;
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
        env: Environment::Test,
        path: "/srv/shop".into(),
        keep: 2,
        build: String::new(),
        restart: String::new(),
        before_download: String::new(),
        after_download: String::new(),
        before_deploy: String::new(),
        after_deploy: String::new(),
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
        },
    );
    let options = Options {
        work: folder.join("work"),
        logs: folder.join("logs"),
        run_as: None,
        ssh: Timeouts::default(),
        command_limit: Duration::from_secs(30),
        step_limit: Duration::from_secs(60),
        releases_at_once: 2,
        servers_at_once: 4,
        node_log_bytes: 10_000,
    };
    let vault = Vault::open_or_create(&folder.join("secret.key")).unwrap();
    Engine::new(store.clone(), vault, mirrors, policy, options).unwrap()
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
            by: "ann".into(),
        })
    }

    fn find(&self, id: ReleaseId) -> Release {
        self.store.read(|conn| releases::find(conn, id)).unwrap()
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

#[test]
fn a_release_reaches_every_server_through_current() {
    let stage = Stage::new(3, |project| {
        project.build = "echo building $LONGSHORE_REF; echo built > built.txt".into();
        project.restart = "echo restarted $LONGSHORE_RELEASE > restarted.txt".into();
        project.before_download = "echo before".into();
        project.after_download = "test -f index.html".into();
        project.before_deploy = "test -f built.txt && basename $PWD".into();
        project.after_deploy = "cat restarted.txt".into();
    });
    let release = stage.release("main");
    assert_eq!(release.state, ReleaseState::Succeeded, "{release:?}");
    assert_eq!(release.summary, "Begin");
    assert_eq!(release.message, "");
    for server in 1..=3 {
        let current = stage.base(server).join("current");
        assert_eq!(stage.current(server), format!("releases/{}", release.id));
        assert_eq!(
            fs::read_to_string(current.join("index.html")).unwrap(),
            "hello\n"
        );
        assert_eq!(
            fs::read_to_string(current.join("built.txt")).unwrap(),
            "built\n"
        );
        assert_eq!(
            fs::read_to_string(current.join("restarted.txt")).unwrap(),
            format!("restarted {}\n", release.id)
        );
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(current.join("bin/run"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o111, 0o111);
    }
    let log = stage.engine.read_log(release.id, "compile", 0).unwrap();
    assert_eq!(log.text, "building main\n");
    assert!(
        !stage
            .folder
            .path()
            .join("work")
            .join(release.id.to_string())
            .exists()
    );
}

#[test]
fn every_change_is_a_message_of_the_releases_room() {
    let stage = Stage::new(1, |_| {});
    let release = stage.release("main");
    let messages = stage
        .store
        .read(|conn| events::read(conn, &[room(release.id)], 0, i64::MAX, 1000))
        .unwrap();
    let mut versions = std::collections::HashMap::new();
    for message in messages.iter().filter(|message| message.kind == "node") {
        let data: serde_json::Value = serde_json::from_str(&message.data).unwrap();
        let version = data["version"].as_i64().unwrap();
        let before = versions.insert(data["key"].as_str().unwrap().to_owned(), version);
        assert!(before.is_none_or(|before| before < version));
    }
    for node in stage.nodes(release.id) {
        assert_eq!(versions.get(&node.key), Some(&node.version), "{}", node.key);
    }
    let last = messages.last().unwrap();
    assert_eq!(last.kind, "release");
    assert!(last.data.contains("\"state\":\"succeeded\""));
}

#[test]
fn a_failing_restart_on_one_server_is_partial_and_skips_only_its_later_nodes() {
    let stage = Stage::new(3, |project| {
        project.restart = "case $PWD in *web-2*) echo no >&2; exit 7;; esac".into();
        project.after_deploy = "true".into();
    });
    let release = stage.release("main");
    assert_eq!(release.state, ReleaseState::Partial);
    assert_eq!(
        release.message,
        "web-2: restart: the command ended with exit code 7"
    );
    let states = stage.states(release.id);
    let state = |key: &str| states.iter().find(|(k, _)| k == key).unwrap().1;
    assert_eq!(state("restart-2"), NodeState::Failed);
    assert_eq!(state("after_deploy-2"), NodeState::Skipped);
    assert_eq!(state("after_deploy-1"), NodeState::Succeeded);
    assert_eq!(state("after_deploy-3"), NodeState::Succeeded);
}

#[test]
fn an_unknown_branch_fails_the_download_and_says_so() {
    let stage = Stage::new(1, |_| {});
    let release = stage.release("no-such-branch");
    assert_eq!(release.state, ReleaseState::Failed);
    assert!(
        release.message.starts_with("download: "),
        "{}",
        release.message
    );
    assert!(release.message.contains("no-such-branch"));
    assert_eq!(
        stage.states(release.id).last().unwrap().1,
        NodeState::Skipped
    );
    assert!(matches!(stage.submit("--help"), Err(DeployError::Git(_))));
}

#[test]
fn a_second_release_is_refused_while_one_is_active_and_cancel_frees_the_project() {
    let stage = Stage::new(1, |project| project.build = "sleep 300".into());
    let first = stage.submit("main").unwrap();
    stage.wait_for_node(first.id, "compile", NodeState::Running);
    assert!(matches!(
        stage.submit("main"),
        Err(DeployError::Store(StoreError::ReleaseActive { active })) if active == first.id
    ));
    let begun = Instant::now();
    stage.engine.cancel(first.id, "ann").unwrap();
    let ended = stage.wait_for(first.id, |release| !release.state.is_active());
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(ended.state, ReleaseState::Cancelled);
    let states = stage.states(first.id);
    assert!(states.contains(&("compile".into(), NodeState::Cancelled)));
    assert!(states.contains(&("upload-1".into(), NodeState::Cancelled)));
    assert!(matches!(
        stage.engine.cancel(first.id, "ann"),
        Err(DeployError::Ended { .. })
    ));
    let next = stage.submit("main").unwrap();
    stage.engine.cancel(next.id, "ann").unwrap();
    stage.wait_for(next.id, |release| release.state == ReleaseState::Cancelled);
}

#[test]
fn a_rollback_points_current_back_and_old_releases_go() {
    let stage = Stage::new(1, |project| project.keep = 2);
    let releases: Vec<Release> = (0..3).map(|_| stage.release("main")).collect();
    let kept = |id: ReleaseId| stage.base(1).join(format!("releases/{id}")).exists();
    assert!(!kept(releases[0].id) && kept(releases[1].id) && kept(releases[2].id));

    let back = stage.engine.roll_back(releases[1].id, "ann").unwrap();
    let back = stage.wait_for(back.id, |release| !release.state.is_active());
    assert_eq!(back.state, ReleaseState::Succeeded, "{back:?}");
    assert_eq!(stage.current(1), format!("releases/{}", releases[1].id));
    assert!(kept(releases[1].id) && kept(releases[2].id));

    let gone = stage.engine.roll_back(releases[0].id, "ann").unwrap();
    let gone = stage.wait_for(gone.id, |release| !release.state.is_active());
    assert_eq!(gone.state, ReleaseState::Failed);
    assert!(
        gone.message.contains("not on this server any more"),
        "{}",
        gone.message
    );
    assert_eq!(stage.current(1), format!("releases/{}", releases[1].id));
}

#[test]
fn failed_releases_do_not_push_good_ones_out() {
    let stage = Stage::new(1, |project| {
        project.keep = 2;
        project.restart = "test ! -e ../../fail".into();
    });
    let good = stage.release("main");
    fs::write(stage.base(1).join("fail"), "").unwrap();
    for _ in 0..3 {
        assert_eq!(stage.release("main").state, ReleaseState::Failed);
    }
    fs::remove_file(stage.base(1).join("fail")).unwrap();
    let newest = stage.release("main");
    let mut left: Vec<String> = fs::read_dir(stage.base(1).join("releases"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, [good.id.to_string(), newest.id.to_string()]);
}

#[test]
fn what_was_active_at_the_end_is_interrupted_at_the_next_start() {
    let stage = Stage::new(1, |project| project.build = "sleep 300".into());
    let running = stage.submit("main").unwrap();
    stage.wait_for_node(running.id, "compile", NodeState::Running);
    assert!(stage.engine.stop(PATIENCE));
    let stopped = stage.find(running.id);
    assert_eq!(stopped.state, ReleaseState::Interrupted);

    // A stopped engine starts nothing: what it queues is found by the next one.
    let queued = stage.submit("main").unwrap();
    let _next = open_engine(&stage.folder.path().canonicalize().unwrap(), &stage.store);
    let found = stage.find(queued.id);
    assert_eq!(found.state, ReleaseState::Interrupted);
    assert_eq!(found.message, "the platform was stopped");
    assert!(stage.submit("main").is_ok());
}

#[test]
fn an_unwritable_target_and_a_real_folder_at_current_are_named() {
    let stage = Stage::new(2, |_| {});
    fs::create_dir_all(stage.base(1).join("current")).unwrap();
    fs::create_dir_all(stage.base(2).parent().unwrap()).unwrap();
    fs::write(stage.base(2), "a file").unwrap();
    let release = stage.release("main");
    assert_eq!(release.state, ReleaseState::Failed);
    assert!(
        release.message.contains("web-1: upload: "),
        "{}",
        release.message
    );
    assert!(
        release.message.contains("is not a link"),
        "{}",
        release.message
    );
    assert!(
        release.message.contains("web-2: upload: "),
        "{}",
        release.message
    );
}

#[test]
fn an_endless_log_is_cut_and_the_step_goes_on() {
    let stage = Stage::new(1, |project| {
        project.build = "i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done".into();
    });
    let release = stage.release("main");
    assert_eq!(release.state, ReleaseState::Succeeded);
    let log = stage.engine.read_log(release.id, "compile", 0).unwrap();
    assert!(log.text.len() < 11_000);
    assert!(
        log.text
            .ends_with("[the log is cut here; the step goes on]\n")
    );
}

#[test]
fn a_project_without_servers_cannot_be_released() {
    let stage = Stage::new(0, |_| {});
    assert!(matches!(stage.submit("main"), Err(DeployError::NoServers)));
    let unknown = stage.engine.submit(Order {
        project: ProjectId(99),
        revision: "main".into(),
        by: "ann".into(),
    });
    assert!(matches!(
        unknown,
        Err(DeployError::Store(StoreError::NotFound { .. }))
    ));
}
