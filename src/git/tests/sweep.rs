//! Mirrors that nothing is released from any more.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use super::super::{Mirror, MirrorOptions, Mirrors};
use super::fixture::{Repository, Served, fetch, policy};

const DAY: Duration = Duration::from_secs(86_400);
const MONTH: Duration = Duration::from_secs(30 * 86_400);

/// Mirrors of one repository that differ in their depth.
struct Several {
    served: Served,
    mirrors: Mirrors,
}

impl Several {
    fn new() -> Self {
        let served = Served::new(Repository::new());
        let options = MirrorOptions {
            policy: policy(),
            ..MirrorOptions::default()
        };
        let mirrors = Mirrors::new(served.folder.path().join("several"), options);
        Self { served, mirrors }
    }

    /// A mirror that was fetched `ago`.
    fn mirror(&self, depth: u32, ago: Duration) -> Mirror {
        let mut source = self.served.mirror.source.clone();
        source.depth = std::num::NonZeroU32::new(depth);
        let mirror = self.mirrors.mirror(source);
        fetch(&mirror).unwrap();
        let lock = File::options().append(true).open(mirror.lock_path());
        lock.unwrap().set_modified(SystemTime::now() - ago).unwrap();
        mirror
    }
}

fn is_there(mirror: &Mirror) -> bool {
    mirror.path().exists()
}

#[test]
fn only_what_nobody_has_and_nobody_used_for_long_goes() {
    let several = Several::new();
    let used = several.mirror(1, 2 * MONTH);
    let unused = several.mirror(2, 2 * MONTH);
    let recent = several.mirror(3, DAY);
    let fetching = several.mirror(4, 2 * MONTH);
    let held = File::open(fetching.lock_path()).unwrap();
    held.lock().unwrap();
    let root = several.mirrors.root().to_owned();
    // A killed sweep; a folder and a file that are not mirrors.
    fs::create_dir_all(root.join("0123.gone/mirror.git")).unwrap();
    fs::create_dir(root.join("lost+found")).unwrap();
    fs::write(root.join("note"), "x").unwrap();

    let sweep = || {
        several
            .mirrors
            .sweep(std::slice::from_ref(&used.source), MONTH)
    };
    assert_eq!(sweep().unwrap(), 1);
    assert!(is_there(&used) && is_there(&recent) && is_there(&fetching));
    assert!(!unused.lock_path().parent().unwrap().exists());
    assert!(!root.join("0123.gone").exists());
    assert!(root.join("lost+found").exists() && root.join("note").exists());

    // Not dropped: a process that another test starts at this moment keeps it open until its exec.
    held.unlock().unwrap();
    assert_eq!(sweep().unwrap(), 1);
    assert!(!is_there(&fetching));
    assert_eq!(sweep().unwrap(), 0);
    // A swept mirror is only fetched again, and a fetch counts as use.
    fetch(&unused).unwrap();
    fetch(&used).unwrap();
    assert_eq!(several.mirrors.sweep(&[], MONTH).unwrap(), 0);
    assert!(is_there(&unused) && is_there(&used));
}

#[test]
fn a_fetch_that_waits_for_a_sweep_makes_its_folder_anew() {
    let several = Several::new();
    let mirror = several.mirror(1, 2 * MONTH);
    let folder = mirror.lock_path().parent().unwrap().to_owned();
    let held = File::open(mirror.lock_path()).unwrap();
    held.lock().unwrap();
    let (waits, waiting) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let fetching = scope.spawn(|| {
            mirror.fetch(&mut |_| {
                let _ = waits.send(());
                ControlFlow::Continue(())
            })
        });
        waiting.recv().unwrap();
        fs::rename(&folder, folder.with_extension("gone")).unwrap();
        drop(held);
        fetching.join().unwrap().unwrap();
    });
    assert!(is_there(&mirror));
    assert_eq!(several.mirrors.sweep(&[], MONTH).unwrap(), 0);
    assert!(is_there(&mirror) && !folder.with_extension("gone").exists());
}

#[test]
fn nothing_was_fetched_yet() {
    let folder = tempfile::tempdir().unwrap();
    let mirrors = Mirrors::new(folder.path().join("none"), MirrorOptions::default());
    assert_eq!(mirrors.sweep(&[], MONTH).unwrap(), 0);
}
