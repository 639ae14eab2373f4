//! `longshore user` and `longshore token`: for scripts, and for an operator who is locked out. They
//! work while the server runs.

use std::io::{self, BufRead, Write};

use super::{CliError, Place};
use crate::app::open_accounts;
use crate::secret::Secret;
use crate::store::Role;

pub(super) fn add_user(
    place: &Place,
    name: &str,
    role: Role,
    password_stdin: bool,
) -> Result<(), CliError> {
    let auth = open_accounts(&place.settings()?, &place.data)?;
    let password = if password_stdin {
        read_line()
    } else {
        rpassword::prompt_password(format!("Password of {name}: "))
    };
    let password = password.map_err(CliError::io("password"))?;
    let user = auth.add_user(name, &Secret::new(password), role)?;
    say(&format!("Added {} ({})", user.name, user.role))
}

pub(super) fn set_disabled(place: &Place, name: &str, disabled: bool) -> Result<(), CliError> {
    let auth = open_accounts(&place.settings()?, &place.data)?;
    auth.set_disabled(name, disabled)?;
    say(&format!(
        "{} {name}",
        if disabled { "Disabled" } else { "Enabled" }
    ))
}

pub(super) fn set_role(place: &Place, name: &str, role: Role) -> Result<(), CliError> {
    let auth = open_accounts(&place.settings()?, &place.data)?;
    auth.set_role(name, role)?;
    say(&format!("{name} is {role} now"))
}

pub(super) fn revoke_tokens(place: &Place, name: &str) -> Result<(), CliError> {
    let auth = open_accounts(&place.settings()?, &place.data)?;
    let tokens = auth.revoke_tokens(name)?;
    say(&format!("Deleted {tokens} tokens of {name}"))
}

pub(super) fn create_token(place: &Place, name: &str) -> Result<(), CliError> {
    let auth = open_accounts(&place.settings()?, &place.data)?;
    say(auth.create_token(name)?.expose())
}

fn read_line() -> io::Result<String> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

pub(super) fn say(line: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(CliError::io("standard output"))
}
