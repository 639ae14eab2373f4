//! Credentials: rules and saving. Secrets go in and never come out.

use super::{Check, FieldErrors, private_key, taken};
use crate::app::App;
use crate::secret::Secret;
use crate::store::credentials::{self, Credential, CredentialValues, PASSPHRASE, SECRET};
use crate::store::{CredentialId, CredentialKind};
use crate::web::error::Result;
use crate::web::input::Fields;

/// The fields, in the form's order.
pub const FIELDS: [&str; 4] = ["name", "kind", "secret", "passphrase"];

/// The longest password, token or passphrase, in characters.
const LONGEST_SECRET: usize = 1024;

/// A credential's checked values, not sealed yet.
#[derive(Debug)]
struct Checked {
    name: String,
    kind: CredentialKind,
    /// None keeps the present one.
    secret: Option<Secret<String>>,
    /// None keeps the present one, if the secret is kept too.
    passphrase: Option<Secret<String>>,
}

/// Adds the credential that `fields` describe.
pub fn create(app: &App, fields: &Fields) -> Result<Credential> {
    let checked = check(fields, None)?;
    let values = seal(app, checked, None)?;
    app.store()
        .write(|conn| credentials::add(conn, &values))
        .map_err(|error| taken(error, fields))
}

/// Replaces the values that `fields` give. The new values hold for everything that uses it.
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
    let values = seal(app, checked, Some(&present))?;
    app.store()
        .write(|conn| credentials::update(conn, id, &values))
        .map_err(|error| taken(error, fields))
}

fn seal(app: &App, checked: Checked, present: Option<&Credential>) -> Result<CredentialValues> {
    let vault = app.vault();
    let sealed = |secret: &Secret<String>, purpose| vault.seal(secret.expose().as_bytes(), purpose);
    let kept = present.filter(|_| checked.secret.is_none());
    let secret = match (&checked.secret, kept) {
        (Some(secret), _) => sealed(secret, SECRET)?,
        (None, kept) => kept.map(|kept| kept.secret.clone()).unwrap_or_default(),
    };
    let passphrase = match &checked.passphrase {
        Some(passphrase) => Some(sealed(passphrase, PASSPHRASE)?),
        None => kept.and_then(|kept| kept.passphrase.clone()),
    };
    Ok(CredentialValues {
        name: checked.name,
        kind: checked.kind,
        secret,
        passphrase,
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
    let passphrase = passphrase(&mut check, kind);
    let secret = match kind {
        CredentialKind::SshKey | CredentialKind::GitSshKey => key(&mut check, passphrase.is_some()),
        CredentialKind::Password => password(&mut check),
        CredentialKind::GitToken => token(&mut check),
    };
    // Another kind needs another secret.
    if secret.is_none() && present_kind != Some(kind) {
        check.refuse("secret", "required");
    }
    let checked = Checked {
        name,
        kind,
        secret: secret.map(Secret::new),
        passphrase: passphrase.map(Secret::new),
    };
    check.finish(&FIELDS, checked)
}

/// The text of a secret field; none where it is empty.
fn given(check: &mut Check<'_>, field: &str, longest: usize) -> Option<String> {
    let text = check.given(field).filter(|text| !text.is_empty())?;
    if text.len() > longest {
        check.refuse_with(field, "too_long", &[("max", &longest.to_string())]);
    }
    Some(text.to_owned())
}

fn password(check: &mut Check<'_>) -> Option<String> {
    let text = given(check, "secret", LONGEST_SECRET)?;
    // The field of the form has several lines, and what is pasted there often ends in one.
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

fn key(check: &mut Check<'_>, has_passphrase: bool) -> Option<String> {
    let text = given(check, "secret", private_key::LONGEST)?;
    let text = text.replace("\r\n", "\n").trim().to_owned();
    if text.is_empty() {
        return None;
    }
    match private_key::look_at(&text) {
        None => check.refuse("secret", "invalid_key"),
        Some(key) if key.encrypted && !has_passphrase => {
            check.refuse("passphrase", "passphrase_required");
        }
        Some(_) => {}
    }
    Some(text + "\n")
}

fn passphrase(check: &mut Check<'_>, kind: CredentialKind) -> Option<String> {
    let text = given(check, "passphrase", LONGEST_SECRET)?;
    if text.chars().any(char::is_control) {
        check.refuse("passphrase", "invalid_characters");
    }
    let is_key = matches!(kind, CredentialKind::SshKey | CredentialKind::GitSshKey);
    Some(text).filter(|_| is_key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use private_key::tests::openssh;

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
        let whole = openssh("none", 0);
        let locked = openssh("aes256-ctr", 0);
        let long = "x".repeat(private_key::LONGEST + 1);
        for (kind, secret, passphrase, field, code) in [
            ("rsa", "x", "", "kind", "unknown_choice"),
            ("ssh_key", "", "", "secret", "required"),
            ("ssh_key", "hunter2", "", "secret", "invalid_key"),
            ("ssh_key", &whole[..200], "", "secret", "invalid_key"),
            ("ssh_key", &long, "", "secret", "too_long"),
            (
                "git_ssh_key",
                &locked,
                "",
                "passphrase",
                "passphrase_required",
            ),
            (
                "git_ssh_key",
                &locked,
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
    fn sound_values_pass() {
        let pasted = openssh("none", 0).replace('\n', "\r\n");
        let key = checked("ssh_key", &pasted, "").unwrap();
        assert_eq!(key.secret.unwrap().expose(), &openssh("none", 0));
        checked("git_ssh_key", &openssh("aes256-ctr", 0), "open sesame").unwrap();
        checked("git_token", "ann:ghp_x\n", "").unwrap();
        let password = checked("password", " pass word \r\n", "unused").unwrap();
        assert_eq!(password.secret.unwrap().expose(), " pass word ");
        assert!(password.passphrase.is_none());
    }
}
