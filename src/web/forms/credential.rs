//! Credentials: validation and storage. Secrets are write-only.

use std::path::Path;

use super::{Check, FieldError, FieldErrors, taken};
use crate::app::App;
use crate::secret::Secret;
use crate::ssh::{self, Cause, KeyFolders};
use crate::store::credentials::{self, Credential, CredentialValues, PASSPHRASE, PASSWORD, SECRET};
use crate::store::{CredentialId, CredentialKind};
use crate::web::error::Result;
use crate::web::input::Fields;

/// The fields, in form order.
pub const FIELDS: [&str; 7] = [
    "name",
    "kind",
    "secret",
    "path",
    "passphrase",
    "password",
    "has_password",
];

/// The longest key, in bytes.
const LONGEST_KEY: usize = 16 << 10;
/// The longest password, token or passphrase, in characters.
const LONGEST_SECRET: usize = 1024;

/// The kinds whose key may have a passphrase.
const WITH_PASSPHRASE: [CredentialKind; 3] = [
    CredentialKind::SshKey,
    CredentialKind::SshKeyFile,
    CredentialKind::GitSshKey,
];
/// The kinds that may need an additional password on servers.
const WITH_PASSWORD: [CredentialKind; 3] = [
    CredentialKind::SshKey,
    CredentialKind::SshKeyFile,
    CredentialKind::SshAgent,
];

/// A credential's validated values, not yet sealed.
#[derive(Debug)]
struct Checked {
    name: String,
    kind: CredentialKind,
    /// `None` keeps the present one.
    secret: Option<Secret<String>>,
    /// `None` keeps the present one, if the secret is kept too.
    passphrase: Option<Secret<String>>,
    /// `None` keeps the present one, unless `no_password` is set.
    password: Option<Secret<String>>,
    /// True to remove the present password if it is not replaced.
    no_password: bool,
    /// The path of a key file.
    path: Option<String>,
}

/// Adds the credential described by `fields`.
///
/// # Errors
/// [`FieldErrors`] for invalid fields or a name in use; errors of the vault and the database.
pub fn create(app: &App, fields: &Fields) -> Result<Credential> {
    let checked = check(fields, None)?;
    verify(app, &checked, None)?;
    let values = seal(app, checked, None)?;
    app.store()
        .write(|conn| credentials::add(conn, &values))
        .map_err(|error| taken(error, fields))
}

/// Replaces the given values. They take effect for every user of the credential.
///
/// # Errors
/// [`FieldErrors`] for invalid fields, a name in use or a changed kind in use; an unknown id;
/// errors of the vault and the database.
pub fn update(app: &App, id: CredentialId, fields: &Fields) -> Result<Credential> {
    let (present, used_by) = app.store().read(|conn| {
        let present = credentials::find(conn, id)?;
        let used_by = credentials::used_by(conn, &[id])?.remove(&id);
        Ok((present, used_by.unwrap_or_default()))
    })?;
    let checked = check(fields, Some(&present))?;
    if checked.kind != present.kind && !used_by.is_empty() {
        let mut errors = FieldErrors::default();
        errors.add_with("kind", "in_use", &[("by", &used_by.join(", "))]);
        return Err(errors.into());
    }
    verify(app, &checked, Some(&present))?;
    let values = seal(app, checked, Some(&present))?;
    app.store()
        .write(|conn| credentials::update(conn, id, &values))
        .map_err(|error| taken(error, fields))
}

impl Checked {
    /// The credential whose secrets are kept: `present`, if neither its kind, its secret nor its
    /// path changes.
    fn kept<'a>(&self, present: Option<&'a Credential>) -> Option<&'a Credential> {
        present.filter(|present| {
            present.kind == self.kind && self.secret.is_none() && self.path == present.path
        })
    }
}

/// Opens the key, so that errors in it or its passphrase are found before anything depends on it.
fn verify(app: &App, checked: &Checked, present: Option<&Credential>) -> Result<()> {
    let kept = checked.kept(present);
    let opened = |sealed: Option<&Vec<u8>>, purpose| {
        sealed
            .map(|sealed| app.vault().open_text(sealed, purpose))
            .transpose()
    };
    let secret = match &checked.secret {
        Some(secret) => Some(secret.clone()),
        None => opened(kept.map(|kept| &kept.secret), SECRET)?,
    };
    let passphrase = match &checked.passphrase {
        Some(passphrase) => Some(passphrase.clone()),
        None => opened(kept.and_then(|kept| kept.passphrase.as_ref()), PASSPHRASE)?,
    };
    let settings = app.settings();
    let verdict = match checked.kind {
        CredentialKind::SshKey | CredentialKind::GitSshKey => {
            let key = secret.unwrap_or_else(|| Secret::new(String::new()));
            ssh::check_key(&key, passphrase.as_ref())
        }
        CredentialKind::SshKeyFile => {
            let folders = KeyFolders::new(settings.ssh_key_folders.clone());
            let path = Path::new(checked.path.as_deref().unwrap_or_default());
            ssh::check_key_file(&folders, path, passphrase.as_ref())
        }
        CredentialKind::SshAgent if !settings.ssh_agent => Err(Cause::AgentOff),
        _ => Ok(()),
    };
    verdict.map_err(|cause| refusal(checked.kind, &cause).into())
}

