//! `longshore demo`: a complete installation to look at, with real parts as far as the machine has
//! them.
//!
//! A sample repository, three servers behind a private sshd (or local ones if there is no sshd), one
//! project, and a release that begins as soon as the server answers.

mod host;
mod repository;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::host::SshHost;
use super::accounts::say;
use super::{CliError, variables};
use crate::app::App;
use crate::auth::login_path;
use crate::deploy::Order;
use crate::secret::{Secret, new_token};
use crate::server::{self, Bound};
use crate::settings::{ChatAccess, Settings};
use crate::store::credentials::{self, CredentialValues, SECRET};
use crate::store::projects::{self, ProjectValues};
use crate::store::servers::{self, ServerValues};
use crate::store::{
    CredentialId, CredentialKind, Environment, PageRequest, ProjectId, ReleaseId, Role, ServerId,
    ServerKind,
};

const USER: &str = "demo";
const TITLE: &str = "shop";
const CREDENTIAL: &str = "demo key";
const SERVERS: [&str; 3] = ["web-1", "web-2", "web-3"];

/// The access data for a script that uses the demo: `DATA/demo.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Handle {
    url: String,
    user: String,
    password: String,
    token: String,
    project_id: ProjectId,
    release_id: Option<ReleaseId>,
}

pub(super) async fn run(data: Option<PathBuf>, listen: SocketAddr) -> Result<(), CliError> {
    let fresh = match data {
        Some(_) => None,
        None => Some(
            tempfile::Builder::new()
                .prefix("longshore-demo-")
                .tempdir()
                .map_err(CliError::io("data folder"))?,
        ),
    };
    let data = data
        .or_else(|| fresh.as_ref().map(|folder| folder.path().to_owned()))
        .unwrap_or_default();
    fs::create_dir_all(&data).map_err(CliError::io(data.display().to_string()))?;
    let data = data
        .canonicalize()
        .map_err(CliError::io(data.display().to_string()))?;
    let demo = Demo::open(data, listen)?;
    let result = demo.serve(listen).await;
    drop(fresh);
    result
}

struct Demo {
    app: App,
    data: PathBuf,
    project: ProjectId,
    /// The servers' sshd; it ends with the demo.
    host: Option<SshHost>,
}

impl Demo {
    fn open(data: PathBuf, listen: SocketAddr) -> Result<Self, CliError> {
        let sample = data.join("demo").join("shop.git");
        let defaults = Settings {
            listen,
            chat: ChatAccess::Open,
            git_local_folders: vec![data.join("demo")],
            ..Settings::default()
        };
        let settings = Settings::load_over(defaults, None, variables())?;
        let app = App::open(settings, &data)?;
        if !sample.exists() {
            repository::make(&sample)?;
        }
        let host = SshHost::start(&data.join("demo").join("sshd"));
        let host = match host {
            Ok(host) => Some(host),
            Err(error) => {
                say(&format!("The servers are local folders: {error}."))?;
                None
            }
        };
        let servers = add_servers(&app, &data, host.as_ref())?;
        let project = add_project(&app, &sample, &servers)?;
        Ok(Self {
            app,
            data,
            project,
            host,
        })
    }

    async fn serve(self, listen: SocketAddr) -> Result<(), CliError> {
        let failed = |cause| CliError::Listen {
            address: listen,
            cause,
        };
        let bound = server::bind(self.app.clone(), listen).map_err(failed)?;
        let release = self.app.engine().submit(Order {
            project: self.project,
            revision: repository::BRANCH.to_owned(),
            commit: None,
            by: USER.to_owned(),
        })?;
        // Last, since an account whose password was never written down would block the next run.
        let handle = Handle {
            url: format!("http://{}", bound.address()),
            release_id: Some(release.id),
            ..open_handle(&self.app, &self.data, self.project)?
        };
        self.write_handle(&handle)?;
        self.greet(&bound, &handle)?;
        let result = bound.run().await.map_err(failed);
        drop(self.host);
        result
    }

    fn write_handle(&self, handle: &Handle) -> Result<(), CliError> {
        let path = handle_path(&self.data);
        let text = serde_json::to_vec_pretty(handle)
            .map_err(io::Error::other)
            .map_err(CliError::io("demo.json"))?;
        // The rename shows the file complete to a script that waits for it.
        let part = path.with_extension("json.part");
        let write = || {
            let mut file = fs::OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(true)
                .mode(0o600)
                .open(&part)?;
            io::Write::write_all(&mut file, &text)?;
            fs::rename(&part, &path)
        };
        write().map_err(CliError::io(path.display().to_string()))
    }

