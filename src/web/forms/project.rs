//! Projects: validation and storage.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Bounds, Check, FieldErrors, path, taken};
use crate::app::App;
use crate::deploy::{Neighbour, Placement};
use crate::git::{RepoUrl, UrlError, UrlPolicy};
use crate::store::projects::{self, Project, ProjectValues};
use crate::store::servers::{self, Server};
use crate::store::{
    Conn, CredentialId, CredentialKind, Environment, ProjectId, ServerId, StoreError, Unchanged,
    credentials,
};
use crate::web::error::{Error, Result};
use crate::web::input::{Fields, Given};
use crate::web::visitor::Visitor;

/// The fields, in form order.
pub const FIELDS: [&str; 20] = [
    "title",
    "repo",
    "credential_id",
    "depth",
    "submodules",
    "env",
    "server_ids",
    "path",
    "keep",
    "unchanged",
    "build",
    "restart",
    "health",
    "health_seconds",
    "before_download",
    "after_download",
    "before_deploy",
    "after_deploy",
    "hooks_stop",
    "login_shell",
];

/// The longest command, in characters.
const LONGEST_COMMAND: usize = 64 << 10;

const KEEP: Bounds = Bounds {
    least: 1,
    most: 100,
    default: 5,
    code: "out_of_range",
};

/// The time limit of the health check, in seconds.
const HEALTH_SECONDS: Bounds = Bounds {
    least: 1,
    most: 600,
    default: projects::HEALTH_SECONDS,
    code: "out_of_range",
};

/// The number of commits to fetch; 0 is the whole history.
const DEPTH: Bounds = Bounds {
    least: 0,
    most: 1_000_000,
    default: 0,
    code: "out_of_range",
};

/// Adds the project described by `fields`.
///
/// # Errors
/// [`FieldErrors`] for invalid fields or a title in use; database errors.
pub async fn create(visitor: &Visitor, fields: Fields) -> Result<(Project, Vec<ServerId>)> {
    save(visitor, fields, None).await
}

/// Replaces the given values.
///
/// # Errors
/// [`FieldErrors`] for invalid fields or a title in use; an unknown id; database errors.
pub async fn update(
    visitor: &Visitor,
    id: ProjectId,
    fields: Fields,
) -> Result<(Project, Vec<ServerId>)> {
    save(visitor, fields, Some(id)).await
}

/// The names of hosts are looked up before the database is waited for.
async fn save(
    visitor: &Visitor,
    fields: Fields,
    id: Option<ProjectId>,
) -> Result<(Project, Vec<ServerId>)> {
    let fields = Arc::new(fields);
    let asked = Arc::clone(&fields);
    let wanted = visitor
        .ask(move |app| app.store().read(|conn| prepare(app, conn, &asked, id)))
        .await??;
    let engine = visitor.app().engine();
    let resolved = engine.resolve(wanted.own, wanted.others).await?;
    visitor
        .ask(move |app| {
            let saved = app.store().write(|conn| {
                let wanted = match prepare(app, conn, &fields, id)? {
                    Err(errors) => return Ok(Err(errors)),
                    Ok(wanted) => wanted,
                };
                let engine = app.engine();
                if let Some(clash) = engine.overlap(&wanted.own, &wanted.others, &resolved) {
                    let field = match clash.neighbour {
                        Neighbour::Server => "server_ids",
                        Neighbour::Project(_) | Neighbour::Platform => "path",
                    };
                    return Ok(Err(FieldErrors::caused(field, "paths_overlap", &clash)));
                }
                let Wanted {
                    values, servers, ..
                } = wanted;
                let project = match id {
                    Some(id) => projects::update(conn, id, &values, &servers)?,
                    None => projects::add(conn, &values, &servers)?,
                };
                Ok(Ok((project, servers)))
            });
            Ok::<_, Error>(saved.map_err(|error| taken(error, &fields))??)
        })
        .await
}

/// A project as it is to be saved, and where it would lie among the others.
struct Wanted {
    values: ProjectValues,
    servers: Vec<ServerId>,
    own: Vec<Placement>,
    others: Vec<Placement>,
}

