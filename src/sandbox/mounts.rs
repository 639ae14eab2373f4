//! The file system of a sandbox: the system's own folders read-only, and the command's folders.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive,
    mount_change, mount_remount, unmount,
};
use rustix::process::{chroot, pivot_root};

use super::stage::told;
use super::{CACHE, Order, TREE};

/// The part of the machine that a sandbox shows: programs, libraries, their configuration and data.
/// Homes, `/run` with the sockets of services, `/srv` and the administrator's own folders are not
/// shown.
pub(super) const SYSTEM: [&str; 14] = [
    "bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "opt", "var", "nix", "gnu",
    "snap", "sys",
];
/// The devices that programs need.
pub(super) const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Parts of `/proc` through which root could change the machine.
const KERNEL: [&str; 4] = ["sys", "sysrq-trigger", "irq", "bus"];
/// The machine's root while the new one is built.
const OLD: &str = "/old";
/// The new root while it is built.
const NEW: &str = "/new";

/// Builds the file system and makes it the root of the process.
pub(super) fn build(order: &Order) -> io::Result<()> {
    step_aside()?;
    for top in SYSTEM {
        show_system(top)?;
    }
    folder("/proc", 0o555)?;
    let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/new/proc", "proc", plain, None).map_err(told("/proc"))?;
    seal()?;
    for name in KERNEL {
        // Not every kernel has all of them.
        let path = format!("/new/proc/{name}");
        let _ = bind(Path::new(&path), Path::new(&path), MountFlags::RDONLY);
    }
    devices()?;
    for (name, mode) in [("/run", 0o755), ("/home", 0o755), ("/root", 0o755)] {
        folder(name, mode)?;
    }
    for path in &order.hidden {
        hide(path)?;
    }
    // Mounted before the shown paths, which may be below.
    own(&order.temporary, "/tmp")?;
    own(&order.temporary, "/var/tmp")?;
    for path in &order.readable {
        show(path, MountFlags::RDONLY)?;
    }
    for path in &order.writable {
        show(path, MountFlags::empty())?;
    }
    own(&order.tree, TREE)?;
    own(&order.cache, CACHE)?;
    enter()
}

/// Makes an empty file system the root, with the machine's below it at [`OLD`].
fn step_aside() -> io::Result<()> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    match mount_change("/", private) {
        // mount(2): not a mount point.
        Err(Errno::INVAL) => return step_aside_in_a_chroot(),
        changed => changed.map_err(told("mount propagation"))?,
    }
    tmpfs("/tmp", MountFlags::NOSUID | MountFlags::NODEV)?;
    fs::create_dir("/tmp/old")?;
    fs::create_dir("/tmp/new")?;
    mount_bind("/tmp/new", "/tmp/new").map_err(told("bind"))?;
    pivot_root("/tmp", "/tmp/old").map_err(told("pivot_root"))?;
    std::env::set_current_dir("/")
}

/// [`step_aside`] for a root that is a folder of a file system. Such a root cannot be moved, and mounts
/// in it may be seen outside; `/proc` is a mount of its own, which can be made private.
fn step_aside_in_a_chroot() -> io::Result<()> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/proc", private).map_err(told("mount propagation"))?;
    tmpfs("/proc", MountFlags::NOSUID | MountFlags::NODEV)?;
    fs::create_dir("/proc/old")?;
    fs::create_dir("/proc/new")?;
    mount_bind_recursive("/", "/proc/old").map_err(told("the machine's root"))?;
    mount_change("/proc/old", private).map_err(told("mount propagation"))?;
    mount_bind("/proc/new", "/proc/new").map_err(told("bind"))?;
    chroot("/proc").map_err(told("chroot"))?;
    std::env::set_current_dir("/")
}

/// Makes [`NEW`] the root and detaches everything else.
fn enter() -> io::Result<()> {
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    mount_remount(NEW, flags, "").map_err(told("the root"))?;
    unmount(OLD, UnmountFlags::DETACH).map_err(told("the machine's root"))?;
    std::env::set_current_dir(NEW)?;
    pivot_root(".", ".").map_err(told("pivot_root"))?;
    unmount(".", UnmountFlags::DETACH).map_err(told("the old root"))?;
    std::env::set_current_dir("/")
}

fn tmpfs(at: impl AsRef<Path>, flags: MountFlags) -> io::Result<()> {
    let at = at.as_ref();
    mount("tmpfs", at, "tmpfs", flags, Some(c"mode=0755")).map_err(told(at.display()))
}

/// `path`, which is absolute, below `root`.
fn below(root: &str, path: &Path) -> PathBuf {
    Path::new(root).join(path.strip_prefix("/").unwrap_or(path))
}

fn folder(name: &str, mode: u32) -> io::Result<()> {
    let path = below(NEW, Path::new(name));
    fs::create_dir_all(&path).map_err(told(name))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(told(name))
}

