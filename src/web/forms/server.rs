//! Servers: validation and storage.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use super::{Bounds, Check, FieldErrors, path, taken};
use crate::app::App;
use crate::deploy::Placement;
use crate::secret::VaultError;
use crate::ssh::{ProxyServer, check_argument};
use crate::store::credentials;
use crate::store::projects::{self, PlacementRow};
use crate::store::servers::{self, PROXY_PASSWORD, ProxyValues, Server, ServerValues};
use crate::store::{Conn, CredentialId, CredentialKind, ServerId, ServerKind, StoreError, Words};
use crate::web::error::{Error, Result};
use crate::web::input::{Fields, Given};
use crate::web::visitor::Visitor;

/// The fields, in form order.
pub const FIELDS: [&str; 12] = [
    "hostname",
    "host",
    "port",
    "user",
    "kind",
    "credential_id",
    "root",
    "jump_id",
    "proxy",
    "proxy_command",
    "connect_seconds",
    "idle_seconds",
];

/// The longest host name in the DNS, in characters (RFC 1035 section 2.3.4).
const LONGEST_HOST: usize = 253;
const LONGEST_USER: usize = 32;
/// The longest proxy address with its login, and the longest argument of a command, in characters.
const LONGEST_PROXY: usize = 1024;
/// The largest number of arguments of a proxy command.
const MOST_ARGUMENTS: usize = 64;

/// Adds the server described by `fields`.
///
/// # Errors
/// [`FieldErrors`] for invalid fields or a name in use; database errors.
pub async fn create(visitor: &Visitor, fields: Fields) -> Result<Server> {
    save(visitor, fields, None).await
}

/// Replaces the given values.
///
/// # Errors
/// [`FieldErrors`] for invalid fields or a name in use; an unknown id; database errors.
pub async fn update(visitor: &Visitor, id: ServerId, fields: Fields) -> Result<Server> {
    save(visitor, fields, Some(id)).await
}

/// The names of hosts are looked up before the database is waited for.
async fn save(visitor: &Visitor, fields: Fields, id: Option<ServerId>) -> Result<Server> {
    let fields = Arc::new(fields);
    let asked = Arc::clone(&fields);
    let wanted = visitor
        .ask(move |app| app.store().read(|conn| prepare(conn, &asked, id)))
        .await??;
    let engine = visitor.app().engine();
    let resolved = engine.resolve(wanted.own, wanted.others).await?;
    visitor
        .ask(move |app| {
            let saved = app.store().write(|conn| {
                let wanted = match prepare(conn, &fields, id)? {
                    Err(errors) => return Ok(Err(errors)),
                    Ok(wanted) => wanted,
                };
                let engine = app.engine();
                match engine.overlap(&wanted.own, &wanted.others, &resolved) {
                    Some(clash) => {
                        let field = wanted.changed_place();
                        Ok(Err(FieldErrors::caused(field, "paths_overlap", &clash)))
                    }
                    None => write(app, conn, &wanted).map(Ok),
                }
            });
            Ok::<_, Error>(saved.map_err(|error| taken(error, &fields))??)
        })
        .await
}

fn write(app: &App, conn: &mut Conn, wanted: &Wanted) -> std::result::Result<Server, StoreError> {
    let present = wanted.present.as_ref();
    let saved = match present {
        Some(present) => servers::update(conn, present.id, &wanted.values)?,
        None => servers::add(conn, &wanted.values)?,
    };
    let kept = servers::proxy_password(conn, saved.id)?;
    match wanted.way.sealed(app, present, kept) {
        Ok(proxy) => servers::set_proxy(conn, saved.id, &proxy),
        Err(error) => Err(StoreError::Corrupt {
            what: "the proxy's password".to_owned(),
            cause: error.to_string(),
        }),
    }
}

/// A server as it is to be saved, and where its projects would lie among the others.
struct Wanted {
    present: Option<Server>,
    values: ServerValues,
    way: Way,
    own: Vec<Placement>,
    others: Vec<Placement>,
}

impl Wanted {
    /// The first changed field that makes it another place.
    fn changed_place(&self) -> &'static str {
        let values = &self.values;
        match &self.present {
            Some(present) if present.root != values.root => "root",
            Some(present) if present.kind != values.kind => "kind",
            Some(present) if present.host != values.host => "host",
            Some(present) if present.port != values.port => "port",
            Some(present) if present.jump_id != values.jump_id => "jump_id",
            Some(present) if present.proxy != self.way.address() => "proxy",
            Some(present) if present.proxy_command != self.way.command => "proxy_command",
            Some(_) | None => "root",
        }
    }
}