    fn greet(&self, bound: &Bound, handle: &Handle) -> Result<(), CliError> {
        let url = &handle.url;
        let link = self.app.auth().login_link(USER)?;
        say(&format!("Listening on http://{}", bound.address()))?;
        say("")?;
        say("Log in with this link (it works once):")?;
        say(&format!("  {url}{}", login_path(&link)))?;
        say(&format!(
            "or as {USER} with the password {}",
            handle.password
        ))?;
        say("")?;
        if let Some(release) = handle.release_id {
            say(&format!(
                "The release that runs now: {url}/releases/{release}"
            ))?;
        }
        say(&format!(
            "The chat room:              {url}/home/?name=jason"
        ))?;
        say(&format!(
            "Everything is in {}; Ctrl-C ends it.",
            self.data.display()
        ))
    }
}

fn handle_path(data: &Path) -> PathBuf {
    data.join("demo.json")
}

/// The demo's account and token: those of an earlier run on the same data, or new ones.
fn open_handle(app: &App, data: &Path, project: ProjectId) -> Result<Handle, CliError> {
    let kept = fs::read(handle_path(data))
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Handle>(&bytes).ok());
    if let Some(kept) = kept {
        return Ok(kept);
    }
    let password = new_token();
    app.auth().add_user(USER, &password, Role::Admin)?;
    let token = app.auth().create_token(USER)?;
    Ok(Handle {
        url: String::new(),
        user: USER.to_owned(),
        password: password.expose().clone(),
        token: token.expose().clone(),
        project_id: project,
        release_id: None,
    })
}

fn add_servers(app: &App, data: &Path, host: Option<&SshHost>) -> Result<Vec<ServerId>, CliError> {
    let credential = host.map(|host| add_credential(app, host)).transpose()?;
    let known = app.store().read(servers::all)?;
    SERVERS
        .iter()
        .map(|hostname| {
            let root = data.join("demo").join("servers").join(hostname);
            fs::create_dir_all(&root).map_err(CliError::io(root.display().to_string()))?;
            let values = ServerValues {
                hostname: (*hostname).to_owned(),
                host: "127.0.0.1".to_owned(),
                port: host.map_or(22, |host| i32::from(host.port())),
                user: host.map_or_else(String::new, |host| host.user().to_owned()),
                kind: match host {
                    Some(_) => ServerKind::Ssh,
                    None => ServerKind::Local,
                },
                credential_id: credential,
                root: root.display().to_string(),
                jump_id: None,
                connect_seconds: None,
                idle_seconds: None,
            };
            let earlier = known.iter().find(|server| server.hostname == *hostname);
            let id = app.store().write(|conn| {
                let server = match earlier {
                    Some(server) => servers::update(conn, server.id, &values)?,
                    None => servers::add(conn, &values)?,
                };
                if let Some(host) = host {
                    servers::set_host_key(conn, server.id, Some(host.host_key()))?;
                }
                Ok(server.id)
            })?;
            Ok(id)
        })
        .collect()
}

fn add_credential(app: &App, host: &SshHost) -> Result<CredentialId, CliError> {
    let key: &Secret<String> = host.client_key();
    let values = CredentialValues {
        name: CREDENTIAL.to_owned(),
        kind: CredentialKind::SshKey,
        secret: app.vault().seal(key.expose().as_bytes(), SECRET)?,
        passphrase: None,
        password: None,
        path: None,
    };
    let everything = PageRequest::new(1, PageRequest::LARGEST);
    let added = app.store().write(|conn| {
        let known = credentials::page(conn, everything)?;
        match known.items.iter().find(|known| known.name == CREDENTIAL) {
            Some(known) => credentials::update(conn, known.id, &values),
            None => credentials::add(conn, &values),
        }
    })?;
    Ok(added.id)
}

fn add_project(app: &App, sample: &Path, servers: &[ServerId]) -> Result<ProjectId, CliError> {
    let known = app.store().read(projects::all)?;
    if let Some(known) = known.iter().find(|project| project.title == TITLE) {
        return Ok(known.id);
    }
    let values = ProjectValues {
        title: TITLE.to_owned(),
        repo: sample.display().to_string(),
        credential_id: None,
        unchanged: crate::store::Unchanged::Copy,
        env: Environment::Test,
        path: "/srv/shop".to_owned(),
        keep: 5,
        build: "sh build.sh".to_owned(),
        restart: "sh restart.sh".to_owned(),
        before_download: String::new(),
        after_download: "sh test.sh".to_owned(),
        before_deploy: String::new(),
        after_deploy: "grep -q shop dist/index.html && echo 'the page is there'".to_owned(),
        depth: 0,
        submodules: false,
        health: String::new(),
        health_seconds: projects::HEALTH_SECONDS,
        hooks_stop: true,
        login_shell: false,
    };
    let added = app
        .store()
        .write(|conn| projects::add(conn, &values, servers))?;
    Ok(added.id)
}
