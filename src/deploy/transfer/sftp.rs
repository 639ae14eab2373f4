//! The last transfer method: to a server without `tar`, or without a shell, files are sent one by one
//! by SFTP.
//!
//! With a shell, the script checks and renames them as after any other transfer. Without one,
//! everything is done by SFTP, and the files are read back for their checksums.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::delta::{Print, Printed};
use super::ladder::{Offer, one_by_one};
use super::manifest::{Entry, Sum, What};
use super::script::{self, Arrival};
use super::{Sent, Shipment};
use crate::deploy::destination::Destination;
use crate::deploy::error::StepError;
use crate::deploy::files_alone::Folder;
use crate::deploy::run::{StepFrame, bytes};
use crate::deploy::said::refusal::{
    DAMAGED, FOREIGN_RELEASE, NO_COMMANDS, NOT_A_LINK, NOT_REPLACED, Refusal, TOOL_MISSING,
};
use crate::ssh::{Cause, Files, Kind, NewRemoteFile};
use crate::store::ReleaseId;

/// The setgid bit, which new folders inherit from their parent, together with its group.
const SETGID: u32 = 0o2000;

/// The result of comparing a tree with the manifest.
#[derive(Debug, PartialEq, Eq)]
enum Compared {
    Same,
    /// Only the modes differ.
    OtherModes,
    /// The path differs.
    Different(PathBuf),
}

impl Shipment {
    /// Sends all files into the part folder that the server's script has made, and lets the script do
    /// the rest.
    pub(super) fn fill_by_sftp(
        &self,
        destination: &Destination,
        arrival: &Arrival<'_>,
        part_name: &str,
        offer: &Offer,
        frame: &StepFrame<'_>,
    ) -> Result<Sent, StepError> {
        let part = Path::new(arrival.base).join("releases").join(part_name);
        let ours = part.join(self.release.to_string());
        let records = self.manifest.records();
        let (print, sum) = match offer.checksum_tool() {
            Some("zero") => ("zero", "-".to_owned()),
            Some(tool) if self.plain_names => (tool, Printed::sum(Print::Line, &records)),
            Some(tool) => (one_by_one(tool), Printed::sum(Print::Nameless, &records)),
            None => ("none", "-".to_owned()),
        };
        let sent = {
            let singly = Singly::open(self, destination, frame)?;
            singly.or_remove(&part, || {
                let added = &mut Printed::new(Print::Zero, &records);
                singly.write(&part.join("lists/dropped"), &mut io::empty())?;
                singly.write(&part.join(format!(".{}/sums", self.release)), added)?;
                let sent = singly.bring(&ours)?;
                if print == "none" {
                    singly.verify(&ours)?;
                }
                Ok(sent)
            })?
        };
        let script = script::finish(arrival, part_name, print == "zero", print, &sum);
        frame.run(destination, &script, None, &mut |line| frame.line(line))?;
        Ok(Sent::Singly { bytes: sent })
    }

    /// Sends all files, by SFTP only.
    pub(super) fn send_by_sftp(
        &self,
        destination: &Destination,
        base: &str,
        frame: &StepFrame<'_>,
    ) -> Result<Sent, StepError> {
        if self.needs_shell {
            return Err(Refusal::of(NO_COMMANDS, &[]).into());
        }
        let singly = Singly::open(self, destination, frame)?;
        let files = &singly.files;
        let current = Path::new(base).join("current");
        let releases = Folder {
            files,
            path: Path::new(base).join("releases"),
            owner: &self.owner,
        };
        let name = self.release.to_string();
        let ours = releases.path.join(&name);
        match files.look(&current)? {
            Some(found) if found.kind != Kind::Link => {
                return Err(Refusal::of(NOT_A_LINK, &[&current.to_string_lossy()]).into());
            }
            _ => {}
        }
        let is_there = files.look(&ours)?.is_some();
        if is_there && releases.owns(self.release)? && singly.compare(&ours)? == Compared::Same {
            return Ok(Sent::Nothing);
        }
        if is_there && files.real(&current).ok() == Some(files.real(&ours)?) {
            let current = current.to_string_lossy();
            return Err(Refusal::of(FOREIGN_RELEASE, &[&current, &name]).into());
        }
        files.make_folders(&releases.path)?;
        for stays in releases.drop_parts()?.into_iter().chain(releases.sweep()?) {
            frame.line(&stays.to_string());
        }
        let part = releases.free_part(self.release)?;
        let (tree, record) = (part.join(&name), part.join(format!(".{name}")));
        let sent = singly.or_remove(&part, || {
            for folder in [&part, &record, &tree] {
                files.make_folder(folder)?;
            }
            let owner = &mut self.owner.line();
            singly.write(&record.join("owner"), &mut owner.as_bytes())?;
            let sent = singly.bring(&tree)?;
            singly.verify(&tree)?;
            Ok(sent)
        })?;
        singly.make_room(&releases, self.release, is_there)?;
        files.rename(&record, &releases.path.join(format!(".{name}")))?;
        files.rename(&tree, &ours)?;
        if let Err(left) = files.remove_all(&part) {
            frame.line(&left.to_string());
        }
        Ok(Sent::Singly { bytes: sent })
    }
}