fn prepare(
    conn: &mut Conn,
    fields: &Fields,
    id: Option<ServerId>,
) -> std::result::Result<std::result::Result<Wanted, FieldErrors>, StoreError> {
    let present = id.map(|id| servers::find(conn, id)).transpose()?;
    let credentials = credentials::kinds(conn)?;
    let (values, way) = match check(fields, present.as_ref(), &credentials) {
        Err(errors) => return Ok(Err(errors)),
        Ok(checked) => checked,
    };
    if let Err(errors) = check_way(conn, present.as_ref(), &values)? {
        return Ok(Err(errors));
    }
    let placed = projects::placements(conn)?;
    let (own, others): (Vec<_>, Vec<_>) = placed.iter().partition(|row| Some(row.server.id) == id);
    let place = |row: &PlacementRow| {
        let server = way.of(&values, &row.server);
        let real = row.real_path.as_deref();
        let real = real.filter(|_| server.has_folders_of(&row.server));
        Placement::new((row.project, &row.title), &row.path, &server, real)
    };
    let own = own.into_iter().map(place).collect();
    let others = others.into_iter().map(Placement::from).collect();
    Ok(Ok(Wanted {
        present,
        values,
        way,
        own,
        others,
    }))
}

/// The proxy or proxy command of a server, not yet sealed.
#[derive(Debug, Default)]
struct Way {
    proxy: Option<ProxyServer>,
    command: Option<Words>,
}

impl Way {
    fn address(&self) -> Option<String> {
        self.proxy.as_ref().map(ProxyServer::address)
    }

    /// `present` with the fields that determine its place replaced.
    fn of(&self, values: &ServerValues, present: &Server) -> Server {
        Server {
            hostname: values.hostname.clone(),
            host: values.host.clone(),
            port: values.port,
            user: values.user.clone(),
            kind: values.kind,
            root: values.root.clone(),
            jump_id: values.jump_id,
            proxy: self.address(),
            proxy_command: self.command.clone(),
            ..present.clone()
        }
    }

    /// Seals the proxy's password. Without a given password, the present one is kept as long as the
    /// rest of the address is unchanged; an empty one removes it.
    fn sealed(
        &self,
        app: &App,
        present: Option<&Server>,
        kept: Option<Vec<u8>>,
    ) -> std::result::Result<ProxyValues, VaultError> {
        let address = self.address();
        let is_same = present.is_some_and(|server| server.proxy == address);
        let given = self.proxy.as_ref().and_then(ProxyServer::password);
        let proxy_password = match given.map(|password| password.expose().as_str()) {
            Some("") => None,
            Some(password) => Some(app.vault().seal(password.as_bytes(), PROXY_PASSWORD)?),
            None => kept.filter(|_| is_same && address.is_some()),
        };
        Ok(ProxyValues {
            proxy: address,
            proxy_password,
            proxy_command: self.command.clone(),
        })
    }
}

/// Checks the chain of jump servers, and that a server used as a jump server stays an SSH server.
fn check_way(
    conn: &mut Conn,
    present: Option<&Server>,
    values: &ServerValues,
) -> std::result::Result<std::result::Result<(), FieldErrors>, StoreError> {
    let mut errors = FieldErrors::default();
    let id = present.map_or(ServerId(0), |server| server.id);
    match servers::way(conn, id, values.jump_id) {
        Ok(way) if way.iter().any(|server| server.kind != ServerKind::Ssh) => {
            errors.add("jump_id", "unknown_choice");
        }
        Ok(_) => {}
        Err(StoreError::NotFound { .. }) => errors.add("jump_id", "unknown_choice"),
        Err(StoreError::JumpLoop { .. }) => errors.add("jump_id", "jump_loop"),
        Err(other) => return Err(other),
    }
    if values.kind == ServerKind::Local {
        let users = servers::reached_through(conn, id)?;
        if !users.is_empty() {
            errors.add_with("kind", "in_use", &[("by", &users.join(", "))]);
        }
    }
    Ok(errors.or(()))
}

/// The values of `fields`, with those of `present` as defaults.
fn check(
    fields: &Fields,
    present: Option<&Server>,
    credentials: &[(CredentialId, CredentialKind)],
) -> std::result::Result<(ServerValues, Way), FieldErrors> {
    let mut check = Check::new(fields);
    let kind = check.choice("kind", present.map(|server| server.kind), ServerKind::Ssh);
    let values = ServerValues {
        hostname: check.name("hostname", present.map(|server| server.hostname.as_str())),
        host: host(&mut check, present, kind),
        port: check.number("port", present.map(|server| server.port), PORT),
        user: user(&mut check, present, kind),
        kind,
        credential_id: credential(&mut check, present, kind, credentials),
        root: root(&mut check, present),
        jump_id: check
            .id("jump_id", present.and_then(|server| server.jump_id))
            .filter(|_| kind == ServerKind::Ssh),
        connect_seconds: check.optional_number(
            "connect_seconds",
            present.and_then(|server| server.connect_seconds),
            SECONDS,
        ),
        idle_seconds: check.optional_number(
            "idle_seconds",
            present.and_then(|server| server.idle_seconds),
            SECONDS,
        ),
    };
    let way = match kind {
        ServerKind::Ssh => way(&mut check, present, values.jump_id),
        ServerKind::Local => Way::default(),
    };
    check.finish(&FIELDS, (values, way))
}

fn way(check: &mut Check<'_>, present: Option<&Server>, jump: Option<ServerId>) -> Way {
    let way = Way {
        proxy: proxy(check, present),
        command: proxy_command(check, present),
    };
    if way.proxy.is_some() && way.command.is_some() {
        check.refuse("proxy_command", "proxy_twice");
    }
    if jump.is_some() && way.proxy.is_some() {
        check.refuse("proxy", "proxy_behind_jump");
    }
    if jump.is_some() && way.command.is_some() {
        check.refuse("proxy_command", "proxy_behind_jump");
    }
    way
}

