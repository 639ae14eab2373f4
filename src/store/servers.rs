//! Servers, the destinations of releases.

use std::collections::HashMap;

use diesel::prelude::*;
use serde::{Deserialize, Serialize};

use super::schema::{project_servers, projects, servers};
use super::{
    Conn, CredentialId, Moment, Page, PageRequest, ProjectId, Result, ServerId, ServerKind,
    StoreError, Words,
};

/// A server.
#[derive(Debug, Clone, Queryable, Selectable, Serialize, Deserialize)]
#[diesel(table_name = servers)]
pub struct Server {
    /// Its id.
    pub id: ServerId,
    /// Its display name, unique.
    pub hostname: String,
    /// The address of its sshd: a name or an IP address.
    pub host: String,
    /// The sshd's port.
    pub port: i32,
    /// The account there.
    pub user: String,
    /// The way it is reached.
    pub kind: ServerKind,
    /// Its credential; none for a local one.
    pub credential_id: Option<CredentialId>,
    /// The folder that contains the project folders.
    pub root: String,
    /// The host key that a person accepted, see `ssh`.
    pub host_key: Option<String>,
    /// The creation time.
    #[serde(skip_deserializing, default = "Moment::now")]
    pub created_at: Moment,
    /// The time of the last change.
    #[serde(skip_deserializing, default = "Moment::now")]
    pub updated_at: Moment,
    /// The jump server; none: a direct connection.
    #[serde(default)]
    pub jump_id: Option<ServerId>,
    /// The time limit for connecting, in seconds; none: as the settings say.
    #[serde(default)]
    pub connect_seconds: Option<i32>,
    /// The time limit without data, in seconds; none: as the settings say.
    #[serde(default)]
    pub idle_seconds: Option<i32>,
    /// The address of its proxy, without a password.
    #[serde(default)]
    pub proxy: Option<String>,
    /// The command that connects to it, with its arguments.
    #[serde(default)]
    pub proxy_command: Option<Words>,
}

impl Server {
    /// True if every path means the same folder on it as on `old`: the same machine, account and
    /// root.
    pub fn has_folders_of(&self, old: &Self) -> bool {
        (self.kind, &self.host, self.port) == (old.kind, &old.host, old.port)
            && (&self.user, &self.root, self.jump_id) == (&old.user, &old.root, old.jump_id)
            && (&self.proxy, &self.proxy_command) == (&old.proxy, &old.proxy_command)
    }
}

/// The proxy or proxy command of a server. The proxy's password is not part of [`Server`]: see
/// [`proxy_password`].
#[derive(Debug, Clone, Default, PartialEq, Eq, AsChangeset)]
#[diesel(table_name = servers, treat_none_as_null = true)]
pub struct ProxyValues {
    /// See [`Server`].
    pub proxy: Option<String>,
    /// Sealed for [`PROXY_PASSWORD`].
    pub proxy_password: Option<Vec<u8>>,
    /// See [`Server`].
    pub proxy_command: Option<Words>,
}

/// The purpose a proxy's password is sealed for.
pub const PROXY_PASSWORD: &str = "proxy password";

/// A server's values from a validated form.
#[derive(Debug, Clone, Insertable, AsChangeset)]
#[diesel(table_name = servers, treat_none_as_null = true)]
pub struct ServerValues {
    /// See [`Server`].
    pub hostname: String,
    /// See [`Server`].
    pub host: String,
    /// See [`Server`].
    pub port: i32,
    /// See [`Server`].
    pub user: String,
    /// See [`Server`].
    pub kind: ServerKind,
    /// See [`Server`].
    pub credential_id: Option<CredentialId>,
    /// See [`Server`].
    pub root: String,
    /// See [`Server`].
    pub jump_id: Option<ServerId>,
    /// See [`Server`].
    pub connect_seconds: Option<i32>,
    /// See [`Server`].
    pub idle_seconds: Option<i32>,
}

/// The largest number of jump servers in a row.
pub const MOST_JUMPS: usize = 4;

