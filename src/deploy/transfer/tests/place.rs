//! A platform and a server, each a folder of this machine.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::super::ladder::Offer;
use super::super::script::{look_only, take};
use super::super::*;
use crate::deploy::plan::tests::spec;
use crate::deploy::said::refusal::Refusal;
use crate::deploy::script::Keep;
use crate::store::ProjectId;
use crate::store::installation::Installation;
use crate::store::nodes::Sent;

/// A platform with a work tree, and a server's folder.
pub(super) struct Place {
    pub(super) folder: TempDir,
    pub(super) hard_links: bool,
    /// The script's `PATH`. `None`: the inherited one.
    pub(super) tools: Option<PathBuf>,
}

/// A file's mode and content, a folder's mode, or a link's target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    File(u32, Vec<u8>),
    Folder(u32),
    Link(PathBuf),
}

pub(super) type Tree = BTreeMap<PathBuf, Node>;

/// Files have the same time whenever they are built. With the clock's time, the set of files to send
/// would depend on a second that ends meanwhile.
pub(super) fn build(root: &Path, tree: &Tree) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let _ = fs::remove_dir_all(root);
    fs::create_dir(root).unwrap();
    for (path, node) in tree {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match node {
            Node::File(mode, content) => {
                let mut file = File::create(&path).unwrap();
                file.write_all(content).unwrap();
                file.set_modified(time).unwrap();
                fs::set_permissions(&path, Permissions::from_mode(*mode)).unwrap();
            }
            Node::Folder(_) => fs::create_dir_all(&path).unwrap(),
            Node::Link(target) => symlink(target, &path).unwrap(),
        }
    }
}

pub(super) fn read(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let mode = metadata.mode() & 0o7777;
            let node = if metadata.is_symlink() {
                Node::Link(fs::read_link(&path).unwrap())
            } else if metadata.is_dir() {
                folders.push(path.clone());
                Node::Folder(mode)
            } else {
                Node::File(mode, fs::read(&path).unwrap())
            };
            tree.insert(path.strip_prefix(root).unwrap().to_owned(), node);
        }
    }
    tree
}

pub(super) fn file(text: &str) -> Node {
    Node::File(0o644, text.as_bytes().to_vec())
}

pub(super) fn tree(nodes: &[(&str, Node)]) -> Tree {
    nodes
        .iter()
        .map(|(path, node)| (PathBuf::from(path), node.clone()))
        .collect()
}

/// The installation that owns the releases.
pub(super) fn owner() -> Owner {
    let installation = Installation {
        name: "0123456789abcdef".to_owned(),
        unmarked_through: ReleaseId(0),
    };
    Owner::of(&installation, ProjectId(1))
}

impl Place {
    pub(super) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            hard_links: false,
            tools: None,
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn base(&self) -> PathBuf {
        self.path("it's the server")
    }

    pub(super) fn release(&self, id: i64) -> PathBuf {
        self.base().join("releases").join(id.to_string())
    }

    pub(super) fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.base().join("releases"))
            .into_iter()
            .flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            // A copy of the earlier link `current`.
            .filter(|name| name != ".before")
            .collect();
        names.sort();
        names
    }

    pub(super) fn sh(&self, script: &str, input: &[u8]) -> Output {
        let mut command = Command::new("/bin/sh");
        if let Some(tools) = &self.tools {
            command.env("PATH", tools);
        }
        let mut child = command
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    pub(super) fn shipment(&self, id: i64) -> Shipment {
        let work = self.path("work");
        fs::create_dir_all(&work).unwrap();
        let mut spec = spec("", 2);
        if self.hard_links {
            spec.project.unchanged = Unchanged::Link;
        }
        let watch = Watch {
            going: &|_| Ok(()),
            left_out: &|_| {},
        };
        let source = Source::Folder(self.path("tree"));
        Shipment::prepare(
            ReleaseId(id),
            &spec,
            source,
            &self.path("manifests"),
            &work,
            owner(),
            &watch,
        )
        .unwrap()
    }

    /// Runs the negotiation with the script for one release. `change` may damage the input. Returns
    /// the number of files sent; `None` if the release was there.
    pub(super) fn send(
        &self,
        shipment: &Shipment,
        delta: bool,
        change: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Option<usize>, Output> {
        let base = self.base();
        let arrival = shipment.arrival(base.to_str().unwrap(), delta);
        let output = self.sh(&look_only(&arrival), b"");
        let told = String::from_utf8(output.stdout.clone()).unwrap();
        let Some(offer) = told.lines().find_map(Offer::read) else {
            return Err(output);
        };
        if offer == Offer::There {
            return Ok(None);
        }
        let mut answer = shipment.answer(&offer).unwrap();
        let mut input = answer.line.clone();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match answer.reader.take(&mut buffer, &mut || Ok(())).unwrap() {
                0 => break,
                count => input.extend_from_slice(&buffer[..count]),
            }
        }
        change(&mut input);
        let output = self.sh(&take(&arrival, true, None), &input);
        match output.status.success() {
            true => Ok(Some(answer.travels)),
            false => Err(output),
        }
    }

    /// Makes a release live, and then removes all but the newest `keep`.
    pub(super) fn go_live(&self, id: i64, keep: i32) {
        let base = self.base();
        let base = base.to_str().unwrap();
        let sent: Vec<Sent> = (1..=id)
            .rev()
            .map(|id| Sent {
                release: ReleaseId(id),
                is_whole: true,
            })
            .collect();
        let keep = Keep {
            count: keep,
            sent: &sent,
            owner: &owner(),
        };
        for script in [
            crate::deploy::script::switch(base, ReleaseId(id)),
            crate::deploy::script::prune(base, &keep),
        ] {
            let output = self.sh(&script, b"");
            assert!(output.status.success(), "{output:?}");
        }
    }

    /// Releases `tree` completely and verifies it.
    #[track_caller]
    pub(super) fn arrive(&self, id: i64, wanted: &Tree) -> Option<usize> {
        build(&self.path("tree"), wanted);
        let expected = read(&self.path("tree"));
        let travelled = self.send(&self.shipment(id), true, |_| {}).unwrap();
        assert_eq!(read(&self.release(id)), expected);
        travelled
    }
}

#[track_caller]
pub(super) fn refusal(output: &Output) -> Refusal {
    let said = String::from_utf8_lossy(&output.stderr);
    let refusal = said.lines().find_map(Refusal::read);
    refusal.unwrap_or_else(|| panic!("{output:?}"))
}
