//! The plan: makes the tree of nodes from a project and a request. Pure.

use serde::{Deserialize, Serialize};

use crate::store::nodes::NewNode;
use crate::store::projects::Project;
use crate::store::servers::Server;
use crate::store::{ServerId, UnknownChoice};

/// The action of a node. Its name is part of the node's key, of the API and of the catalogues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The root of the tree.
    Start,
    /// The hook on the platform before the code is fetched.
    BeforeDownload,
    /// Fetch the repository and check the revision out.
    Download,
    /// The hook on the platform, in the work tree.
    AfterDownload,
    /// The build command, in the work tree.
    Compile,
    /// Pack the work tree, once for all servers.
    Zip,
    /// Bring the pack to a server as `PATH/releases/ID`.
    Upload,
    /// The hook on the server, in the new release's folder.
    BeforeDeploy,
    /// Point `PATH/current` to the release.
    Switch,
    /// The restart command, in `PATH/current`.
    Restart,
    /// Wait until the health check holds, in `PATH/current`.
    Health,
    /// The hook on the server, in `PATH/current`.
    AfterDeploy,
}

impl Step {
    /// Every step.
    pub const ALL: [Self; 12] = [
        Self::Start,
        Self::BeforeDownload,
        Self::Download,
        Self::AfterDownload,
        Self::Compile,
        Self::Zip,
        Self::Upload,
        Self::BeforeDeploy,
        Self::Switch,
        Self::Restart,
        Self::Health,
        Self::AfterDeploy,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::BeforeDownload => "before_download",
            Self::Download => "download",
            Self::AfterDownload => "after_download",
            Self::Compile => "compile",
            Self::Zip => "zip",
            Self::Upload => "upload",
            Self::BeforeDeploy => "before_deploy",
            Self::Switch => "switch",
            Self::Restart => "restart",
            Self::Health => "health",
            Self::AfterDeploy => "after_deploy",
        }
    }
}

impl std::str::FromStr for Step {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|step| step.as_str() == text)
            .ok_or_else(|| UnknownChoice(text.to_owned()))
    }
}

/// A snapshot of a project and its servers at the time of the request, so that later edits do not
/// change a running release.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// The project.
    pub project: Project,
    /// Its servers.
    pub servers: Vec<Server>,
}

impl Spec {
    /// True if users' commands run on the servers.
    pub(super) fn needs_shell(&self) -> bool {
        let project = &self.project;
        [
            &project.before_deploy,
            &project.restart,
            &project.health,
            &project.after_deploy,
        ]
        .into_iter()
        .any(|command| !command.is_empty())
    }

    /// True if nothing runs on the servers once the release is live.
    pub(super) fn ends_with_switch(&self) -> bool {
        let project = &self.project;
        [&project.restart, &project.health, &project.after_deploy]
            .into_iter()
            .all(String::is_empty)
    }

    /// The steps on the platform, in order.
    pub(super) fn platform_steps(&self) -> Vec<Step> {
        let project = &self.project;
        let mut steps = vec![Step::Start];
        steps.extend((!project.before_download.is_empty()).then_some(Step::BeforeDownload));
        steps.push(Step::Download);
        steps.extend((!project.after_download.is_empty()).then_some(Step::AfterDownload));
        steps.extend([Step::Compile, Step::Zip]);
        steps
    }

    /// The steps on each server, in order. `first` is the step that brings the release's folder there.
    pub(super) fn server_steps(&self, first: Option<Step>) -> Vec<Step> {
        let project = &self.project;
        let mut steps: Vec<Step> = first.into_iter().collect();
        steps.extend((!project.before_deploy.is_empty()).then_some(Step::BeforeDeploy));
        steps.extend([Step::Switch, Step::Restart]);
        steps.extend((!project.health.is_empty()).then_some(Step::Health));
        steps.extend((!project.after_deploy.is_empty()).then_some(Step::AfterDeploy));
        steps
    }
}

/// The key of a step's node: `zip` on the platform, `upload-3` on server 3.
pub fn key(step: Step, server: Option<ServerId>) -> String {
    match server {
        None => step.as_str().to_owned(),
        Some(server) => format!("{}-{server}", step.as_str()),
    }
}

/// The tree of a release that brings a revision to the servers.
pub fn deploy(spec: &Spec) -> Vec<NewNode> {
    tree(spec, &spec.platform_steps(), Some(Step::Upload))
}

/// The tree of a release that points `current` back to files that the servers keep.
pub fn rollback(spec: &Spec) -> Vec<NewNode> {
    tree(spec, &[Step::Start], None)
}

fn tree(spec: &Spec, platform: &[Step], first: Option<Step>) -> Vec<NewNode> {
    let mut nodes = Vec::new();
    let trunk = chain(&mut nodes, platform, None, None);
    for server in &spec.servers {
        chain(
            &mut nodes,
            &spec.server_steps(first),
            Some(server),
            trunk.clone(),
        );
    }
    nodes
}

