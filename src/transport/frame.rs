//! WebSocket frames on their way out, and what may come in.

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

/// Why a socket is closed, as the close frame says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    /// Both are done.
    Normal = 1000,
    /// The server goes down, or another connection takes over: come back.
    Away = 1001,
    /// What came is no WebSocket frame.
    Protocol = 1002,
    /// Binary frames mean nothing here.
    Binary = 1003,
    /// A text that is not UTF-8.
    Garbled = 1007,
    /// No right (any more).
    Forbidden = 1008,
    /// The frame is too large.
    TooLarge = 1009,
    /// Full, or out of order: come back later.
    Later = 1013,
}

impl Closing {
    /// How a refused stream ends.
    pub(super) fn of(refusal: &Refusal) -> Closing {
        match refusal.code() {
            Code::TooMany | Code::Unavailable => Closing::Later,
            Code::TooLarge => Closing::TooLarge,
            _ => Closing::Forbidden,
        }
    }
}

/// Frames, ready to be written in one piece.
#[derive(Debug, Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    closed: bool,
    /// The client has not said its farewell yet.
    one_sided: bool,
}

impl Frames {
    pub(super) fn text(&mut self, text: &str) {
        self.frame(TEXT, text.as_bytes());
    }

    pub(super) fn ping(&mut self) {
        self.frame(PING, b"");
    }

    /// The last frame; what is added behind it is passed over.
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

    /// Nothing more is said, and no close frame either: the client is gone.
    pub(super) fn hang_up(&mut self) {
        self.closed = true;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether the client is still to answer the close frame.
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

    /// Answers what the protocol itself wants answered; gives the text that is for the client's
    /// counterpart to answer.
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