fn prepare(
    app: &App,
    conn: &mut Conn,
    fields: &Fields,
    id: Option<ProjectId>,
) -> std::result::Result<std::result::Result<Wanted, FieldErrors>, StoreError> {
    let present = match id {
        Some(id) => Some((projects::find(conn, id)?, projects::server_ids(conn, id)?)),
        None => None,
    };
    let every = servers::all(conn)?;
    let known = Known {
        policy: &app.url_policy(),
        credentials: credentials::kinds(conn)?,
        servers: every.iter().map(|server| server.id).collect(),
    };
    let (values, servers) = match check(fields, present.as_ref(), &known) {
        Ok(checked) => checked,
        Err(errors) => return Ok(Err(errors)),
    };
    let placed = projects::placements(conn)?;
    let (own, others): (Vec<_>, Vec<_>) = placed.iter().partition(|row| Some(row.project) == id);
    let project = (id.unwrap_or(ProjectId(0)), values.title.as_str());
    let place = |server: &Server| {
        let known = own.iter().find(|row| row.server.id == server.id);
        let real = known
            .filter(|row| row.path == values.path)
            .and_then(|row| row.real_path.as_deref());
        Placement::new(project, &values.path, server, real)
    };
    let wanted = every.iter().filter(|server| servers.contains(&server.id));
    let own = wanted.map(place).collect();
    let others = others.into_iter().map(Placement::from).collect();
    Ok(Ok(Wanted {
        values,
        servers,
        own,
        others,
    }))
}

/// The data that fields are validated against.
struct Known<'a> {
    policy: &'a UrlPolicy,
    credentials: Vec<(CredentialId, CredentialKind)>,
    servers: Vec<ServerId>,
}

/// The values and servers of `fields`, with those of `present` as defaults.
fn check(
    fields: &Fields,
    present: Option<&(Project, Vec<ServerId>)>,
    known: &Known<'_>,
) -> std::result::Result<(ProjectValues, Vec<ServerId>), FieldErrors> {
    let mut check = Check::new(fields);
    let project = present.map(|(project, _)| project);
    let title = check.name("title", project.map(|project| project.title.as_str()));
    let repo = repo(&mut check, project, known.policy);
    let mut command = |field: &'static str, present: fn(&Project) -> &String| {
        command(&mut check, field, project.map(present).map(String::as_str))
    };
    let (build, restart) = (
        command("build", |p| &p.build),
        command("restart", |p| &p.restart),
    );
    let health = command("health", |p| &p.health);
    let before_download = command("before_download", |p| &p.before_download);
    let after_download = command("after_download", |p| &p.after_download);
    let before_deploy = command("before_deploy", |p| &p.before_deploy);
    let after_deploy = command("after_deploy", |p| &p.after_deploy);
    let values = ProjectValues {
        title,
        credential_id: credential(&mut check, project, repo.as_ref(), &known.credentials),
        repo: repo
            .map(|repo| repo.as_str().to_owned())
            .unwrap_or_default(),
        env: check.choice("env", project.map(|project| project.env), Environment::Test),
        path: folder(&mut check, project),
        keep: check.number("keep", project.map(|project| project.keep), KEEP),
        build,
        restart,
        before_download,
        after_download,
        before_deploy,
        after_deploy,
        depth: check.number("depth", project.map(|project| project.depth), DEPTH),
        submodules: check.choice(
            "submodules",
            project.map(|project| project.submodules),
            false,
        ),
        unchanged: check.choice(
            "unchanged",
            project.map(|project| project.unchanged),
            Unchanged::Copy,
        ),
        health,
        health_seconds: check.number(
            "health_seconds",
            project.map(|project| project.health_seconds),
            HEALTH_SECONDS,
        ),
        hooks_stop: check.choice(
            "hooks_stop",
            project.map(|project| project.hooks_stop),
            true,
        ),
        login_shell: check.choice(
            "login_shell",
            project.map(|project| project.login_shell),
            false,
        ),
    };
    let present = present.map(|(_, servers)| servers.as_slice());
    let servers = servers_of(&mut check, present.unwrap_or_default(), &known.servers);
    check.finish(&FIELDS, (values, servers))
}

fn repo(check: &mut Check<'_>, present: Option<&Project>, policy: &UrlPolicy) -> Option<RepoUrl> {
    let text = match check.given("repo") {
        Some(text) => text.trim_matches(' '),
        None => present
            .map(|project| project.repo.as_str())
            .unwrap_or_default(),
    };
    match RepoUrl::parse(text, policy) {
        Ok(url) => Some(url),
        Err(error) => {
            check.refuse("repo", repo_code(&error));
            None
        }
    }
}

