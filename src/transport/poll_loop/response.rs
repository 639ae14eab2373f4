//! Replies as bytes.

use std::{
    borrow::Cow,
    io::Write,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use chrono::{DateTime, Utc};

use super::super::{refusal::Refusal, reply, send::AnswerForm};
use crate::hub::Batch;

/// The text of the `Date` header, formatted once per second.
#[derive(Default)]
struct Clock {
    second: u64,
    text: String,
}

impl Clock {
    fn date(&mut self, second: u64) -> &str {
        if second != self.second || self.text.is_empty() {
            self.second = second;
            let now = i64::try_from(self.second).ok();
            let now = now.and_then(|second| DateTime::<Utc>::from_timestamp(second, 0));
            // IMF-fixdate, RFC 9110 §5.6.7.
            self.text = now
                .unwrap_or_default()
                .format("%a, %d %b %Y %H:%M:%S GMT")
                .to_string();
        }
        &self.text
    }
}

/// The content of a reply.
#[derive(Clone, Copy)]
pub(super) enum Answer<'a> {
    Batch(&'a Arc<Batch>),
    Refused(&'a Refusal),
    /// The client's message was appended under this number.
    Published(u64, AnswerForm),
}

/// Formats replies, one after the other, in the same two buffers.
#[derive(Default)]
pub(super) struct Answers {
    body: String,
    answer: Vec<u8>,
    clock: Clock,
    /// Seconds since the Unix epoch.
    second: u64,
    /// The reply that `answer` holds: many polls have the same, so it is formatted once.
    made: Option<Made>,
}

struct Made {
    batch: Arc<Batch>,
    close: bool,
    second: u64,
}

impl Answers {
    /// Updates the time for the `Date` header.
    pub(super) fn tick(&mut self) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        self.second = since.unwrap_or_default().as_secs();
    }

    /// Formats a reply; with `close`, the last one of its connection.
    pub(super) fn bytes(&mut self, answer: Answer<'_>, close: bool) -> &[u8] {
        let second = self.second;
        let is_made = |made: &Made, batch| {
            Arc::ptr_eq(&made.batch, batch) && made.close == close && made.second == second
        };
        let made = match answer {
            Answer::Batch(batch) => {
                if self.made.as_ref().is_some_and(|made| is_made(made, batch)) {
                    return &self.answer;
                }
                Some(Made {
                    batch: Arc::clone(batch),
                    close,
                    second,
                })
            }
            Answer::Refused(_) | Answer::Published(..) => None,
        };
        self.shrink();
        self.write(answer, close, second);
        self.made = made;
        &self.answer
    }

    fn write(&mut self, answer: Answer<'_>, close: bool, second: u64) {
        self.body.clear();
        self.answer.clear();
        let mut kind = "application/json";
        let (status, retry): (Cow<'static, str>, _) = match answer {
            Answer::Batch(batch) => {
                reply::write_batch(&mut self.body, batch);
                ("200 OK".into(), None)
            }
            Answer::Published(number, form) => {
                self.body.push_str(&form.body(number));
                kind = form.content_type();
                ("200 OK".into(), None)
            }
            Answer::Refused(refusal) => {
                self.body.push_str(&refusal.body());
                (
                    refusal.code().status().to_string().into(),
                    refusal.retry_seconds(),
                )
            }
        };
        let (out, date, length) = (&mut self.answer, self.clock.date(second), self.body.len());
        // Writing to a Vec cannot fail.
        let _ = write!(
            out,
            "HTTP/1.1 {status}\r\ncontent-length: {length}\r\ncontent-type: {kind}\r\n\
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

    /// Frees the memory of an unusually large reply.
    fn shrink(&mut self) {
        const USUAL: usize = 128 << 10;
        self.body.shrink_to(USUAL);
        self.answer.shrink_to(USUAL);
    }
}
