//! Changes to accounts: disabling, roles, and revoked tokens.

use super::{Auth, Result};
use crate::store::{Role, logins, users};

impl Auth {
    /// Disables or enables an account. Disabling deletes its logins, tokens and links, so that enabling
    /// it again revives none of them.
    ///
    /// # Errors
    /// [`AuthError::UnknownUser`](super::AuthError::UnknownUser); database errors.
    pub fn set_disabled(&self, user_name: &str, disabled: bool) -> Result<()> {
        let user = self.user(user_name)?;
        self.taking(|conn| {
            if disabled {
                logins::remove_all(conn, user.id)?;
            }
            users::set_disabled(conn, user.id, disabled)
        })
    }

    /// Changes an account's role.
    ///
    /// # Errors
    /// [`AuthError::UnknownUser`](super::AuthError::UnknownUser); database errors.
    pub fn set_role(&self, user_name: &str, role: Role) -> Result<()> {
        let user = self.user(user_name)?;
        self.taking(|conn| users::set_role(conn, user.id, role))
    }

    /// Deletes all API tokens of an account and returns their number.
    ///
    /// # Errors
    /// [`AuthError::UnknownUser`](super::AuthError::UnknownUser); database errors.
    pub fn revoke_tokens(&self, user_name: &str) -> Result<usize> {
        let user = self.user(user_name)?;
        self.taking(|conn| logins::remove_tokens(conn, user.id))
    }
}
