//! Resolves the addresses of hosts and the real folders of this machine, which placements are
//! compared by.

use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::error::DeployError;
use super::placement::{self, Clash, Placement, Relation, Resolved};
use crate::ssh;

/// The longest wait for the resolver, for all hosts together. A host that is not resolved in time
/// is compared by name only.
const LOOK_UP: Duration = Duration::from_secs(3);

impl Engine {
    /// Resolves the hosts and folders needed to compare `new` placements with `others`.
    ///
    /// # Errors
    /// [`DeployError::Busy`] if too many lookups are running.
    pub async fn resolve(
        &self,
        new: Vec<Placement>,
        others: Vec<Placement>,
    ) -> Result<Resolved, DeployError> {
        let look = move || look_up(&new, &others);
        Ok(self.options().pools.names.run(look).await?)
    }

    /// The first clash of the `new` placements that must not be saved. Two projects with the same
    /// configured folder may be saved; their releases are refused.
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

/// The folder with the links in its existing part resolved; `None` if it cannot be resolved.
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
