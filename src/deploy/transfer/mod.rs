//! Transfer of a release to its servers, for each by the cheapest method that it supports.
//!
//! A [`Shipment`] is made once per release. It asks each server for the releases it has and sends
//! nothing (the release is there), the changes since a release that is there, or everything: one
//! compressed stream, packed once for all servers with the same needs, into one run of one script that
//! unpacks, takes over unchanged files, verifies and renames.
//!
//! | file | content |
//! |---|---|
//! | `manifest`, `delta`, `cksum` | pure: the paths of a release; the difference to another one; a checksum of both |
//! | `source` | the files' origin: the mirror or the work tree |
//! | `pack`, `stream` | the compressed tar; one producer's bytes for many servers |
//! | `records` | the manifests of earlier releases |
//! | `script`, `ladder` | the server's script (its report, and `script::make`); the negotiation with it |
//! | `sftp` | transfer file by file, to a server without tar or without a shell |

mod cksum;
mod delta;
mod ladder;
mod manifest;
mod pack;
mod records;
mod script;
mod sftp;
mod source;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use delta::{Print, Printed};
use ladder::{Known, Terms, TermsKey};
use manifest::{Manifest, What};
use pack::Packs;
use records::Records;
pub(super) use source::{Source, Watch};

use super::error::StepError;
use super::plan::Spec;
use super::script::folders::Owner;
use crate::store::{ReleaseId, Unchanged};

/// The result of a transfer to one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// The release was already there.
    Nothing,
    /// The changes since release `from`.
    Delta {
        /// Bytes sent.
        bytes: u64,
        /// The number of files sent.
        files: usize,
        from: ReleaseId,
    },
    /// All files.
    Everything {
        /// Bytes sent.
        bytes: u64,
    },
    /// All files, one by one.
    Singly {
        /// The total size of the files, in bytes.
        bytes: u64,
    },
}

/// A release with everything that its transfer needs.
pub(super) struct Shipment {
    release: ReleaseId,
    manifest: Arc<Manifest>,
    /// The checksum of the records of all files.
    sums: String,
    shape: String,
    modeless: String,
    /// The mark of releases that may be used and removed on the servers.
    owner: Owner,
    /// True if every tool prints the files' names unescaped.
    plain_names: bool,
    hard_links: bool,
    /// True if later steps run commands on the servers.
    needs_shell: bool,
    records: Records,
    known: Mutex<HashMap<ReleaseId, Option<Arc<Known>>>>,
    terms: Mutex<HashMap<TermsKey, Arc<Terms>>>,
    packs: Packs,
}

impl Shipment {
    /// Lists and checksums `source`, and stores the list below `manifests`. `work` is a folder for
    /// packs that several servers get.
    pub(super) fn prepare(
        release: ReleaseId,
        spec: &Spec,
        source: Source,
        manifests: &Path,
        work: &Path,
        owner: Owner,
        watch: &Watch<'_>,
    ) -> Result<Self, StepError> {
        let records = Records::of(manifests, spec.project.id);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs().cast_signed());
        let manifest = Arc::new(source.manifest(records.newest().as_deref(), now, watch)?);
        let keep = usize::try_from(spec.project.keep).unwrap_or_default();
        records.save(release, &manifest, keep)?;
        let folder = (spec.servers.len() > 1).then(|| work.to_owned());
        Ok(Self {
            release,
            sums: Printed::sum(Print::Zero, &manifest.records()),
            shape: manifest.shape(true),
            modeless: manifest.shape(false),
            owner,
            plain_names: has_plain_names(&manifest),
            needs_shell: spec.needs_shell(),
            hard_links: spec.project.unchanged == Unchanged::Link,
            records,
            known: Mutex::default(),
            terms: Mutex::default(),
            packs: Packs::new(release, source, Arc::clone(&manifest), folder),
            manifest,
        })
    }

    /// The number of files and links.
    pub(super) fn files(&self) -> u64 {
        self.manifest.files()
    }

    /// The total size of the files, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.manifest.bytes()
    }

    /// The manifest of an earlier release, read once for all servers.
    fn known(&self, release: ReleaseId) -> Option<Arc<Known>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let read = || {
            let manifest = self.records.find(release)?;
            let sums = Printed::sum(Print::Zero, &manifest.records());
            Some(Arc::new(Known { manifest, sums }))
        };
        known.entry(release).or_insert_with(read).clone()
    }
}

fn has_plain_names(manifest: &Manifest) -> bool {
    let is_plain = |path: &[u8]| {
        path.iter()
            .all(|byte| *byte >= b' ' && *byte != b'\\' && *byte != 0x7f)
    };
    let files = manifest
        .entries()
        .iter()
        .filter(|entry| matches!(entry.what, What::File { .. }));
    files.into_iter().all(|entry| is_plain(&entry.path))
}