fn repo_code(error: &UrlError) -> &'static str {
    match error {
        UrlError::Empty => "required",
        UrlError::TooLong => "repo_too_long",
        UrlError::Character => "repo_character",
        UrlError::Scheme => "repo_scheme",
        UrlError::PlainHttp => "repo_plain_http",
        UrlError::Host => "repo_host",
        UrlError::Port => "repo_port",
        UrlError::User => "repo_user",
        UrlError::PasswordInside => "repo_secret",
        UrlError::Path => "repo_path",
        UrlError::Loopback => "repo_loopback",
        UrlError::LinkLocal => "repo_link_local",
        UrlError::LocalFolder => "repo_local_folder",
    }
}

fn credential(
    check: &mut Check<'_>,
    present: Option<&Project>,
    repo: Option<&RepoUrl>,
    credentials: &[(CredentialId, CredentialKind)],
) -> Option<CredentialId> {
    let id = check.id(
        "credential_id",
        present.and_then(|project| project.credential_id),
    )?;
    let fits = |kind: CredentialKind| match repo {
        Some(repo) if repo.is_ssh() => kind == CredentialKind::GitSshKey,
        Some(_) => kind == CredentialKind::GitToken,
        None => kind.is_git(),
    };
    match credentials.iter().find(|(known, _)| *known == id) {
        None => check.refuse("credential_id", "unknown_choice"),
        Some((_, kind)) if !fits(*kind) => check.refuse("credential_id", "wrong_credential"),
        Some(_) => {}
    }
    Some(id)
}

fn folder(check: &mut Check<'_>, present: Option<&Project>) -> String {
    let path = check.line(
        "path",
        present.map(|project| project.path.as_str()),
        path::LONGEST,
    );
    if path.is_empty() {
        check.refuse("path", "required");
        return path;
    }
    match path::normal(&path) {
        None => check.refuse("path", "invalid_path"),
        Some(folder) if path::is_system(folder) => check.refuse("path", "system_path"),
        Some(folder) => return folder.to_owned(),
    }
    path
}

fn servers_of(check: &mut Check<'_>, present: &[ServerId], known: &[ServerId]) -> Vec<ServerId> {
    let texts: Vec<&str> = match check.fields.get("server_ids") {
        // An absent field keeps the present servers; pages add an empty one, as browsers omit
        // unticked boxes.
        None => return required_servers(check, present.to_vec()),
        Some(Given::Text(text)) if text.is_empty() => Vec::new(),
        Some(Given::Text(text)) => vec![text],
        Some(Given::List(texts)) => texts.iter().map(String::as_str).collect(),
        Some(Given::Other) => {
            check.refuse("server_ids", "invalid_type");
            return Vec::new();
        }
    };
    let mut servers = Vec::new();
    let known: HashSet<&ServerId> = known.iter().collect();
    for text in texts {
        match text.parse().ok().filter(|id| known.contains(id)) {
            Some(id) => servers.push(id),
            None => check.refuse("server_ids", "unknown_choice"),
        }
    }
    servers.sort_unstable();
    servers.dedup();
    required_servers(check, servers)
}

fn required_servers(check: &mut Check<'_>, servers: Vec<ServerId>) -> Vec<ServerId> {
    if servers.is_empty() {
        check.refuse("server_ids", "required");
    }
    servers
}