/// The refused field and the reason.
fn refusal(kind: CredentialKind, cause: &Cause) -> FieldErrors {
    let key = match kind {
        CredentialKind::SshKeyFile => "path",
        CredentialKind::SshAgent => "kind",
        _ => "secret",
    };
    let (field, code) = match cause {
        Cause::PassphraseMissing => ("passphrase", "passphrase_required"),
        Cause::PassphraseWrong => ("passphrase", "passphrase_wrong"),
        _ => (key, "invalid_key"),
    };
    FieldErrors::one(FieldError {
        field: field.to_owned(),
        code,
        args: Vec::new(),
        cause: Some(cause.into()),
    })
}

fn seal(app: &App, checked: Checked, present: Option<&Credential>) -> Result<CredentialValues> {
    let vault = app.vault();
    let sealed = |secret: &str, purpose| vault.seal(secret.as_bytes(), purpose);
    let kept = checked.kept(present);
    let secret = match (&checked.secret, kept) {
        (Some(secret), _) => sealed(secret.expose(), SECRET)?,
        (None, Some(kept)) => kept.secret.clone(),
        (None, None) => sealed("", SECRET)?,
    };
    let passphrase = match &checked.passphrase {
        Some(passphrase) => Some(sealed(passphrase.expose(), PASSPHRASE)?),
        None => kept.and_then(|kept| kept.passphrase.clone()),
    };
    // The password belongs to the user, not to the key: a new key does not remove it.
    let has_same_user = |present: &&Credential| present.kind == checked.kind;
    let password = match &checked.password {
        Some(password) => Some(sealed(password.expose(), PASSWORD)?),
        None if checked.no_password => None,
        None => present
            .filter(has_same_user)
            .and_then(|present| present.password.clone()),
    };
    Ok(CredentialValues {
        name: checked.name,
        kind: checked.kind,
        secret,
        passphrase,
        password,
        path: checked.path,
    })
}

fn check(
    fields: &Fields,
    present: Option<&Credential>,
) -> std::result::Result<Checked, FieldErrors> {
    let mut check = Check::new(fields);
    let present_kind = present.map(|credential| credential.kind);
    let kind = check.choice("kind", present_kind, CredentialKind::SshKey);
    let name = check.name("name", present.map(|credential| credential.name.as_str()));
    let secret = match kind {
        CredentialKind::SshKey | CredentialKind::GitSshKey => key(&mut check),
        CredentialKind::Password => password(&mut check),
        CredentialKind::GitToken => token(&mut check),
        CredentialKind::SshKeyFile | CredentialKind::SshAgent => None,
    };
    let is_secret = !matches!(kind, CredentialKind::SshKeyFile | CredentialKind::SshAgent);
    // A changed kind needs a new secret.
    if is_secret && secret.is_none() && present_kind != Some(kind) {
        check.refuse("secret", "required");
    }
    let checked = Checked {
        name,
        kind,
        secret: secret.map(Secret::new),
        passphrase: beside(&mut check, "passphrase", kind, &WITH_PASSPHRASE).map(Secret::new),
        password: beside(&mut check, "password", kind, &WITH_PASSWORD).map(Secret::new),
        no_password: !check.choice("has_password", None, true),
        path: path(&mut check, kind, present),
    };
    check.finish(&FIELDS, checked)
}

fn path(
    check: &mut Check<'_>,
    kind: CredentialKind,
    present: Option<&Credential>,
) -> Option<String> {
    if kind != CredentialKind::SshKeyFile {
        return None;
    }
    let present = present.and_then(|credential| credential.path.as_deref());
    let path = check.line("path", present, super::path::LONGEST);
    if path.is_empty() {
        check.refuse("path", "required");
    }
    Some(path)
}

/// The text of a secret field; `None` if empty.
fn given(check: &mut Check<'_>, field: &str, longest: usize) -> Option<String> {
    let text = check.given(field).filter(|text| !text.is_empty())?;
    if text.chars().count() > longest {
        check.refuse_with(field, "too_long", &[("max", &longest.to_string())]);
    }
    Some(text.to_owned())
}

fn password(check: &mut Check<'_>) -> Option<String> {
    let text = given(check, "secret", LONGEST_SECRET)?;
    // The form's field has several lines, and pasted text often ends with a line break.
    let text = text.trim_end_matches(['\r', '\n']).to_owned();
    if text.chars().any(char::is_control) {
        check.refuse("secret", "invalid_characters");
    }
    Some(text).filter(|text| !text.is_empty())
}

fn token(check: &mut Check<'_>) -> Option<String> {
    let text = given(check, "secret", LONGEST_SECRET)?.trim().to_owned();
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        check.refuse("secret", "invalid_characters");
    }
    Some(text).filter(|text| !text.is_empty())
}

fn key(check: &mut Check<'_>) -> Option<String> {
    let text = given(check, "secret", LONGEST_KEY)?;
    Some(ssh::normal_key(&text)).filter(|text| text != "\n")
}

