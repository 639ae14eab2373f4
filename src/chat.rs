//! The chat and vote rooms' rules.

use crate::settings::ChatAccess;

/// Why somebody may not use the chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is for those who are logged in.
    LoginNeeded,
    /// It is switched off.
    Off,
}

/// Whether chat and vote rooms may be read and written, given how they are set.
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
