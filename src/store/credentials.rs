//! Credentials, sealed. Plain secrets never reach the database.

use std::collections::HashMap;

use diesel::prelude::*;
use serde::{Serialize, Serializer};

use super::schema::{credentials, projects, servers};
use super::{Conn, CredentialId, CredentialKind, Moment, Page, PageRequest, Result, StoreError};

/// The purpose a credential's secret is sealed for, see `secret::Vault`.
pub const SECRET: &str = "credential.secret";
/// The purpose a credential's passphrase is sealed for.
pub const PASSPHRASE: &str = "credential.passphrase";
/// The purpose the password that accompanies a key is sealed for.
pub const PASSWORD: &str = "credential.password";

/// A credential as stored.
#[derive(Debug, Clone, Queryable, Selectable, Serialize)]
#[diesel(table_name = credentials)]
pub struct Credential {
    /// Its id.
    pub id: CredentialId,
    /// Its name, unique.
    pub name: String,
    /// The kind of credential.
    pub kind: CredentialKind,
    /// Sealed for [`SECRET`].
    #[serde(skip)]
    pub secret: Vec<u8>,
    /// A private key's passphrase, sealed for [`PASSPHRASE`].
    #[serde(skip)]
    pub passphrase: Option<Vec<u8>>,
    /// A key's additional password, for servers that ask for both, sealed for [`PASSWORD`].
    /// Serialized as a boolean: present or not.
    #[serde(rename = "has_password", serialize_with = "whether")]
    pub password: Option<Vec<u8>>,
    /// The path of the key file, for kinds that use one.
    pub path: Option<String>,
    /// The creation time.
    pub created_at: Moment,
    /// The time of the last change.
    pub updated_at: Moment,
}

/// A credential's values as a checked form gives them, sealed.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = credentials)]
pub struct CredentialValues {
    /// See [`Credential`].
    pub name: String,
    /// See [`Credential`].
    pub kind: CredentialKind,
    /// See [`Credential`].
    pub secret: Vec<u8>,
    /// See [`Credential`].
    pub passphrase: Option<Vec<u8>>,
    /// See [`Credential`].
    pub password: Option<Vec<u8>>,
    /// See [`Credential`].
    pub path: Option<String>,
}

fn whether<S: Serializer>(
    sealed: &Option<Vec<u8>>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_bool(sealed.is_some())
}

/// Adds a credential.
///
/// # Errors
/// [`StoreError::Taken`] if the name is in use; database errors.
pub fn add(conn: &mut Conn, values: &CredentialValues) -> Result<Credential> {
    let now = Moment::now();
    diesel::insert_into(credentials::table)
        .values((
            values,
            credentials::created_at.eq(now),
            credentials::updated_at.eq(now),
        ))
        .returning(Credential::as_returning())
        .get_result(conn)
        .map_err(StoreError::taken("name"))
}

/// Replaces a credential's values.
///
/// # Errors
/// [`StoreError::NotFound`] or [`StoreError::Taken`] for the name; database errors.
pub fn update(conn: &mut Conn, id: CredentialId, values: &CredentialValues) -> Result<Credential> {
    diesel::update(credentials::table.find(id))
        .set((
            credentials::name.eq(&values.name),
            credentials::kind.eq(values.kind),
            credentials::secret.eq(&values.secret),
            credentials::passphrase.eq(&values.passphrase),
            credentials::password.eq(&values.password),
            credentials::path.eq(&values.path),
            credentials::updated_at.eq(Moment::now()),
        ))
        .returning(Credential::as_returning())
        .get_result(conn)
        .map_err(|error| match error {
            diesel::result::Error::NotFound => StoreError::missing("credential", id)(error),
            other => StoreError::taken("name")(other),
        })
}

/// The credential with this id.
///
/// # Errors
/// [`StoreError::NotFound`]; database errors.
pub fn find(conn: &mut Conn, id: CredentialId) -> Result<Credential> {
    credentials::table
        .find(id)
        .select(Credential::as_select())
        .first(conn)
        .map_err(StoreError::missing("credential", id))
}

/// One page of the credentials, by name.
///
/// # Errors
/// Database errors.
pub fn page(conn: &mut Conn, request: PageRequest) -> Result<Page<Credential>> {
    let total = credentials::table.count().get_result(conn)?;
    request.place(total, |offset, limit| {
        credentials::table
            .order((credentials::name, credentials::id))
            .offset(offset)
            .limit(limit)
            .select(Credential::as_select())
            .load(conn)
    })
}

/// Every credential for servers (`git` false) or for git hosts, by name.
///
/// # Errors
/// Database errors.
pub fn choices(conn: &mut Conn, git: bool) -> Result<Vec<Credential>> {
    let kinds: Vec<CredentialKind> = CredentialKind::ALL
        .iter()
        .copied()
        .filter(|kind| kind.is_git() == git)
        .collect();
    Ok(credentials::table
        .filter(credentials::kind.eq_any(kinds))
        .order(credentials::name)
        .select(Credential::as_select())
        .load(conn)?)
}

/// Every credential's id and kind.
///
/// # Errors
/// Database errors.
pub fn kinds(conn: &mut Conn) -> Result<Vec<(CredentialId, CredentialKind)>> {
    Ok(credentials::table
        .select((credentials::id, credentials::kind))
        .load(conn)?)
}

/// The names of the servers and projects that use each of `ids`. Unused credentials are absent.
///
/// # Errors
/// Database errors.
pub fn used_by(
    conn: &mut Conn,
    ids: &[CredentialId],
) -> Result<HashMap<CredentialId, Vec<String>>> {
    let mut rows: Vec<(Option<CredentialId>, String)> = servers::table
        .filter(servers::credential_id.eq_any(ids))
        .order(servers::hostname)
        .select((servers::credential_id, servers::hostname))
        .load(conn)?;
    rows.extend(
        projects::table
            .filter(projects::credential_id.eq_any(ids))
            .order(projects::title)
            .select((projects::credential_id, projects::title))
            .load::<(Option<CredentialId>, String)>(conn)?,
    );
    let mut users: HashMap<CredentialId, Vec<String>> = HashMap::new();
    for (id, name) in rows {
        if let Some(id) = id {
            users.entry(id).or_default().push(name);
        }
    }
    Ok(users)
}

/// Deletes an unused credential.
///
/// # Errors
/// [`StoreError::InUse`] or [`StoreError::NotFound`]; database errors.
pub fn delete(conn: &mut Conn, id: CredentialId) -> Result<()> {
    if let Some(users) = used_by(conn, &[id])?.remove(&id) {
        return Err(StoreError::InUse {
            what: "credential",
            id: id.to_string(),
            by: users.join(", "),
        });
    }
    match diesel::delete(credentials::table.find(id)).execute(conn)? {
        0 => Err(StoreError::NotFound {
            what: "credential",
            id: id.to_string(),
        }),
        _ => Ok(()),
    }
}
