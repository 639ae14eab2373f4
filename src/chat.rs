//! Access rules of the chat and vote rooms.

use crate::settings::ChatAccess;

/// The reason for refusing access to the chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A login is required.
    LoginNeeded,
    /// Chat is switched off.
    Off,
}

/// Checks access to chat and vote rooms under the setting `access`.
///
/// # Errors
/// [`Refused`] if a login is required or chat is off.
pub fn may_use(access: ChatAccess, logged_in: bool) -> Result<(), Refused> {
    match access {
        ChatAccess::Open => Ok(()),
        ChatAccess::Members if logged_in => Ok(()),
        ChatAccess::Members => Err(Refused::LoginNeeded),
        ChatAccess::Off => Err(Refused::Off),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_lets_in_whom_it_names() {
        use ChatAccess::{Members, Off, Open};
        let table = [
            (Open, false, Ok(())),
            (Open, true, Ok(())),
            (Members, false, Err(Refused::LoginNeeded)),
            (Members, true, Ok(())),
            (Off, false, Err(Refused::Off)),
            (Off, true, Err(Refused::Off)),
        ];
        for (access, logged_in, expected) in table {
            assert_eq!(may_use(access, logged_in), expected);
        }
    }
}
