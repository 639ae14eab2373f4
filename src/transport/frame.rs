//! WebSocket frames on their way out, and what may come in.

use actix_web::web::Bytes;
use actix_ws::{AggregatedMessage, ProtocolError};

use super::refusal::{Code, Refusal};

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
    pub(super) fn hear(
        &mut self,
        heard: Option<Result<AggregatedMessage, ProtocolError>>,
    ) -> Option<String> {
        match heard {
            Some(Ok(AggregatedMessage::Text(text))) => return Some(text.to_string()),
            Some(Ok(AggregatedMessage::Ping(payload))) => self.frame(PONG, &payload),
            Some(Ok(AggregatedMessage::Pong(_))) => {}
            Some(Ok(AggregatedMessage::Binary(_))) => {
                self.close(Closing::Binary, "text frames only");
            }
            Some(Ok(AggregatedMessage::Close(_))) => self.close(Closing::Normal, ""),
            Some(Err(error)) => self.close(fault(&error), ""),
            None => self.hang_up(),
        }
        None
    }
}

fn fault(error: &ProtocolError) -> Closing {
    match error {
        ProtocolError::Overflow => Closing::TooLarge,
        ProtocolError::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Closing::Garbled
        }
        // The pieces of one message together; or a connection that broke, where nobody hears it.
        ProtocolError::Io(_) => Closing::TooLarge,
        _ => Closing::Protocol,
    }
}