/// The transfer of single files to one server.
struct Singly<'a> {
    shipment: &'a Shipment,
    files: Files<'a>,
    frame: &'a StepFrame<'a>,
}

impl<'a> Singly<'a> {
    fn open(
        shipment: &'a Shipment,
        destination: &'a Destination,
        frame: &'a StepFrame<'a>,
    ) -> Result<Self, StepError> {
        let Destination::Ssh(connection) = destination else {
            return Err(Refusal::of(TOOL_MISSING, &["tar"]).into());
        };
        Ok(Self {
            shipment,
            files: connection.files(frame.cancel())?,
            frame,
        })
    }

    /// Removes the part folder if `work` fails: one that filled the disk would keep it full. After a
    /// stop or a lost connection the next release removes it.
    fn or_remove<T>(
        &self,
        part: &Path,
        work: impl FnOnce() -> Result<T, StepError>,
    ) -> Result<T, StepError> {
        work().map_err(|error| {
            let error = self.frame.check().err().unwrap_or(error);
            let is_lost = matches!(&error, StepError::Ssh(error)
                if matches!(error.cause, Cause::ConnectionLost { .. } | Cause::TimedOut { .. }));
            if !is_lost && let Err(left) = self.files.remove_all(part) {
                self.frame.line(&left.to_string());
            }
            error
        })
    }

    /// Renames an entry with the release's name out of the way. One of another owner stays beside the
    /// release.
    fn make_room(
        &self,
        releases: &Folder<'_>,
        release: ReleaseId,
        is_there: bool,
    ) -> Result<(), StepError> {
        let name = release.to_string();
        let mut stays = None;
        if is_there && releases.owns(release)? {
            stays = releases.discard(&name)?;
        } else if is_there {
            let aside = releases.aside(&format!("{name}.aside-"))?;
            self.files.rename(&releases.path.join(&name), &aside)?;
            self.frame
                .line(&format!("moved aside: {}", aside.display()));
        }
        match stays.or(releases.discard(&format!(".{name}"))?) {
            None => Ok(()),
            Some(stays) => {
                self.frame.line(&stays.to_string());
                let place = releases.path.join(&stays.name);
                Err(Refusal::of(NOT_REPLACED, &[&place.to_string_lossy()]).into())
            }
        }
    }

    /// Writes every folder, link and file below the existing `tree`. Returns the total size of the
    /// files, in bytes.
    fn bring(&self, tree: &Path) -> Result<u64, StepError> {
        let (entries, all) = (self.shipment.manifest.entries(), self.shipment.bytes());
        let inherited = self.files.follow(tree)?.mode & SETGID;
        let opened = self
            .shipment
            .packs
            .source()
            .open()
            .map_err(StepError::Start)?;
        let mut sent = 0;
        for Entry { path, what } in entries {
            self.frame.check()?;
            let place = tree.join(OsStr::from_bytes(path));
            match what {
                What::Folder { .. } => self.files.make_folder(&place)?,
                What::Link { target } => self
                    .files
                    .make_link(&place, Path::new(OsStr::from_bytes(target)))?,
                What::File {
                    mode,
                    size,
                    time,
                    blob,
                    ..
                } => {
                    let file = NewRemoteFile {
                        mode: *mode,
                        changed: u64::try_from(*time).ok(),
                        synced: false,
                    };
                    let mut written = Ok(0);
                    let read = opened.read(path, *blob, *size, &mut |content| {
                        let frame = self.frame;
                        let mut content = Watched { content, frame };
                        let mut further = |count| {
                            let so_far = sent + count;
                            frame.progress(|| format!("{} / {}", bytes(so_far), bytes(all)));
                        };
                        written =
                            self.files
                                .write(&place, file, &mut content, &mut further, &unread);
                        Ok(())
                    });
                    read.map_err(StepError::file(&place))?;
                    sent += written?;
                }
            }
        }
        // Modes are set last, the deepest folders first, since some folders cannot be written
        // afterwards.
        for Entry { path, what } in entries.iter().rev() {
            if let What::Folder { mode } = what {
                let place = tree.join(OsStr::from_bytes(path));
                self.files.set_mode(&place, *mode | inherited)?;
            }
        }
        self.files.set_mode(tree, 0o755 | inherited)?;
        Ok(sent)
    }

