//! The transfer ladder: a release's way to the servers, for each the shortest that it can go.
//!
//! A [`Shipment`] is made once a release. For each server it looks what is there and sends nothing (it
//! is there), what changed since the release that is there, or everything: one compressed stream,
//! packed once for all servers that need the same, into one run of one script that unpacks, takes over
//! what did not change, verifies and renames.
//!
//! | file | what it is |
//! |---|---|
//! | `manifest`, `delta`, `cksum` | pure: what a release consists of; what has to travel; a checksum of both |
//! | `source` | where the files come from: the mirror or the work tree |
//! | `pack`, `stream` | the compressed tar, and one producer's bytes for many servers |
//! | `records` | the manifests of earlier releases |
//! | `script`, `ladder` | the server's script (its look, and `script::make`), and the talk with it |
//! | `sftp` | file by file, where the server has no tar or no shell |

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

/// What came to a server, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It was there.
    Nothing,
    /// What changed since another release.
    Delta {
        /// Bytes over the line.
        bytes: u64,
        /// How many files travelled.
        files: usize,
        from: ReleaseId,
    },
    /// Every file.
    Everything {
        /// Bytes over the line.
        bytes: u64,
    },
    /// Every file, one by one.
    Singly {
        /// The files' sizes together.
        bytes: u64,
    },
}

/// A release on its way to its servers.
pub(super) struct Shipment {
    release: ReleaseId,
    manifest: Arc<Manifest>,
    /// The checksum of all files' records.
    sums: String,
    shape: String,
    modeless: String,
    /// Whose releases may be used and removed on the servers.
    owner: Owner,
    /// Whether every tool prints the files' names as they are.
    plain_names: bool,
    hard_links: bool,
    /// Whether later steps run commands on the servers.
    needs_shell: bool,
    records: Records,
    known: Mutex<HashMap<ReleaseId, Option<Arc<Known>>>>,
    terms: Mutex<HashMap<TermsKey, Arc<Terms>>>,
    packs: Packs,
}

impl Shipment {
    /// Lists and checksums `source`, and keeps that list below `manifests`. `work` is a folder for
    /// what several servers get.
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

    /// How many files and links it has.
    pub(super) fn files(&self) -> u64 {
        self.manifest.files()
    }

    /// The files' sizes together, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.manifest.bytes()
    }

    /// What is known of an earlier release; read once for all servers.
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