fn proxy(check: &mut Check<'_>, present: Option<&Server>) -> Option<ProxyServer> {
    let present = present.and_then(|server| server.proxy.as_deref());
    let text = check.line("proxy", present, LONGEST_PROXY);
    if text.is_empty() {
        return None;
    }
    let proxy = ProxyServer::parse(&text).ok();
    if proxy.is_none() {
        check.refuse("proxy", "invalid_proxy");
    }
    proxy
}

/// The command's words: a list, or text with one word per line.
fn proxy_command(check: &mut Check<'_>, present: Option<&Server>) -> Option<Words> {
    let words: Vec<String> = match check.fields.get("proxy_command") {
        None => return present.and_then(|server| server.proxy_command.clone()),
        Some(Given::List(words)) => words.clone(),
        Some(Given::Text(text)) => {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            lines.map(str::to_owned).collect()
        }
        Some(Given::Other) => {
            check.refuse("proxy_command", "invalid_type");
            return None;
        }
    };
    let program = words.first()?;
    let is_long = |word: &String| word.chars().nth(LONGEST_PROXY).is_some();
    if program.is_empty() || !words.iter().all(|word| check_argument(word)) {
        check.refuse("proxy_command", "invalid_proxy_command");
    } else if words.iter().any(|word| word.chars().any(char::is_control)) {
        check.refuse("proxy_command", "invalid_characters");
    } else if words.len() > MOST_ARGUMENTS || words.iter().any(is_long) {
        let most = LONGEST_PROXY.to_string();
        check.refuse_with("proxy_command", "too_long", &[("max", &most)]);
    }
    Some(Words(words))
}

const PORT: Bounds = Bounds {
    least: 1,
    most: 65_535,
    default: 22,
    code: "invalid_port",
};

const SECONDS: Bounds = Bounds {
    least: 1,
    most: 3600,
    default: 0,
    code: "out_of_range",
};

fn host(check: &mut Check<'_>, present: Option<&Server>, kind: ServerKind) -> String {
    let host = check.line(
        "host",
        present.map(|server| server.host.as_str()),
        LONGEST_HOST,
    );
    // Brackets are accepted, as in addresses with a port.
    let host = match host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(inside) if is_ipv6(inside) => inside.to_owned(),
        _ => host,
    };
    match (host.is_empty(), kind) {
        (true, ServerKind::Local) => "127.0.0.1".into(),
        (true, ServerKind::Ssh) => {
            check.refuse("host", "required");
            host
        }
        (false, _) => {
            if !is_host(&host) {
                check.refuse("host", "invalid_host");
            }
            host
        }
    }
}

/// True for an IPv6 address, with or without a zone (RFC 4007, section 11).
fn is_ipv6(text: &str) -> bool {
    let (address, zone) = text.split_once('%').unwrap_or((text, "0"));
    let is_zone = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    address.parse::<Ipv6Addr>().is_ok() && !zone.is_empty() && zone.bytes().all(is_zone)
}

/// True for a DNS or hosts-file name, with or without a trailing dot, or an IP address.
fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    text.parse::<IpAddr>().is_ok() || is_ipv6(text) || name.split('.').all(is_label)
}

fn user(check: &mut Check<'_>, present: Option<&Server>, kind: ServerKind) -> String {
    let user = check.line(
        "user",
        present.map(|server| server.user.as_str()),
        LONGEST_USER,
    );
    if user.is_empty() && kind == ServerKind::Ssh {
        check.refuse("user", "required");
    } else if !user.is_empty() && !is_user(&user) {
        check.refuse("user", "invalid_user");
    }
    user
}

fn is_user(text: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let later = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    text.bytes().next().is_some_and(first) && text.bytes().all(later)
}

fn credential(
    check: &mut Check<'_>,
    present: Option<&Server>,
    kind: ServerKind,
    credentials: &[(CredentialId, CredentialKind)],
) -> Option<CredentialId> {
    let id = check.id(
        "credential_id",
        present.and_then(|server| server.credential_id),
    );
    if kind == ServerKind::Local {
        return None;
    }
    // A server without a credential can be registered and its host key accepted; logging in then
    // fails.
    if let Some(id) = id {
        match credentials.iter().find(|(known, _)| *known == id) {
            None => check.refuse("credential_id", "unknown_choice"),
            Some((_, kind)) if kind.is_git() => check.refuse("credential_id", "wrong_credential"),
            Some(_) => {}
        }
    }
    id
}

fn root(check: &mut Check<'_>, present: Option<&Server>) -> String {
    let root = check.line(
        "root",
        present.map(|server| server.root.as_str()),
        path::LONGEST,
    );
    if root.is_empty() {
        return "/".into();
    }
    match path::normal(&root) {
        Some(root) => root.to_owned(),
        None => {
            check.refuse("root", "invalid_path");
            root
        }
    }
}

#[cfg(test)]
mod tests;
