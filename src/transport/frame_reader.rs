//! Incoming WebSocket frames (RFC 6455 §5): pure. A frame is validated at its header, before its
//! payload arrives, and at most one message is buffered.

use super::frame::Closing;

/// The most bytes of a control frame (RFC 6455 §5.5).
const CONTROL_BYTES: u64 = 125;
/// The longest header: 2 bytes, 8 bytes of extended length, 4 bytes of mask.
const HEADER_BYTES: usize = 14;

/// A whole message or control frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// A complete text message.
    Text(String),
    /// A ping with its payload, which the pong repeats.
    Ping(Vec<u8>),
    /// A pong.
    Pong,
    /// The client's close frame.
    Close,
}

/// Decodes the frames of one connection from chunks of any size.
#[derive(Debug)]
pub(super) struct FrameReader {
    /// The most bytes of a message.
    limit: u64,
    header: Vec<u8>,
    frame: Option<Frame>,
    /// The text so far, until its final fragment arrives.
    text: Option<Vec<u8>>,
    control: Vec<u8>,
}

/// A frame with a valid header.
#[derive(Clone, Copy, Debug)]
struct Frame {
    kind: Kind,
    is_last: bool,
    mask: [u8; 4],
    length: u64,
    read: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Continuation,
    Text,
    Close,
    Ping,
    Pong,
}