    fn write(&self, place: &Path, content: &mut dyn Read) -> Result<(), StepError> {
        let file = NewRemoteFile {
            mode: 0o644,
            changed: None,
            synced: false,
        };
        self.files
            .write(place, file, content, &mut |_| {}, &unread)?;
        Ok(())
    }

    /// Fails if the tree differs from the manifest.
    fn verify(&self, tree: &Path) -> Result<(), StepError> {
        match self.compare(tree)? {
            Compared::Same => Ok(()),
            Compared::OtherModes => {
                self.frame
                    .line("this file system does not keep the modes of files");
                Ok(())
            }
            Compared::Different(path) => {
                let (tree, path) = (tree.to_string_lossy(), path.to_string_lossy());
                Err(Refusal::of(DAMAGED, &[&tree, &path]).into())
            }
        }
    }

    /// Compares everything below `tree` and reads every file.
    fn compare(&self, tree: &Path) -> Result<Compared, StepError> {
        let manifest = &self.shipment.manifest;
        let mut folders = vec![PathBuf::new()];
        let (mut found, mut read, mut are_modes_kept) = (0, 0, true);
        while let Some(folder) = folders.pop() {
            for (name, about) in self.files.list(&tree.join(&folder))? {
                self.frame.check()?;
                let path = folder.join(name);
                let there = tree.join(&path);
                let what = manifest.find(path.as_os_str().as_bytes());
                let (is_same, mode) = match (what, about.kind) {
                    (Some(What::Folder { mode }), Kind::Folder) => {
                        folders.push(path.clone());
                        (true, *mode)
                    }
                    (Some(What::Link { target }), Kind::Link) => {
                        let leads = self.files.link_target(&there)?;
                        (leads.as_os_str().as_bytes() == &**target, about.mode)
                    }
                    (
                        Some(What::File {
                            mode, size, sum, ..
                        }),
                        Kind::File,
                    ) => {
                        let is_same = about.length == *size && self.sum(&there, read)? == *sum;
                        read += size;
                        (is_same, *mode)
                    }
                    _ => (false, 0),
                };
                if !is_same {
                    return Ok(Compared::Different(path));
                }
                are_modes_kept &= mode == about.mode & !SETGID;
                found += 1;
            }
        }
        Ok(match (found == manifest.entries().len(), are_modes_kept) {
            (true, true) => Compared::Same,
            (true, false) => Compared::OtherModes,
            (false, _) => Compared::Different(PathBuf::from(format!(
                "{found} / {}",
                manifest.entries().len()
            ))),
        })
    }

    /// The checksum of a file on the server. `before` is the number of bytes read before it.
    fn sum(&self, path: &Path, before: u64) -> Result<Sum, StepError> {
        let mut summed = Summed {
            digest: Sha256::new(),
            frame: self.frame,
        };
        let all = self.shipment.bytes();
        let untaken = |cause| Cause::Output { cause };
        let mut further = |count| {
            let progress = || format!("✓ {} / {}", bytes(before + count), bytes(all));
            self.frame.progress(progress);
        };
        self.files.read(path, &mut summed, &mut further, &untaken)?;
        Ok(summed.digest.finalize().into())
    }
}

fn unread(cause: io::Error) -> Cause {
    Cause::Input { cause }
}

/// Content whose reading ends with the step.
struct Watched<'a> {
    content: &'a mut dyn Read,
    frame: &'a StepFrame<'a>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.frame.check().map_err(io::Error::other)?;
        self.content.read(buffer)
    }
}

/// A checksum whose computation ends with the step.
struct Summed<'a> {
    digest: Sha256,
    frame: &'a StepFrame<'a>,
}

impl Write for Summed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.frame.check().map_err(io::Error::other)?;
        self.digest.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
