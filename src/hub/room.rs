//! Names of rooms and of clients. Strangers may choose both, so both are bounded here.

use std::{
    fmt,
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::{Arc, OnceLock},
};

/// The maximum length of a NAME in a room's name and of a client name, in characters.
pub const NAME_CHARS: usize = 64;

/// The name of a room as spelled on the wire: `chat`, `chat/NAME`, `vote/NAME`, `presence/ROOM`,
/// `release/ID`, `releases`, `project/ID`. Cheap to clone; equal names are equal rooms.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomName(Arc<str>, Family);

/// The subject of a room, which decides who may read it and who may publish to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// `chat` and `chat/NAME`.
    Chat,
    /// `vote/NAME`.
    Vote,
    /// `presence/ROOM`.
    Presence,
    /// `release/ID`.
    Release,
    /// `releases`, the dashboard's room.
    Releases,
    /// `project/ID`.
    Project,
}

/// Text that is not the name of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a room is chat, chat/NAME, vote/NAME, presence/ROOM, release/ID, releases or project/ID; NAME has 1 to 64 characters, none of them '/' or a control character"
)]
pub struct BadRoom;

impl RoomName {
    /// Parses a room's name sent by a client.
    ///
    /// # Errors
    /// [`BadRoom`] if it is none of the seven forms.
    pub fn parse(text: &str) -> Result<RoomName, BadRoom> {
        family_of(text)
            .map(|family| RoomName(text.into(), family))
            .ok_or(BadRoom)
    }

    /// The course's room, `chat`.
    pub fn chat() -> RoomName {
        RoomName("chat".into(), Family::Chat)
    }

    /// The dashboard's room, `releases`.
    pub fn releases() -> RoomName {
        RoomName("releases".into(), Family::Releases)
    }

    /// The room of one release, `release/ID`.
    ///
    /// # Errors
    /// [`BadRoom`] if `id` is empty, longer than 64 characters, or has a slash or control character.
    pub fn release(id: &str) -> Result<RoomName, BadRoom> {
        RoomName::parse(&format!("release/{id}"))
    }

    /// The name as spelled on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The subject of the room.
    pub fn family(&self) -> Family {
        self.1
    }

    /// The part after the first slash: the NAME, ROOM or ID. `None` for `chat` and `releases`.
    pub fn rest(&self) -> Option<&str> {
        self.0.split_once('/').map(|(_, rest)| rest)
    }
}

fn family_of(text: &str) -> Option<Family> {
    match text.split_once('/') {
        None if text == "chat" => Some(Family::Chat),
        None if text == "releases" => Some(Family::Releases),
        Some(("chat", name)) if is_name(name) => Some(Family::Chat),
        Some(("vote", name)) if is_name(name) => Some(Family::Vote),
        Some(("release", id)) if is_name(id) => Some(Family::Release),
        Some(("project", id)) if is_name(id) => Some(Family::Project),
        Some(("presence", room)) => {
            let of = family_of(room)?;
            (of != Family::Presence).then_some(Family::Presence)
        }
        _ => None,
    }
}

fn is_name(text: &str) -> bool {
    is_client_name(text) && !text.contains('/')
}

fn is_client_name(text: &str) -> bool {
    !text.is_empty()
        && text.chars().nth(NAME_CHARS).is_none()
        && !text.chars().any(char::is_control)
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// One browser tab or program, identified by account and name together, so that nobody can use
/// another's queue by knowing its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientId {
    /// The hash of the other two fields, computed once: a client is looked up at every poll.
    hash: u64,
    account: Option<String>,
    name: String,
}

impl Hash for ClientId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// A client name that is empty, too long, or has control characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to 64 characters and no control characters")]
pub struct BadName;

impl ClientId {
    /// Creates the id of the client `name` of `account` (`None`: anonymous).
    ///
    /// # Errors
    /// [`BadName`] if the name is empty, longer than 64 characters, or has a control character.
    pub fn new(account: Option<String>, name: &str) -> Result<ClientId, BadName> {
        if !is_client_name(name) {
            return Err(BadName);
        }
        // The key is random, since strangers choose names.
        static KEY: OnceLock<RandomState> = OnceLock::new();
        Ok(ClientId {
            hash: KEY.get_or_init(RandomState::new).hash_one((&account, name)),
            account,
            name: name.to_owned(),
        })
    }

    /// The logged-in account, if any.
    pub fn account(&self) -> Option<&str> {
        self.account.as_deref()
    }

    /// The name that the client chose.
    pub fn name(&self) -> &str {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_have_seven_forms() {
        let long = "好".repeat(64);
        for good in [
            "chat".to_owned(),
            "releases".to_owned(),
            "release/7".to_owned(),
            "project/7".to_owned(),
            "presence/chat".to_owned(),
            "presence/chat/a".to_owned(),
            format!("vote/{long}"),
            format!("chat/{long}"),
            "chat/ ".to_owned(),
        ] {
            assert_eq!(
                RoomName::parse(&good).map(|r| r.to_string()),
                Ok(good.clone()),
                "{good}"
            );
        }
        for bad in [
            "",
            "Chat",
            "chat/",
            "chat/a/b",
            "vote",
            "presence",
            "presence/",
            "presence/presence/chat",
            "release",
            "release/",
            "releases/",
            "project",
            "project/",
            "chat/\n",
            "other",
            &format!("chat/{long}x"),
        ] {
            assert_eq!(RoomName::parse(bad), Err(BadRoom), "{bad}");
        }
    }

    #[test]
    fn client_names_are_bounded_in_characters() {
        assert!(ClientId::new(None, &"好".repeat(64)).is_ok());
        assert!(ClientId::new(None, "a/b c").is_ok());
        for bad in ["", "a\u{7}", "\u{85}", &"a".repeat(65)] {
            assert_eq!(ClientId::new(None, bad), Err(BadName));
        }
    }
}
