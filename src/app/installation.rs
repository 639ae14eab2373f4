//! The database and the key of an installation, which belong together: each is refused without the other.
//!
//! A refused start writes nothing. A missing part may be in a backup or on a disk that is not
//! mounted, and a new database or key in its place would be in the way.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{AppError, data_folder};
use crate::secret::Vault;
use crate::store::credentials::SECRET;
use crate::store::{Content, Durability, Findings, Inspection, Store, key_check};

const DATABASE: &str = "longshore.db";
const KEY: &str = "secret.key";
/// The key of an installation that is being created; renamed once the database has its check value.
const NEW_KEY: &str = "secret.key.new";

/// The reasons why the parts of a data folder are not an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LostPart {
    /// The key exists, and the database does not.
    #[error(
        "secret.key is there, but longshore.db is missing. Put longshore.db back from a backup, or look whether its \
         disk is mounted. To begin a new installation, choose another folder"
    )]
    Database,
    /// The key exists, and the database has 0 bytes.
    #[error(
        "secret.key is there, but longshore.db is empty (0 bytes). Put longshore.db back from a backup. To begin a new \
         installation, choose another folder"
    )]
    DatabaseContent,
    /// The database exists, and the key does not.
    #[error(
        "longshore.db is there, but secret.key is missing, without which none of its credentials can be opened. Put \
         secret.key back from a backup. To begin a new installation, choose another folder"
    )]
    Key,
    /// The key belongs to another database.
    #[error(
        "secret.key is not the key of this longshore.db: they come from different installations or backups. Put back \
         the two that belong together"
    )]
    KeyOfAnother,
    /// The database is new and was not created with this key.
    #[error(
        "longshore.db is new and was not made with this secret.key. Put back the longshore.db that belongs to it. To \
         begin a new installation, choose another folder"
    )]
    DatabaseOfAnother,
}

/// The inspected parts of a data folder, which belong together.
pub(super) struct Installation {
    root: PathBuf,
    inspection: Inspection,
    /// The key; `None` if it is to be created.
    vault: Option<Vault>,
}

impl Installation {
    /// Inspects the database and the key in the folder `root`, and writes nothing.
    ///
    /// # Errors
    /// [`AppError::LostPart`] if one lacks the other; [`AppError::Unreadable`], [`AppError::Vault`]
    /// and [`AppError::Store`] if one of them cannot be used.
    pub(super) fn inspect(root: &Path) -> Result<Self, AppError> {
        let (database, key) = (root.join(DATABASE), root.join(KEY));
        check_readable(&database)?;
        check_readable(&key)?;
        let inspection = Inspection::of(&database)?;
        let vault = Vault::read(&key)?;
        let vault = match inspection.content() {
            Content::Some(found) => key_of(found, vault, root),
            content => match (content, vault) {
                (_, None) => Ok(None),
                (Content::Empty, Some(_)) => Err(LostPart::DatabaseContent),
                (_, Some(_)) => Err(LostPart::Database),
            },
        };
        let lost = |part| AppError::LostPart {
            path: root.display().to_string(),
            part,
        };
        Ok(Self {
            vault: vault.map_err(lost)?,
            root: root.to_owned(),
            inspection,
        })
    }

    /// Opens the database and the key; creates them for a new installation.
    ///
    /// # Errors
    /// The database or the key file cannot be opened or created; [`AppError::LostPart`] if another
    /// process has created the installation meanwhile.
    pub(super) fn open(self, durability: Durability) -> Result<(Store, Vault), AppError> {
        self.inspection.check_soundness()?;
        data_folder::private_file(&self.root, DATABASE)?;
        let store = self.inspection.open(durability)?;
        let new_key = self.root.join(NEW_KEY);
        let vault = match &self.vault {
            Some(vault) => vault.clone(),
            None => Vault::open_or_create(&new_key)?,
        };
        let sealed = vault.seal(key_check::VALUE, key_check::PURPOSE)?;
        let kept = store.write(|conn| {
            key_check::add(conn, &sealed)?;
            key_check::find(conn)
        })?;
        if kept.is_none_or(|kept| vault.open(&kept, key_check::PURPOSE).is_err()) {
            return Err(AppError::LostPart {
                path: self.root.display().to_string(),
                part: LostPart::KeyOfAnother,
            });
        }
        self.name_new_key()?;
        Ok((store, vault))
    }

    /// Renames the new key to its final name, unless another process has done so.
    fn name_new_key(&self) -> Result<(), AppError> {
        let (from, to) = (self.root.join(NEW_KEY), self.root.join(KEY));
        if to.exists() {
            return Ok(());
        }
        match fs::rename(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && to.exists() => Ok(()),
            Err(error) => Err(data_folder::at(&to)(error)),
            Ok(()) => File::open(&self.root)
                .and_then(|folder| folder.sync_all())
                .map_err(data_folder::at(&self.root)),
        }
    }
}

/// The key of a database with the findings `found`, if `vault` is the key in the folder; `None` if
/// the database never had one.
fn key_of(found: &Findings, vault: Option<Vault>, root: &Path) -> Result<Option<Vault>, LostPart> {
    let knows = |vault: &Vault| match (&found.key_check, &found.sealed) {
        (Some(check), _) => vault.open(check, key_check::PURPOSE).is_ok(),
        (None, Some(secret)) => vault.open(secret, SECRET).is_ok(),
        // Written by a version without a check value: trusted this once.
        (None, None) => found.was_used,
    };
    match vault {
        Some(vault) if knows(&vault) => Ok(Some(vault)),
        Some(_) if found.was_used => Err(LostPart::KeyOfAnother),
        Some(_) => Err(LostPart::DatabaseOfAnother),
        // The process that created the installation died before it renamed the key.
        None if found.key_check.is_some() => match Vault::read(&root.join(NEW_KEY)) {
            Ok(Some(vault)) if knows(&vault) => Ok(Some(vault)),
            _ => Err(LostPart::Key),
        },
        None if found.was_served || found.sealed.is_some() => Err(LostPart::Key),
        // Only accounts, created from the command line by an earlier version.
        None => Ok(None),
    }
}

/// Refuses a file that this process may not read, with a hint at the fix.
fn check_readable(path: &Path) -> Result<(), AppError> {
    // A pipe is not opened, since that would block until another process writes into it.
    let Ok(about) = fs::metadata(path) else {
        return Ok(());
    };
    if !about.is_file() {
        return Ok(());
    }
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(AppError::Unreadable {
                path: path.display().to_string(),
                owner: about.uid(),
                user: rustix::process::geteuid().as_raw(),
            })
        }
        _ => Ok(()),
    }
}
