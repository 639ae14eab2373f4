//! The folders of projects on machines, and the detection of folders that are the same or overlap.
//! Pure.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::script;
use crate::store::projects::PlacementRow;
use crate::store::servers::Server;
use crate::store::{ProjectId, ServerId, ServerKind, Words};

/// The subfolder of the data folder with the demo's servers.
const DEMO: &str = "demo";

/// The folder of a project on a server.
#[derive(Clone, Debug)]
pub struct Placement {
    project: ProjectId,
    title: String,
    server: String,
    machine: Machine,
    folder: String,
    real: Option<String>,
}

/// A machine, as far as the platform can identify it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Machine {
    /// The machine of the platform.
    Here,
    /// A machine that the platform connects to directly.
    Direct { host: String, port: i32 },
    /// A machine behind a jump server, a proxy or a command. The same host name may mean another
    /// machine there.
    Behind { way: Way, host: String, port: i32 },
}

/// The jump server, proxy or command that leads to a machine.
type Way = (Option<ServerId>, Option<String>, Option<Words>);

impl Machine {
    fn of(server: &Server) -> Self {
        let (host, port) = (canonical_host(&server.host), server.port);
        let way = (
            server.jump_id,
            server.proxy.clone(),
            server.proxy_command.clone(),
        );
        match server.kind {
            ServerKind::Local => Self::Here,
            ServerKind::Ssh if way == Way::default() => Self::Direct { host, port },
            ServerKind::Ssh => Self::Behind { way, host, port },
        }
    }

    fn host(&self) -> Option<&str> {
        match self {
            Self::Direct { host, .. } => Some(host),
            Self::Here | Self::Behind { .. } => None,
        }
    }

    /// True if the two may turn out to be one machine once their names are resolved.
    fn may_be(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Direct { port, .. }, Self::Direct { port: other, .. }) => port == other,
            (Self::Here, Self::Direct { .. }) | (Self::Direct { .. }, Self::Here) => true,
            _ => false,
        }
    }

    fn is(&self, other: &Self, resolved: &Resolved) -> bool {
        match (self, other) {
            (Self::Here, Self::Direct { host, .. }) | (Self::Direct { host, .. }, Self::Here) => {
                resolved.is_here(host)
            }
            (
                Self::Direct { host, port },
                Self::Direct {
                    host: other,
                    port: other_port,
                },
            ) => port == other_port && (host == other || resolved.meet(host, other)),
            _ => self == other,
        }
    }
}

/// A host in canonical form: a name in lower case without a trailing dot; an address without
/// brackets, and an IPv4-mapped IPv6 address as IPv4.
fn canonical_host(host: &str) -> String {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().to_string(),
        Err(_) => bare.strip_suffix('.').unwrap_or(bare).to_lowercase(),
    }
}

/// The resolved hosts and folders.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    /// The addresses of each host.
    pub addresses: HashMap<String, Vec<IpAddr>>,
    /// The addresses among these that this machine itself has.
    pub own: Vec<IpAddr>,
    /// The real folder of each folder of this machine.
    pub folders: HashMap<String, String>,
}

impl Resolved {
    fn addresses(&self, host: &str) -> Vec<IpAddr> {
        match host.parse() {
            Ok(address) => vec![address],
            Err(_) => self.addresses.get(host).cloned().unwrap_or_default(),
        }
    }

    fn meet(&self, host: &str, other: &str) -> bool {
        let others = self.addresses(other);
        let mut addresses = self.addresses(host).into_iter();
        addresses.any(|address| others.contains(&address))
    }

    /// Names below `localhost` are loopback regardless of the resolver (RFC 6761 §6.3).
    fn is_here(&self, host: &str) -> bool {
        let is_local = host == "localhost" || host.ends_with(".localhost");
        let any = [
            IpAddr::from(Ipv4Addr::UNSPECIFIED),
            Ipv6Addr::UNSPECIFIED.into(),
        ];
        let is_ours = |address: &IpAddr| {
            address.is_loopback() || any.contains(address) || self.own.contains(address)
        };
        is_local || self.addresses(host).iter().any(is_ours)
    }
}

/// The owner of the other folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// Another project, with this title.
    Project(String),
    /// The same project on another server that is the same machine.
    Server,
    /// The platform: its data folder.
    Platform,
}

/// The relation of two folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// They are configured as one folder.
    Same,
    /// One contains the other, or links make them the same.
    Overlapping,
}

/// Two folders of which only one may be released to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash {
    /// The owner of the other folder.
    pub neighbour: Neighbour,
    /// Their relation.
    pub relation: Relation,
    /// The server of the other folder.
    pub server: String,
    /// The other folder.
    pub folder: String,
}

impl fmt::Display for Clash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, folder, .. } = self;
        match &self.neighbour {
            Neighbour::Project(title) => write!(
                formatter,
                "{title} has the folder {folder} on {server}: it and this project's folder there are one, or one \
                 lies inside the other"
            ),
            Neighbour::Server => write!(
                formatter,
                "{server} is the same machine as another server of this project: the folder {folder} there and the \
                 other one are one, or one lies inside the other"
            ),
            Neighbour::Platform => write!(
                formatter,
                "the platform keeps its own data in {folder} on {server}: at, above or below this project's folder"
            ),
        }
    }
}