/// The jump servers on the way to `server`, the nearest to it first.
///
/// # Errors
/// [`StoreError::JumpLoop`] if the chain is circular or longer than [`MOST_JUMPS`];
/// [`StoreError::NotFound`]; database errors.
pub fn way(conn: &mut Conn, id: ServerId, jump: Option<ServerId>) -> Result<Vec<Server>> {
    let mut way: Vec<Server> = Vec::new();
    let mut next = jump;
    while let Some(jump) = next {
        let known = jump == id || way.iter().any(|server| server.id == jump);
        if known || way.len() == MOST_JUMPS {
            return Err(StoreError::JumpLoop { server: id });
        }
        let server = find(conn, jump)?;
        next = server.jump_id;
        way.push(server);
    }
    Ok(way)
}

/// The names of the servers reached through this one.
///
/// # Errors
/// Database errors.
pub fn reached_through(conn: &mut Conn, id: ServerId) -> Result<Vec<String>> {
    Ok(servers::table
        .filter(servers::jump_id.eq(id))
        .order(servers::hostname)
        .select(servers::hostname)
        .load(conn)?)
}

/// Adds a server without an accepted host key.
///
/// # Errors
/// [`StoreError::Taken`] if the name is in use; database errors.
pub fn add(conn: &mut Conn, values: &ServerValues) -> Result<Server> {
    let now = Moment::now();
    diesel::insert_into(servers::table)
        .values((
            values,
            servers::created_at.eq(now),
            servers::updated_at.eq(now),
        ))
        .returning(Server::as_returning())
        .get_result(conn)
        .map_err(StoreError::taken("hostname"))
}

/// Replaces a server's values. Drops the accepted host key if the host or port changes, because it
/// may be another machine.
///
/// # Errors
/// [`StoreError::NotFound`] or [`StoreError::Taken`] for the name; database errors.
pub fn update(conn: &mut Conn, id: ServerId, values: &ServerValues) -> Result<Server> {
    let old = find(conn, id)?;
    let host_key = old
        .host_key
        .as_ref()
        .filter(|_| old.host == values.host && old.port == values.port);
    let new: Server = diesel::update(servers::table.find(id))
        .set((
            values,
            servers::host_key.eq(host_key),
            servers::updated_at.eq(Moment::now()),
        ))
        .returning(Server::as_returning())
        .get_result(conn)
        .map_err(StoreError::taken("hostname"))?;
    if !new.has_folders_of(&old) {
        forget_real_paths(conn, id)?;
    }
    Ok(new)
}

/// Forgets the real paths, since another machine or root has other folders.
fn forget_real_paths(conn: &mut Conn, id: ServerId) -> Result<()> {
    let own = project_servers::table.filter(project_servers::server_id.eq(id));
    diesel::update(own)
        .set(project_servers::real_path.eq(None::<String>))
        .execute(conn)?;
    Ok(())
}

/// Replaces a server's proxy or proxy command.
///
/// # Errors
/// [`StoreError::NotFound`]; database errors.
pub fn set_proxy(conn: &mut Conn, id: ServerId, values: &ProxyValues) -> Result<Server> {
    let old = find(conn, id)?;
    let new: Server = diesel::update(servers::table.find(id))
        .set(values)
        .returning(Server::as_returning())
        .get_result(conn)
        .map_err(StoreError::missing("server", id))?;
    if !new.has_folders_of(&old) {
        forget_real_paths(conn, id)?;
    }
    Ok(new)
}

/// The sealed password of a server's proxy.
///
/// # Errors
/// [`StoreError::NotFound`]; database errors.
pub fn proxy_password(conn: &mut Conn, id: ServerId) -> Result<Option<Vec<u8>>> {
    servers::table
        .find(id)
        .select(servers::proxy_password)
        .first(conn)
        .map_err(StoreError::missing("server", id))
}

/// Pins the host key that a person accepted, or removes it (`None`).
///
/// # Errors
/// [`StoreError::NotFound`]; database errors.
pub fn set_host_key(conn: &mut Conn, id: ServerId, host_key: Option<&str>) -> Result<()> {
    match diesel::update(servers::table.find(id))
        .set(servers::host_key.eq(host_key))
        .execute(conn)?
    {
        0 => Err(StoreError::NotFound {
            what: "server",
            id: id.to_string(),
        }),
        _ => Ok(()),
    }
}

