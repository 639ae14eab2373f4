//! One message, encoded as JSON once and shared by every reply that carries it.

use std::{ops::Range, time::Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;

use super::room::RoomName;

/// The subject of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A chat message: `data` is the text.
    Message,
    /// A change of a release's node: `data` is `{"key","state","color","version",…}`.
    Node,
    /// A piece of a node's log: `data` is `{"key","offset","text"}`.
    Log,
    /// A change of a release.
    Release,
    /// A change of a project or a fetch of its refs: `data` is `{"id","what","version",…}`.
    Project,
    /// A vote that was cast or counted.
    Vote,
    /// The people in a room.
    Presence,
}

impl Kind {
    /// All kinds, for tables.
    pub const ALL: [Kind; 7] = [
        Kind::Message,
        Kind::Node,
        Kind::Log,
        Kind::Release,
        Kind::Project,
        Kind::Vote,
        Kind::Presence,
    ];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Message => "message",
            Kind::Node => "node",
            Kind::Log => "log",
            Kind::Release => "release",
            Kind::Project => "project",
            Kind::Vote => "vote",
            Kind::Presence => "presence",
        }
    }

    /// The kind named `word` on the wire.
    pub fn parse(word: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// An accepted message: numbered by the log, immutable, encoded.
#[derive(Debug)]
pub struct Message {
    /// The number in the one log over all rooms; at least 1.
    pub number: u64,
    /// The room it was published to.
    pub room: RoomName,
    /// The subject.
    pub kind: Kind,
    /// The sender: an account, the name a client gave, or empty.
    pub from: String,
    /// The time of acceptance.
    pub at: DateTime<Utc>,
    /// The moment the hub took it; none if it was read from the log.
    pub(super) published: Option<Instant>,
    encoded: Box<str>,
    data: Range<usize>,
}

impl Message {
    /// Creates a message and encodes it.
    pub fn new(
        number: u64,
        room: RoomName,
        kind: Kind,
        from: impl Into<String>,
        data: &Value,
        at: DateTime<Utc>,
    ) -> Message {
        Message::from_json(number, room, kind, from, &data.to_string(), at)
    }

    /// Creates a message whose data is already JSON, as a log keeps it. The text is used unchanged: the
    /// caller guarantees that `data` is one JSON value.
    pub fn from_json(
        number: u64,
        room: RoomName,
        kind: Kind,
        from: impl Into<String>,
        data: &str,
        at: DateTime<Utc>,
    ) -> Message {
        let from = from.into();
        let mut encoded = format!(
            r#"{{"id":"{number}","room":{},"kind":"{}","from":{},"data":"#,
            json_string(room.as_str()),
            kind.as_str(),
            json_string(&from),
        );
        let start = encoded.len();
        encoded.push_str(data);
        let data = start..encoded.len();
        encoded.push_str(r#","at":""#);
        encoded.push_str(&at.to_rfc3339_opts(SecondsFormat::Millis, true));
        encoded.push_str("\"}");
        Message {
            number,
            room,
            kind,
            from,
            at,
            published: None,
            encoded: encoded.into_boxed_str(),
            data,
        }
    }

    /// True if it was published after `moment`.
    pub fn is_newer(&self, moment: Instant) -> bool {
        self.published.is_some_and(|at| at > moment)
    }

    /// The wire's object, `{"id","room","kind","from","data","at"}`.
    pub fn encoded(&self) -> &str {
        &self.encoded
    }

    /// The wire's `data`, as JSON.
    pub fn data(&self) -> &str {
        &self.encoded[self.data.clone()]
    }

    /// The text of a message whose data is a string (chat), decoded; `None` for any other data.
    pub fn text(&self) -> Option<String> {
        serde_json::from_str(self.data()).ok()
    }
}

/// `text` as a JSON string with its quotes.
pub(super) fn json_string(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn is_the_wires_object() {
        let at = DateTime::parse_from_rfc3339("2026-11-22T10:00:00.123456Z")
            .unwrap()
            .to_utc();
        let message = Message::new(
            1043,
            RoomName::chat(),
            Kind::Message,
            "jason",
            &json!("hi"),
            at,
        );
        assert_eq!(
            message.encoded(),
            r#"{"id":"1043","room":"chat","kind":"message","from":"jason","data":"hi","at":"2026-11-22T10:00:00.123Z"}"#
        );
        assert_eq!(message.data(), r#""hi""#);
        assert_eq!(message.text().as_deref(), Some("hi"));
    }

    #[test]
    fn strange_texts_stay_json() {
        let strange = "\"\\\u{0}\u{1b}\u{2028}</script>你好\r\n";
        let room = RoomName::parse("chat/\"\\").unwrap();
        let message = Message::new(1, room, Kind::Message, strange, &json!(strange), Utc::now());
        let read: Value = serde_json::from_str(message.encoded()).unwrap();
        assert_eq!(read["from"], strange);
        assert_eq!(read["data"], strange);
        assert_eq!(read["room"], "chat/\"\\");
        let node = Message::new(
            2,
            RoomName::chat(),
            Kind::Node,
            "",
            &json!({"key": 1}),
            Utc::now(),
        );
        assert_eq!(node.data(), r#"{"key":1}"#);
        assert_eq!(node.text(), None);
    }

    #[test]
    fn kinds_go_there_and_back() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(Kind::parse("Message"), None);
    }
}