impl Placement {
    /// The folder of a project at `path` on `server`; `real` is its resolved path, as far as it is
    /// known.
    pub fn new(
        (project, title): (ProjectId, &str),
        path: &str,
        server: &Server,
        real: Option<&str>,
    ) -> Self {
        Self {
            project,
            title: title.to_owned(),
            server: server.hostname.clone(),
            machine: Machine::of(server),
            folder: script::base(&server.root, path),
            real: real.map(str::to_owned),
        }
    }

    /// The configured and the resolved path of the folder.
    fn folders<'a>(&'a self, resolved: &'a Resolved) -> impl Iterator<Item = &'a str> + Clone {
        let here = match self.machine {
            Machine::Here => resolved.folders.get(&self.folder),
            _ => None,
        };
        let real = here.or(self.real.as_ref());
        [Some(&self.folder), real]
            .into_iter()
            .flatten()
            .map(String::as_str)
    }

    fn relation(&self, other: &Self, resolved: &Resolved) -> Option<Relation> {
        if self.folder == other.folder {
            return Some(Relation::Same);
        }
        let mut own = self.folders(resolved);
        let others = other.folders(resolved);
        own.any(|own| others.clone().any(|other| overlap(own, other)))
            .then_some(Relation::Overlapping)
    }

    fn clash_with(&self, other: &Self, resolved: &Resolved) -> Option<Clash> {
        let relation = self.relation(other, resolved)?;
        self.machine.is(&other.machine, resolved).then(|| Clash {
            neighbour: if self.project == other.project {
                Neighbour::Server
            } else {
                Neighbour::Project(other.title.clone())
            },
            relation,
            server: other.server.clone(),
            folder: other.folder.clone(),
        })
    }

    /// The clash with the platform's data folder, if there is one. Folders of the demo, whose
    /// servers are inside the data folder, are allowed.
    fn clash_with_data(&self, data: &Path, resolved: &Resolved) -> Option<Clash> {
        let demo = data.join(DEMO);
        let mut own = self.folders(resolved).map(Path::new);
        let is_taken = |folder: &Path| {
            data.starts_with(folder) || (folder.starts_with(data) && !folder.starts_with(&demo))
        };
        (self.machine == Machine::Here && own.any(is_taken)).then(|| Clash {
            neighbour: Neighbour::Platform,
            relation: Relation::Overlapping,
            server: self.server.clone(),
            folder: data.display().to_string(),
        })
    }
}

impl From<&PlacementRow> for Placement {
    fn from(row: &PlacementRow) -> Self {
        let real = row.real_path.as_deref();
        Self::new((row.project, &row.title), &row.path, &row.server, real)
    }
}

/// True if one folder is the other or inside it, compared by path components.
fn overlap(one: &str, other: &str) -> bool {
    let (one, other) = (Path::new(one), Path::new(other));
    one.starts_with(other) || other.starts_with(one)
}

/// The pairs of `new` among themselves and with `others`.
fn pairs<'a>(
    new: &'a [Placement],
    others: &'a [Placement],
) -> impl Iterator<Item = (&'a Placement, &'a Placement)> {
    let later = |index: usize| new.get(index + 1..).unwrap_or_default();
    new.iter()
        .enumerate()
        .flat_map(move |(index, own)| later(index).iter().chain(others).map(move |it| (own, it)))
}

/// The folders on this machine, whose links can be resolved directly.
pub(super) fn local_folders<'a>(
    placements: impl Iterator<Item = &'a Placement>,
) -> BTreeSet<String> {
    let here = placements.filter(|it| it.machine == Machine::Here);
    here.map(|it| it.folder.clone()).collect()
}

/// The hosts whose addresses decide if `new` clash.
pub(super) fn undecided_hosts(
    new: &[Placement],
    others: &[Placement],
    resolved: &Resolved,
) -> BTreeSet<String> {
    let undecided = pairs(new, others).filter(|(own, other)| {
        let (machine, others) = (&own.machine, &other.machine);
        machine.may_be(others)
            && !machine.is(others, resolved)
            && own.relation(other, resolved).is_some()
    });
    let hosts = undecided.flat_map(|(own, other)| [own.machine.host(), other.machine.host()]);
    hosts.flatten().map(str::to_owned).collect()
}

/// The clashes of `new` among themselves, with `others` and with the platform's `data` folder.
pub(super) fn clashes<'a>(
    new: &'a [Placement],
    others: &'a [Placement],
    resolved: &'a Resolved,
    data: &'a Path,
) -> impl Iterator<Item = Clash> + 'a {
    let with_data = new
        .iter()
        .filter_map(move |own| own.clash_with_data(data, resolved));
    let with_each_other =
        pairs(new, others).filter_map(move |(own, other)| own.clash_with(other, resolved));
    with_data.chain(with_each_other)
}

#[cfg(test)]
mod tests;
