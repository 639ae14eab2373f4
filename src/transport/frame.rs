//! Outgoing WebSocket frames (RFC 6455 §5), and replies to incoming control frames.

use actix_web::web::Bytes;

use super::{
    frame_reader::Message,
    refusal::{Code, Refusal},
};

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// The most bytes of a control frame.
const CONTROL_BYTES: usize = 125;

/// The status code of a close frame (RFC 6455 §7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    /// The purpose of the connection is fulfilled.
    Normal = 1000,
    /// The server shuts down, or another connection of the client takes over: reconnect.
    Away = 1001,
    /// The input is not a valid WebSocket frame.
    Protocol = 1002,
    /// A binary frame; only text frames are accepted.
    Binary = 1003,
    /// A text that is not UTF-8.
    Garbled = 1007,
    /// The client has no right to read or publish, or has lost it.
    Forbidden = 1008,
    /// The frame is too large.
    TooLarge = 1009,
    /// Full or temporarily out of service: retry later.
    Later = 1013,
}

impl Closing {
    /// The status code for a refusal.
    pub(super) fn of(refusal: &Refusal) -> Closing {
        match refusal.code() {
            Code::TooMany | Code::Unavailable => Closing::Later,
            Code::TooLarge => Closing::TooLarge,
            _ => Closing::Forbidden,
        }
    }
}

/// Encoded frames that are written together.
#[derive(Debug, Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    closed: bool,
    /// A close frame was sent, and the client has not sent its own yet.
    one_sided: bool,
}

impl Frames {
    pub(super) fn text(&mut self, text: &str) {
        self.frame(TEXT, text.as_bytes());
    }

    pub(super) fn ping(&mut self) {
        self.frame(PING, b"");
    }

    /// Adds a close frame. Frames added after it are ignored.
    pub(super) fn close(&mut self, closing: Closing, why: &str) {
        self.say_farewell(closing, why);
        self.one_sided = true;
    }

    fn say_farewell(&mut self, closing: Closing, why: &str) {
        let mut payload = (closing as u16).to_be_bytes().to_vec();
        let end = why.floor_char_boundary(CONTROL_BYTES - payload.len());
        payload.extend_from_slice(&why.as_bytes()[..end]);
        self.frame(CLOSE, &payload);
        self.closed = true;
    }

    /// Ends the socket without a close frame, since the client is gone.
    pub(super) fn hang_up(&mut self) {
        self.closed = true;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// True if the client has not answered the close frame yet.
    pub(super) fn is_one_sided(&self) -> bool {
        self.one_sided
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.bytes.into()
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) {
        const FIN: u8 = 0x80;
        if self.closed {
            return;
        }
        self.bytes.push(FIN | kind);
        match payload.len() {
            small @ 0..126 => self.bytes.push(small as u8),
            middle @ 126..65536 => {
                self.bytes.push(126);
                self.bytes.extend_from_slice(&(middle as u16).to_be_bytes());
            }
            large => {
                self.bytes.push(127);
                self.bytes.extend_from_slice(&(large as u64).to_be_bytes());
            }
        }
        self.bytes.extend_from_slice(payload);
    }

    /// Adds the replies that the protocol requires; returns the text if a text message came.
    pub(super) fn hear(&mut self, heard: Option<Result<Message, Closing>>) -> Option<String> {
        match heard {
            Some(Ok(Message::Text(text))) => return Some(text),
            Some(Ok(Message::Ping(content))) => self.frame(PONG, &content),
            Some(Ok(Message::Pong)) => {}
            Some(Ok(Message::Close)) => self.say_farewell(Closing::Normal, ""),
            Some(Err(Closing::Binary)) => self.close(Closing::Binary, "text frames only"),
            Some(Err(closing)) => self.close(closing, ""),
            None => self.hang_up(),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(length: usize) -> Vec<u8> {
        let mut frames = Frames::default();
        frames.text(&"x".repeat(length));
        frames.into_bytes().to_vec()
    }

    #[test]
    fn each_length_has_its_head() {
        for (length, head) in [
            (0, &[0x81, 0][..]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (65535, &[0x81, 126, 0xff, 0xff]),
            (65536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let frame = text(length);
            assert_eq!(&frame[..head.len()], head, "{length}");
            assert_eq!(frame.len(), head.len() + length);
        }
    }

    #[test]
    fn nothing_follows_a_close_frame_and_its_reason_fits() {
        let mut frames = Frames::default();
        frames.close(Closing::Away, &format!("x{}", "好".repeat(100)));
        frames.text("late");
        assert!(frames.is_closed() && frames.is_one_sided());
        let bytes = frames.into_bytes();
        // Two bytes of code, and whole characters up to 125.
        assert_eq!(&bytes[..4], &[0x88, 123, 0x03, 0xe9]);
        assert_eq!(bytes.len(), 2 + 123);
        assert!(std::str::from_utf8(&bytes[4..]).is_ok());
    }

    #[test]
    fn a_farewell_is_answered_and_a_broken_connection_is_not() {
        let mut frames = Frames::default();
        assert_eq!(frames.hear(Some(Ok(Message::Close))), None);
        assert!(frames.is_closed() && !frames.is_one_sided());
        assert_eq!(&frames.into_bytes()[..], &[0x88, 2, 0x03, 0xe8]);
        let mut frames = Frames::default();
        frames.hear(None);
        assert!(frames.is_closed() && frames.is_empty());
    }
}
