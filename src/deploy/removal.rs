//! Removal of the platform's own folders, even if a build left unreadable ones in them.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, StatxFlags, chmodat, openat, statx, unlinkat,
};
use rustix::io::Errno;

/// The permission bits that a folder's owner needs to list and change it.
const OPEN: u32 = 0o700;

/// Removes a folder with its content, or another entry at `path`. Symlinks are not followed, even if
/// one is put in place meanwhile. Folders without write permission for their owner get it first.
/// Mounted file systems in the folder stay as they are.
///
/// # Errors
/// The first fault, after everything else is removed. A missing `path` is no error.
pub(super) fn remove_all(path: &Path) -> io::Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    match remove(CWD, &name, None) {
        Err(Errno::NOENT) => Ok(()),
        removed => Ok(removed?),
    }
}

/// Removes `name` of the folder `above` if it lies on `mount`. `None`: on any mount.
fn remove(above: BorrowedFd<'_>, name: &CStr, mount: Option<Mount>) -> Result<(), Errno> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    let about = statx(above, name, AtFlags::SYMLINK_NOFOLLOW, wanted)?;
    let here = Mount {
        device: (about.stx_dev_major, about.stx_dev_minor),
        id: about.stx_mnt_id,
    };
    if mount.is_some_and(|mount| mount != here) {
        return Err(Errno::BUSY);
    }
    if FileType::from_raw_mode(about.stx_mode.into()) != FileType::Directory {
        return unlinkat(above, name, AtFlags::empty());
    }
    let mode = u32::from(about.stx_mode) & 0o7777;
    if mode & OPEN != OPEN {
        // If this fails, the next call fails and reports it.
        let _ = chmodat(
            above,
            name,
            Mode::from_raw_mode(mode | OPEN),
            AtFlags::empty(),
        );
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = openat(above, name, flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&folder)? {
        let name = entry?.file_name().to_owned();
        if name.as_c_str() != c"." && name.as_c_str() != c".." {
            names.push(name);
        }
    }
    let mut first = Ok(());
    for name in names {
        match remove(folder.as_fd(), &name, Some(here)) {
            // Removed by somebody else meanwhile.
            Err(Errno::NOENT) => {}
            removed => first = first.and(removed),
        }
    }
    first?;
    unlinkat(above, name, AtFlags::REMOVEDIR)
}

/// A mount of a file system. Before Linux 5.8 the id is 0 for all.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mount {
    device: (u32, u32),
    id: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::process::Command;

    #[test]
    fn closed_folders_go_and_what_a_link_leads_to_stays() {
        let place = tempfile::tempdir().unwrap();
        let tree = place.path().join("tree");
        fs::create_dir_all(tree.join("mod/a")).unwrap();
        fs::write(tree.join("mod/a/f"), "1").unwrap();
        fs::write(place.path().join("kept"), "1").unwrap();
        symlink(place.path(), tree.join("mod/out")).unwrap();
        for (closed, mode) in [("mod/a", 0), ("mod", 0o555)] {
            fs::set_permissions(tree.join(closed), Permissions::from_mode(mode)).unwrap();
        }
        remove_all(&tree).unwrap();
        assert!(!tree.exists() && place.path().join("kept").exists());
        remove_all(&tree).unwrap();
    }

    /// Only root can mount, and not in every container.
    #[test]
    fn what_is_mounted_in_it_stays() {
        let place = tempfile::tempdir().unwrap();
        let (tree, data) = (place.path().join("tree"), place.path().join("data"));
        fs::create_dir_all(tree.join("volume")).unwrap();
        fs::create_dir(&data).unwrap();
        fs::write(data.join("kept"), "1").unwrap();
        fs::write(tree.join("page"), "1").unwrap();
        let run = |program: &str, words: &[&std::ffi::OsStr]| {
            Command::new(program)
                .args(words)
                .status()
                .unwrap()
                .success()
        };
        let volume = tree.join("volume");
        if !run(
            "mount",
            &["--bind".as_ref(), data.as_ref(), volume.as_ref()],
        ) {
            eprintln!("not tested: nothing can be mounted here");
            return;
        }
        let refused = remove_all(&tree);
        let left = (tree.join("page").exists(), data.join("kept").exists());
        assert!(run("umount", &[volume.as_ref()]));
        assert!(refused.is_err());
        assert_eq!(left, (false, true));
        remove_all(&tree).unwrap();
    }
}
