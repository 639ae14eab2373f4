//! Answers as bytes.

use std::{
    borrow::Cow,
    io::Write,
    time::{SystemTime, UNIX_EPOCH},
};

use chrono::{DateTime, Utc};

use super::{
    super::{refusal::Refusal, reply},
    Buffers,
};
use crate::hub::Batch;

/// The text of the `Date` header, made once a second.
#[derive(Default)]
pub(super) struct Clock {
    second: u64,
    text: String,
}

impl Clock {
    fn date(&mut self) -> &str {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        if since.as_secs() != self.second || self.text.is_empty() {
            self.second = since.as_secs();
            let now = i64::try_from(self.second).ok();
            let now = now.and_then(|second| DateTime::<Utc>::from_timestamp(second, 0));
            // RFC 9110, 5.6.7.
            self.text = now
                .unwrap_or_default()
                .format("%a, %d %b %Y %H:%M:%S GMT")
                .to_string();
        }
        &self.text
    }
}

impl Buffers {
    /// Writes an answer into `answer`; the last one of its connection where `close`.
    pub(super) fn write(&mut self, answer: &Result<Batch, Refusal>, close: bool) {
        self.body.clear();
        self.answer.clear();
        let (status, retry): (Cow<'static, str>, _) = match answer {
            Ok(batch) => {
                reply::write_batch(&mut self.body, batch);
                ("200 OK".into(), None)
            }
            Err(refusal) => {
                self.body.push_str(&refusal.body());
                (
                    refusal.code().status().to_string().into(),
                    refusal.retry_seconds(),
                )
            }
        };
        let (out, date, length) = (&mut self.answer, self.clock.date(), self.body.len());
        // Writing to a Vec cannot fail.
        let _ = write!(
            out,
            "HTTP/1.1 {status}\r\ncontent-length: {length}\r\ncontent-type: application/json\r\n\
             cache-control: no-store, no-transform\r\nx-accel-buffering: no\r\ndate: {date}\r\n"
        );
        if let Some(seconds) = retry {
            let _ = write!(out, "retry-after: {seconds}\r\n");
        }
        if close {
            out.extend_from_slice(b"connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(self.body.as_bytes());
    }

    /// Lets go of what an unusually large answer needed.
    pub(super) fn shrink(&mut self) {
        const USUAL: usize = 128 << 10;
        self.body.shrink_to(USUAL);
        self.answer.shrink_to(USUAL);
    }
}