/// An additional secret that credentials of `kinds` may have.
fn beside(
    check: &mut Check<'_>,
    field: &str,
    kind: CredentialKind,
    kinds: &[CredentialKind],
) -> Option<String> {
    let text = given(check, field, LONGEST_SECRET)?;
    if text.chars().any(char::is_control) {
        check.refuse(field, "invalid_characters");
    }
    Some(text).filter(|_| kinds.contains(&kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(
        kind: &str,
        secret: &str,
        passphrase: &str,
    ) -> std::result::Result<Checked, FieldErrors> {
        let object = serde_json::json!({
            "name": "key", "kind": kind, "secret": secret, "passphrase": passphrase,
        });
        let body = serde_json::to_vec(&object).unwrap();
        check(&Fields::from_json("application/json", &body).unwrap(), None)
    }

    #[test]
    fn each_bad_value_names_its_field() {
        let long = "x".repeat(LONGEST_KEY + 1);
        for (kind, secret, passphrase, field, code) in [
            ("rsa", "x", "", "kind", "unknown_choice"),
            ("ssh_key", "", "", "secret", "required"),
            ("ssh_key", " \r\n", "", "secret", "required"),
            ("ssh_key", &long, "", "secret", "too_long"),
            ("ssh_key_file", "", "", "path", "required"),
            (
                "git_ssh_key",
                "x",
                "a\nb",
                "passphrase",
                "invalid_characters",
            ),
            ("password", "", "", "secret", "required"),
            ("password", "a\nb", "", "secret", "invalid_characters"),
            ("git_token", "a b", "", "secret", "invalid_characters"),
            ("git_token", " \n", "", "secret", "required"),
        ] {
            let errors = checked(kind, secret, passphrase).unwrap_err();
            let first = errors.first().unwrap();
            assert_eq!(
                (first.field.as_str(), first.code),
                (field, code),
                "{kind} {secret:.20}"
            );
        }
    }

    #[test]
    fn what_is_wrong_with_a_key_is_said_beside_its_field() {
        use CredentialKind::{SshAgent, SshKey, SshKeyFile};
        let damaged = Cause::KeyNotUnderstood {
            reason: "it is damaged".to_owned(),
        };
        for (kind, cause, field, code) in [
            (SshKey, &damaged, "secret", "invalid_key"),
            (SshKeyFile, &damaged, "path", "invalid_key"),
            (SshAgent, &Cause::AgentOff, "kind", "invalid_key"),
            (
                SshKeyFile,
                &Cause::PassphraseMissing,
                "passphrase",
                "passphrase_required",
            ),
            (
                SshKey,
                &Cause::PassphraseWrong,
                "passphrase",
                "passphrase_wrong",
            ),
        ] {
            let errors = refusal(kind, cause);
            let first = errors.first().unwrap();
            assert_eq!((first.field.as_str(), first.code), (field, code));
        }
    }

    #[test]
    fn a_key_for_servers_may_have_a_password_beside_it() {
        for (kind, password, kept) in [
            ("ssh_key", "a b", true),
            ("ssh_key_file", "a b", true),
            ("ssh_agent", "a b", true),
            ("password", "a b", false),
            ("git_ssh_key", "a b", false),
            ("git_token", "a b", false),
            ("ssh_key", "", false),
        ] {
            let object = serde_json::json!({
                "name": "key", "kind": kind, "secret": "x", "path": "/x", "password": password,
            });
            let fields = Fields::from_json("application/json", object.to_string().as_bytes());
            let checked = check(&fields.unwrap(), None).unwrap();
            assert_eq!(checked.password.is_some(), kept, "{kind} {password}");
        }
        for (field, value, code) in [
            ("password", "a\nb".to_owned(), "invalid_characters"),
            ("password", "x".repeat(LONGEST_SECRET + 1), "too_long"),
            ("has_password", "maybe".to_owned(), "unknown_choice"),
        ] {
            let object = serde_json::json!({
                "name": "key", "kind": "ssh_key", "secret": "x", field: value,
            });
            let fields = Fields::from_json("application/json", object.to_string().as_bytes());
            let errors = check(&fields.unwrap(), None).unwrap_err();
            let first = errors.first().unwrap();
            assert_eq!((first.field.as_str(), first.code), (field, code));
        }
    }

    #[test]
    fn sound_values_pass() {
        let key = checked("ssh_key", " -----BEGIN\r\nabc\r\n\r\n", "").unwrap();
        assert_eq!(key.secret.unwrap().expose(), "-----BEGIN\nabc\n");
        let pasted = "\u{feff}-----BEGIN \r\n\r\n  abc\t \rdef\u{a0}\n \n";
        let key = checked("ssh_key", pasted, "").unwrap();
        assert_eq!(key.secret.unwrap().expose(), "-----BEGIN\n\nabc\ndef\n");
        checked("ssh_agent", "", "").unwrap();
        checked("git_token", "ann:ghp_x\n", "").unwrap();
        let password = checked("password", " pass word \r\n", "unused").unwrap();
        assert_eq!(password.secret.unwrap().expose(), " pass word ");
        assert!(password.passphrase.is_none());
    }
}