/// The server with this id.
///
/// # Errors
/// [`StoreError::NotFound`]; database errors.
pub fn find(conn: &mut Conn, id: ServerId) -> Result<Server> {
    servers::table
        .find(id)
        .select(Server::as_select())
        .first(conn)
        .map_err(StoreError::missing("server", id))
}

/// One page of the servers, by name.
///
/// # Errors
/// Database errors.
pub fn page(conn: &mut Conn, request: PageRequest) -> Result<Page<Server>> {
    let total = servers::table.count().get_result(conn)?;
    request.place(total, |offset, limit| {
        servers::table
            .order((servers::hostname, servers::id))
            .offset(offset)
            .limit(limit)
            .select(Server::as_select())
            .load(conn)
    })
}

/// Every server, by name.
///
/// # Errors
/// Database errors.
pub fn all(conn: &mut Conn) -> Result<Vec<Server>> {
    Ok(servers::table
        .order(servers::hostname)
        .select(Server::as_select())
        .load(conn)?)
}

/// The servers of a project, by name.
///
/// # Errors
/// Database errors.
pub fn of_project(conn: &mut Conn, project: ProjectId) -> Result<Vec<Server>> {
    Ok(servers::table
        .inner_join(project_servers::table)
        .filter(project_servers::project_id.eq(project))
        .order(servers::hostname)
        .select(Server::as_select())
        .load(conn)?)
}

/// Every server's id.
///
/// # Errors
/// Database errors.
pub fn ids(conn: &mut Conn) -> Result<Vec<ServerId>> {
    Ok(servers::table.select(servers::id).load(conn)?)
}

/// The titles of the projects that release to each of `ids`; unused servers are absent.
///
/// # Errors
/// Database errors.
pub fn used_by(conn: &mut Conn, ids: &[ServerId]) -> Result<HashMap<ServerId, Vec<String>>> {
    let rows: Vec<(ServerId, String)> = projects::table
        .inner_join(project_servers::table)
        .filter(project_servers::server_id.eq_any(ids))
        .order(projects::title)
        .select((project_servers::server_id, projects::title))
        .load(conn)?;
    let mut users: HashMap<ServerId, Vec<String>> = HashMap::new();
    for (id, title) in rows {
        users.entry(id).or_default().push(title);
    }
    Ok(users)
}

/// The users that prevent a server's deletion: the projects that release to it and the servers
/// reached through it.
///
/// # Errors
/// Database errors.
pub fn needed_by(conn: &mut Conn, id: ServerId) -> Result<Vec<String>> {
    let mut users = used_by(conn, &[id])?.remove(&id).unwrap_or_default();
    users.extend(reached_through(conn, id)?);
    Ok(users)
}

/// The server with this name, or else with this id.
///
/// # Errors
/// [`StoreError::NotFound`]; database errors.
pub fn named(conn: &mut Conn, name: &str) -> Result<Server> {
    let by_name = servers::table
        .filter(servers::hostname.eq(name))
        .select(Server::as_select())
        .first(conn)
        .optional()?;
    match (by_name, name.parse()) {
        (Some(server), _) => Ok(server),
        (None, Ok(id)) => find(conn, id),
        (None, Err(_)) => Err(StoreError::NotFound {
            what: "server",
            id: name.to_owned(),
        }),
    }
}

/// Deletes a server that no project and no other server uses.
///
/// # Errors
/// [`StoreError::InUse`] or [`StoreError::NotFound`]; database errors.
pub fn delete(conn: &mut Conn, id: ServerId) -> Result<()> {
    let users = needed_by(conn, id)?;
    if !users.is_empty() {
        return Err(StoreError::InUse {
            what: "server",
            id: id.to_string(),
            by: users.join(", "),
        });
    }
    match diesel::delete(servers::table.find(id)).execute(conn)? {
        0 => Err(StoreError::NotFound {
            what: "server",
            id: id.to_string(),
        }),
        _ => Ok(()),
    }
}