/// A command of several lines. Browsers send line ends as CR LF, which a shell misreads.
fn command(check: &mut Check<'_>, field: &str, present: Option<&str>) -> String {
    let text = match check.given(field) {
        Some(text) => text.replace("\r\n", "\n").trim().to_owned(),
        None => present.unwrap_or_default().to_owned(),
    };
    if text.chars().count() > LONGEST_COMMAND {
        check.refuse_with(field, "too_long", &[("max", &LONGEST_COMMAND.to_string())]);
    } else if text.contains('\0') {
        check.refuse(field, "invalid_characters");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(json: &str) -> std::result::Result<(ProjectValues, Vec<ServerId>), FieldErrors> {
        let mut object = serde_json::json!({
            "title": "shop", "repo": "https://git.example/shop.git", "env": "test",
            "path": "/srv/shop", "server_ids": ["1"],
        });
        let changes: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(json).unwrap();
        object.as_object_mut().unwrap().extend(changes);
        let body = serde_json::to_vec(&object).unwrap();
        let fields = Fields::from_json("application/json", &body).unwrap();
        let known = Known {
            policy: &UrlPolicy::default(),
            credentials: vec![
                (CredentialId(1), CredentialKind::SshKey),
                (CredentialId(2), CredentialKind::GitToken),
                (CredentialId(3), CredentialKind::GitSshKey),
            ],
            servers: vec![ServerId(1), ServerId(2)],
        };
        check(&fields, None, &known)
    }

    #[test]
    fn each_bad_value_names_its_field() {
        let long_build = format!(r#"{{"build":"{}"}}"#, "x".repeat(LONGEST_COMMAND + 1));
        for (json, field, code) in [
            (r#"{"title":""}"#, "title", "required"),
            (r#"{"repo":""}"#, "repo", "required"),
            (r#"{"repo":"file:///etc"}"#, "repo", "repo_scheme"),
            (
                r#"{"repo":"http://git.example/x"}"#,
                "repo",
                "repo_plain_http",
            ),
            (
                r#"{"credential_id":1}"#,
                "credential_id",
                "wrong_credential",
            ),
            (
                r#"{"credential_id":3}"#,
                "credential_id",
                "wrong_credential",
            ),
            (r#"{"credential_id":7}"#, "credential_id", "unknown_choice"),
            (r#"{"env":"staging"}"#, "env", "unknown_choice"),
            (r#"{"path":""}"#, "path", "required"),
            (r#"{"path":"/"}"#, "path", "system_path"),
            (r#"{"path":"/etc"}"#, "path", "system_path"),
            (r#"{"path":".."}"#, "path", "invalid_path"),
            (r#"{"path":"/a\u0000b"}"#, "path", "invalid_characters"),
            (r#"{"path":"/$(id)"}"#, "path", "invalid_path"),
            (r#"{"server_ids":[]}"#, "server_ids", "required"),
            (r#"{"server_ids":null}"#, "server_ids", "required"),
            (
                r#"{"server_ids":["1","9"]}"#,
                "server_ids",
                "unknown_choice",
            ),
            (r#"{"server_ids":{}}"#, "server_ids", "invalid_type"),
            (r#"{"keep":0}"#, "keep", "out_of_range"),
            (r#"{"keep":101}"#, "keep", "out_of_range"),
            (r#"{"keep":"many"}"#, "keep", "out_of_range"),
            (r#"{"depth":-1}"#, "depth", "out_of_range"),
            (r#"{"depth":"all"}"#, "depth", "out_of_range"),
            (r#"{"submodules":"some"}"#, "submodules", "unknown_choice"),
            (r#"{"submodules":{}}"#, "submodules", "invalid_type"),
            (r#"{"restart":"a\u0000b"}"#, "restart", "invalid_characters"),
            (r#"{"health":"a\u0000b"}"#, "health", "invalid_characters"),
            (r#"{"health_seconds":0}"#, "health_seconds", "out_of_range"),
            (
                r#"{"health_seconds":601}"#,
                "health_seconds",
                "out_of_range",
            ),
            (
                r#"{"health_seconds":"soon"}"#,
                "health_seconds",
                "out_of_range",
            ),
            (long_build.as_str(), "build", "too_long"),
        ] {
            let errors = checked(json).unwrap_err();
            let first = errors.first().unwrap();
            assert_eq!(
                (first.field.as_str(), first.code),
                (field, code),
                "{json:.60}"
            );
        }
    }

    #[test]
    fn sound_values_pass() {
        let (values, servers) = checked(r#"{"server_ids":["2",1,"1"]}"#).unwrap();
        assert_eq!(servers, [ServerId(1), ServerId(2)]);
        assert_eq!((values.keep, values.env), (5, Environment::Test));
        let (values, _) = checked(r#"{"build":" make\r\nmake install\r\n"}"#).unwrap();
        assert_eq!(values.build, "make\nmake install");
        checked(r#"{"credential_id":"2"}"#).unwrap();
        assert_eq!((values.depth, values.submodules), (0, false));
        assert_eq!((values.health.as_str(), values.health_seconds), ("", 30));
        let (values, _) = checked(r#"{"health":"curl x","health_seconds":"600"}"#).unwrap();
        assert_eq!(
            (values.health.as_str(), values.health_seconds),
            ("curl x", 600)
        );
        for json in [
            r#"{"depth":50,"submodules":true}"#,
            r#"{"depth":"50","submodules":"true"}"#,
        ] {
            let (values, _) = checked(json).unwrap();
            assert_eq!((values.depth, values.submodules), (50, true));
        }
        checked(r#"{"repo":"ssh://git@git.example/x","credential_id":"3"}"#).unwrap();
    }
}