/// Shows a system folder with everything mounted in it, or copies it if it is a symlink.
fn show_system(top: &str) -> io::Result<()> {
    let (from, to) = (Path::new(OLD).join(top), Path::new(NEW).join(top));
    let Ok(found) = from.symlink_metadata() else {
        return Ok(());
    };
    if found.is_symlink() {
        return symlink(fs::read_link(&from)?, &to);
    }
    if found.is_dir() {
        fs::create_dir(&to)?;
        mount_bind_recursive(&from, &to).map_err(told(top))?;
    }
    Ok(())
}

/// Makes everything mounted below the system folders read-only. A mount inside them that the kernel
/// does not release (of another file system) keeps its own permissions.
fn seal() -> io::Result<()> {
    let text = fs::read_to_string("/new/proc/self/mountinfo").map_err(told("mountinfo"))?;
    for line in text.lines() {
        let mut fields = line.split(' ').skip(4);
        let (Some(point), Some(options)) = (fields.next(), fields.next()) else {
            continue;
        };
        let Some(name) = point.strip_prefix("/new/") else {
            continue;
        };
        if name.is_empty() || name == "proc" {
            continue;
        }
        let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | kept(options);
        let sealed = mount_remount(unescaped(point), flags, "");
        if SYSTEM.contains(&name) {
            sealed.map_err(told(point))?;
        }
    }
    Ok(())
}

/// The options that the kernel does not let a user namespace remove.
fn kept(options: &str) -> MountFlags {
    let flag = |option: &str| match option {
        "nodev" => MountFlags::NODEV,
        "noexec" => MountFlags::NOEXEC,
        "noatime" => MountFlags::NOATIME,
        "nodiratime" => MountFlags::NODIRATIME,
        "relatime" => MountFlags::RELATIME,
        _ => MountFlags::empty(),
    };
    options.split(',').map(flag).collect()
}

/// A mount point as the kernel writes it: blanks and backslashes in octal.
fn unescaped(point: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(point.to_owned(), |text, (code, plain)| {
        text.replace(code, plain)
    })
}

fn devices() -> io::Result<()> {
    folder("/dev", 0o755)?;
    tmpfs("/new/dev", MountFlags::NOSUID)?;
    for name in DEVICES {
        let (from, to) = (format!("/old/dev/{name}"), format!("/new/dev/{name}"));
        fs::write(&to, "")?;
        mount_bind(from.as_str(), to.as_str()).map_err(told(name))?;
    }
    let links = [
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
        ("pts/ptmx", "ptmx"),
    ];
    for (target, name) in links {
        symlink(target, Path::new("/new/dev").join(name))?;
    }
    folder("/dev/pts", 0o755)?;
    let options = Some(c"newinstance,ptmxmode=0666,mode=620");
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("devpts", "/new/dev/pts", "devpts", flags, options).map_err(told("/dev/pts"))?;
    folder("/dev/shm", 0o1777)
}

/// Covers the contents of `path`, if they are visible at all.
fn hide(path: &Path) -> io::Result<()> {
    let covered = below(NEW, path);
    match covered.symlink_metadata() {
        Ok(found) if found.is_dir() => {
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::RDONLY;
            tmpfs(&covered, flags)
        }
        Ok(_) => mount_bind("/old/dev/null", &covered).map_err(told(path.display())),
        Err(_) => Ok(()),
    }
}

/// Shows `path` of the machine at the same path, if it exists.
fn show(path: &Path, flags: MountFlags) -> io::Result<()> {
    let (from, to) = (below(OLD, path), below(NEW, path));
    let Ok(found) = from.metadata() else {
        return Ok(());
    };
    place(&to, found.is_dir()).map_err(told(path.display()))?;
    bind(&from, &to, flags)
}

/// Creates a mount point, if there is none.
fn place(to: &Path, is_folder: bool) -> io::Result<()> {
    if to.exists() {
        return Ok(());
    }
    let mut folders = fs::DirBuilder::new();
    folders.recursive(true).mode(0o755);
    if is_folder {
        return folders.create(to);
    }
    to.parent()
        .map_or(Ok(()), |parent| folders.create(parent))?;
    fs::write(to, "")
}

/// Gives the command a writable folder of its own.
fn own(from: &Path, to: &str) -> io::Result<()> {
    let to = below(NEW, Path::new(to));
    place(&to, true).map_err(told(to.display()))?;
    bind(&below(OLD, from), &to, MountFlags::empty())
}

fn bind(from: &Path, to: &Path, flags: MountFlags) -> io::Result<()> {
    mount_bind_recursive(from, to).map_err(told(from.display()))?;
    let options = mount_options(to)?;
    let flags = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV | flags | kept(&options);
    mount_remount(to, flags, "").map_err(told(to.display()))
}

/// The options of the last mount at `at`.
fn mount_options(at: &Path) -> io::Result<String> {
    let text = fs::read_to_string("/new/proc/self/mountinfo").map_err(told("mountinfo"))?;
    let options = text.lines().rev().find_map(|line| {
        let mut fields = line.split(' ').skip(4);
        let point = unescaped(fields.next()?);
        (Path::new(&point) == at).then(|| fields.next().unwrap_or_default().to_owned())
    });
    Ok(options.unwrap_or_default())
}