impl FrameReader {
    /// A reader for messages of at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit: limit as u64,
            header: Vec::with_capacity(HEADER_BYTES),
            frame: None,
            text: None,
            control: Vec::new(),
        }
    }

    /// Consumes `bytes` up to the end of the next message; `None` if they end before it.
    ///
    /// # Errors
    /// The status code to close the socket with. The reader cannot be used after that, since the
    /// start of the next frame is unknown.
    pub(super) fn read(&mut self, bytes: &mut &[u8]) -> Result<Option<Message>, Closing> {
        loop {
            let Some(mut frame) = self.frame else {
                if !self.take_header(bytes)? {
                    return Ok(None);
                }
                continue;
            };
            self.take_content(&mut frame, bytes);
            if frame.read < frame.length {
                self.frame = Some(frame);
                return Ok(None);
            }
            self.frame = None;
            if let Some(message) = self.end_frame(frame)? {
                return Ok(Some(message));
            }
        }
    }

    /// Consumes the rest of a header; true if it is complete.
    fn take_header(&mut self, bytes: &mut &[u8]) -> Result<bool, Closing> {
        while let Some((byte, rest)) = bytes.split_first() {
            self.header.push(*byte);
            *bytes = rest;
            if let Some(frame) = self.judge()? {
                self.header.clear();
                self.frame = Some(frame);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Validates a header as soon as the byte that decides is there.
    fn judge(&self) -> Result<Option<Frame>, Closing> {
        const FIN: u8 = 0x80;
        const RESERVED: u8 = 0x70;
        const MASKED: u8 = 0x80;
        let first = self.header[0];
        let kind = match first & 0x0f {
            _ if first & RESERVED != 0 => return Err(Closing::Protocol),
            0 => Kind::Continuation,
            1 => Kind::Text,
            2 => return Err(Closing::Binary),
            8 => Kind::Close,
            9 => Kind::Ping,
            10 => Kind::Pong,
            _ => return Err(Closing::Protocol),
        };
        let is_last = first & FIN != 0;
        let is_in_place = match kind {
            Kind::Continuation => self.text.is_some(),
            Kind::Text => self.text.is_none(),
            Kind::Close | Kind::Ping | Kind::Pong => is_last,
        };
        if !is_in_place {
            return Err(Closing::Protocol);
        }
        let Some(second) = self.header.get(1) else {
            return Ok(None);
        };
        if second & MASKED == 0 {
            return Err(Closing::Protocol);
        }
        let short = u64::from(second & 0x7f);
        if kind.is_control() && short > CONTROL_BYTES {
            return Err(Closing::Protocol);
        }
        let extended = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some((length, mask)) = self.header[2..].split_at_checked(extended) else {
            return Ok(None);
        };
        let length = match extended {
            0 => short,
            _ => length
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        if length > i64::MAX as u64 {
            return Err(Closing::Protocol);
        }
        let before = self.text.as_ref().map_or(0, |text| text.len() as u64);
        if !kind.is_control() && length > self.limit - before {
            return Err(Closing::TooLarge);
        }
        Ok(mask.try_into().ok().map(|mask| Frame {
            kind,
            is_last,
            mask,
            length,
            read: 0,
        }))
    }

    fn take_content(&mut self, frame: &mut Frame, bytes: &mut &[u8]) {
        let missing = usize::try_from(frame.length - frame.read).unwrap_or(usize::MAX);
        let (content, rest) = bytes.split_at(missing.min(bytes.len()));
        let into = match frame.kind.is_control() {
            true => &mut self.control,
            false => self.text.get_or_insert_default(),
        };
        let masks = frame.mask.iter().cycle().skip((frame.read % 4) as usize);
        into.extend(content.iter().zip(masks).map(|(byte, mask)| byte ^ mask));
        frame.read += content.len() as u64;
        *bytes = rest;
    }

    fn end_frame(&mut self, frame: Frame) -> Result<Option<Message>, Closing> {
        match frame.kind {
            Kind::Continuation | Kind::Text => {
                if !frame.is_last {
                    return Ok(None);
                }
                let text = self.text.take().unwrap_or_default();
                let text = String::from_utf8(text).map_err(|_| Closing::Garbled)?;
                Ok(Some(Message::Text(text)))
            }
            Kind::Ping => Ok(Some(Message::Ping(std::mem::take(&mut self.control)))),
            Kind::Pong => {
                self.control.clear();
                Ok(Some(Message::Pong))
            }
            Kind::Close => judge_close(&std::mem::take(&mut self.control)).map(Some),
        }
    }
}

impl Kind {
    fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// Validates the payload of a close frame: empty, or a status code that may be sent (RFC 6455 §7.4)
/// and a UTF-8 text.
fn judge_close(content: &[u8]) -> Result<Message, Closing> {
    let Some((code, text)) = content.split_first_chunk::<2>() else {
        return match content {
            [] => Ok(Message::Close),
            _ => Err(Closing::Protocol),
        };
    };
    if !matches!(u16::from_be_bytes(*code), 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Closing::Protocol);
    }
    match std::str::from_utf8(text) {
        Ok(_) => Ok(Message::Close),
        Err(_) => Err(Closing::Garbled),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 100;

    fn frame(first: u8, content: &[u8]) -> Vec<u8> {
        let mask = [7, 11, 13, 17];
        let mut frame = vec![first];
        match content.len() {
            small @ 0..126 => frame.push(0x80 | small as u8),
            middle => {
                frame.push(0x80 | 126);
                frame.extend((middle as u16).to_be_bytes());
            }
        }
        frame.extend(mask);
        frame.extend(content.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
        frame
    }

    fn read(bytes: &[u8]) -> Result<Option<Message>, Closing> {
        FrameReader::new(LIMIT).read(&mut &bytes[..])
    }

    #[test]
    fn a_header_alone_decides() {
        let announced = |first: u8, length: u64| {
            let mut header = vec![first, 0xff];
            header.extend(length.to_be_bytes());
            header
        };
        for (header, closing) in [
            (announced(0x81, 1 << 40), Closing::TooLarge),
            (announced(0x81, LIMIT as u64 + 1), Closing::TooLarge),
            (announced(0x01, LIMIT as u64 + 1), Closing::TooLarge),
            (announced(0x81, u64::MAX), Closing::Protocol),
            (announced(0x89, 1 << 62), Closing::Protocol),
            (vec![0x89, 0xfe], Closing::Protocol),
            (vec![0x88, 0xff], Closing::Protocol),
            (vec![0x09], Closing::Protocol),
            (vec![0x80], Closing::Protocol),
            (vec![0x81, 0x05], Closing::Protocol),
            (vec![0xc1], Closing::Protocol),
            (vec![0xa1], Closing::Protocol),
            (vec![0x91], Closing::Protocol),
            (vec![0x83], Closing::Protocol),
            (vec![0x8b], Closing::Protocol),
            (vec![0x82], Closing::Binary),
        ] {
            assert_eq!(read(&header), Err(closing), "{header:02x?}");
        }
    }

    #[test]
    fn pieces_are_bounded_together_and_in_order() {
        let half = vec![b'x'; LIMIT / 2];
        let whole = [frame(0x01, &half), frame(0x89, b"hi"), frame(0x80, &half)].concat();
        let (mut reader, mut bytes) = (FrameReader::new(LIMIT), &whole[..]);
        let ping = reader.read(&mut bytes);
        assert_eq!(ping, Ok(Some(Message::Ping(b"hi".to_vec()))));
        let text = Message::Text("x".repeat(LIMIT));
        assert_eq!(reader.read(&mut bytes), Ok(Some(text)));
        let large = [frame(0x01, &half), frame(0x00, &half), frame(0x80, b"x")].concat();
        assert_eq!(read(&large), Err(Closing::TooLarge));
        let twice = [frame(0x01, b"x"), frame(0x81, b"x")].concat();
        assert_eq!(read(&twice), Err(Closing::Protocol));
    }

    #[test]
    fn a_close_frame_is_judged() {
        for (content, judged) in [
            (&b""[..], Ok(Some(Message::Close))),
            (&[3, 0xe8, b'b', b'y', b'e'], Ok(Some(Message::Close))),
            (&[3], Err(Closing::Protocol)),
            (&[3, 0xed], Err(Closing::Protocol)),
            (&[0, 1], Err(Closing::Protocol)),
            (&[3, 0xe8, 0xff], Err(Closing::Garbled)),
        ] {
            assert_eq!(read(&frame(0x88, content)), judged, "{content:?}");
        }
        assert_eq!(read(&frame(0x81, &[0xc3])), Err(Closing::Garbled));
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_same_is_read(
            texts in proptest::collection::vec("\\PC{0,25}", 1..5),
            cut in 1_usize..40,
        ) {
            let sent: Vec<u8> = texts.iter().flat_map(|text| frame(0x81, text.as_bytes())).collect();
            let (mut reader, mut read) = (FrameReader::new(LIMIT), Vec::new());
            for mut piece in sent.chunks(cut) {
                while let Some(message) = reader.read(&mut piece).unwrap() {
                    read.push(message);
                }
            }
            let sought: Vec<Message> = texts.into_iter().map(Message::Text).collect();
            prop_assert_eq!(read, sought);
        }
    }
}
