//! Changes to accounts that take rights away, or give them back.

use super::{Auth, Result};
use crate::store::{Role, logins, users};

impl Auth {
    /// Disables an account, or enables it again. A disabled one's logins and tokens open nothing, from
    /// this moment on.
    ///
    /// # Errors
    /// [`AuthError::UnknownUser`](super::AuthError::UnknownUser).
    pub fn set_disabled(&self, user_name: &str, disabled: bool) -> Result<()> {
        let user = self.user(user_name)?;
        self.taking(|conn| users::set_disabled(conn, user.id, disabled))
    }

    /// Gives an account another role.
    ///
    /// # Errors
    /// [`AuthError::UnknownUser`](super::AuthError::UnknownUser).
    pub fn set_role(&self, user_name: &str, role: Role) -> Result<()> {
        let user = self.user(user_name)?;
        self.taking(|conn| users::set_role(conn, user.id, role))
    }

    /// Deletes all API tokens of an account; gives their number.
    ///
    /// # Errors
    /// [`AuthError::UnknownUser`](super::AuthError::UnknownUser).
    pub fn revoke_tokens(&self, user_name: &str) -> Result<usize> {
        let user = self.user(user_name)?;
        self.taking(|conn| logins::remove_tokens(conn, user.id))
    }
}