/// Appends one node per step, each the parent of the next, and returns the last one's key.
fn chain(
    nodes: &mut Vec<NewNode>,
    steps: &[Step],
    server: Option<&Server>,
    mut parent: Option<String>,
) -> Option<String> {
    for &step in steps {
        let key = key(step, server.map(|server| server.id));
        nodes.push(NewNode {
            key: key.clone(),
            parent: parent.replace(key),
            step: step.as_str().to_owned(),
            server: server.map(|server| (server.id, server.hostname.clone())),
        });
    }
    parent
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::store::{Environment, Moment, ProjectId, ServerKind};

    pub(crate) fn spec(hooks: &str, servers: i64) -> Spec {
        let now = Moment::now();
        Spec {
            project: Project {
                id: ProjectId(1),
                title: "shop".into(),
                repo: "https://git.example/shop.git".into(),
                credential_id: None,
                host_key: None,
                unchanged: crate::store::Unchanged::Copy,
                env: Environment::Test,
                path: "/srv/shop".into(),
                keep: 5,
                build: String::new(),
                restart: String::new(),
                before_download: hooks.into(),
                after_download: hooks.into(),
                before_deploy: hooks.into(),
                after_deploy: hooks.into(),
                created_at: now,
                updated_at: now,
                depth: 0,
                submodules: false,
                health: String::new(),
                health_seconds: crate::store::projects::HEALTH_SECONDS,
                hooks_stop: false,
                login_shell: false,
            },
            servers: (1..=servers)
                .map(|id| Server {
                    id: ServerId(id),
                    hostname: format!("web-{id}"),
                    host: "192.0.2.1".into(),
                    port: 22,
                    user: "deploy".into(),
                    kind: ServerKind::Ssh,
                    credential_id: None,
                    root: "/".into(),
                    host_key: None,
                    created_at: now,
                    updated_at: now,
                    jump_id: None,
                    connect_seconds: None,
                    idle_seconds: None,
                    proxy: None,
                    proxy_command: None,
                })
                .collect(),
        }
    }

    fn drawn(nodes: &[NewNode]) -> Vec<String> {
        nodes
            .iter()
            .map(|node| format!("{}<{}", node.key, node.parent.as_deref().unwrap_or("")))
            .collect()
    }

    #[test]
    fn the_courses_tree() {
        assert_eq!(
            drawn(&deploy(&spec("", 2))),
            [
                "start<",
                "download<start",
                "compile<download",
                "zip<compile",
                "upload-1<zip",
                "switch-1<upload-1",
                "restart-1<switch-1",
                "upload-2<zip",
                "switch-2<upload-2",
                "restart-2<switch-2",
            ]
        );
    }

    #[test]
    fn hooks_are_steps_where_they_are_set() {
        assert_eq!(
            drawn(&deploy(&spec("true", 1))),
            [
                "start<",
                "before_download<start",
                "download<before_download",
                "after_download<download",
                "compile<after_download",
                "zip<compile",
                "upload-1<zip",
                "before_deploy-1<upload-1",
                "switch-1<before_deploy-1",
                "restart-1<switch-1",
                "after_deploy-1<restart-1",
            ]
        );
    }

    #[test]
    fn a_health_check_follows_the_restart_where_it_is_set() {
        let mut spec = spec("", 1);
        assert!(!spec.needs_shell());
        spec.project.health = "true".into();
        assert!(spec.needs_shell());
        spec.project.after_deploy = "true".into();
        assert_eq!(
            drawn(&rollback(&spec)),
            [
                "start<",
                "switch-1<start",
                "restart-1<switch-1",
                "health-1<restart-1",
                "after_deploy-1<health-1",
            ]
        );
        assert!(drawn(&deploy(&spec)).contains(&"health-1<restart-1".to_owned()));
    }

    #[test]
    fn a_spec_of_an_earlier_version_has_no_health_check() {
        let mut value = serde_json::to_value(spec("true", 1)).unwrap();
        let project = value["project"].as_object_mut().unwrap();
        project.remove("health").unwrap();
        project.remove("health_seconds").unwrap();
        let read: Spec = serde_json::from_value(value).unwrap();
        assert_eq!(
            (read.project.health.as_str(), read.project.health_seconds),
            ("", 30)
        );
        assert_eq!(deploy(&read), deploy(&spec("true", 1)));
    }

    #[test]
    fn a_rollback_uploads_nothing() {
        assert_eq!(
            drawn(&rollback(&spec("", 1))),
            ["start<", "switch-1<start", "restart-1<switch-1"]
        );
    }

    #[test]
    fn a_spec_survives_its_storage() {
        let text = serde_json::to_string(&spec("true", 2)).unwrap();
        let read: Spec = serde_json::from_str(&text).unwrap();
        assert_eq!(deploy(&read), deploy(&spec("true", 2)));
    }

    #[test]
    fn steps_keep_one_spelling() {
        for step in Step::ALL {
            assert_eq!(step.as_str().parse::<Step>().unwrap(), step);
        }
    }
}
