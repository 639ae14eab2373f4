//! Looks up what placements are compared by: the addresses of hosts and the real folders of this machine.

use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::error::DeployError;
use super::placement::{self, Clash, Placement, Relation, Resolved};
use crate::ssh;

/// The longest wait for the resolver, for all hosts together. A host that it does not know in time is
/// compared by its name alone.
const LOOK_UP: Duration = Duration::from_secs(3);

impl Engine {
    /// Looks up what must be known before `new` placements are compared with `others`.
    ///
    /// # Errors
    /// [`DeployError::Busy`] where too many names are looked up.
    pub async fn resolve(
        &self,
        new: Vec<Placement>,
        others: Vec<Placement>,
    ) -> Result<Resolved, DeployError> {
        let look = move || look_up(&new, &others);
        Ok(self.options().pools.names.run(look).await?)
    }

    /// The first of the `new` placements' clashes that must not be saved. One folder under one name may
    /// be: its releases are refused.
    pub fn overlap(
        &self,
        new: &[Placement],
        others: &[Placement],
        resolved: &Resolved,
    ) -> Option<Clash> {
        placement::clashes(new, others, resolved, &self.options().data)
            .find(|clash| clash.relation != Relation::Same)
    }
}

/// Waits for the resolver.
pub(super) fn look_up(new: &[Placement], others: &[Placement]) -> Resolved {
    let mut resolved = Resolved::default();
    for folder in placement::local_folders(new.iter().chain(others)) {
        if let Some(real) = real_folder(Path::new(&folder)) {
            resolved.folders.insert(folder, real);
        }
    }
    let until = Instant::now() + LOOK_UP;
    for host in placement::undecided_hosts(new, others, &resolved) {
        let left = until.saturating_duration_since(Instant::now());
        let addresses = ssh::addresses(&host, left).unwrap_or_else(|cause| {
            tracing::info!(host, %cause, "compared by its name alone");
            Vec::new()
        });
        let own = addresses.iter().copied().filter(|&it| is_own(it));
        resolved.own.extend(own);
        resolved.addresses.insert(host, addresses);
    }
    resolved
}

/// True if this machine has the address: only then can a socket be bound to it.
fn is_own(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// The folder with every link in what is there of it followed; none where it cannot be seen.
fn real_folder(folder: &Path) -> Option<String> {
    folder.ancestors().find_map(|at| {
        let real = at.canonicalize().ok()?;
        let rest = folder.strip_prefix(at).ok()?;
        let whole: PathBuf = real.components().chain(rest.components()).collect();
        whole.to_str().map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_followed_as_far_as_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("data")).unwrap();
        std::os::unix::fs::symlink("data", root.join("link")).unwrap();
        let real = |path: &str| real_folder(&root.join(path)).unwrap();
        let expected = |path: &str| root.join(path).display().to_string();
        assert_eq!(real("link/new/deep"), expected("data/new/deep"));
        assert_eq!(real("data"), expected("data"));
        assert_eq!(real("none/at/all"), expected("none/at/all"));
    }

    #[test]
    fn this_machines_addresses_are_its_own() {
        assert!(is_own([127, 0, 0, 1].into()));
        assert!(!is_own([192, 0, 2, 1].into()));
    }
}
