//! A node's log: an append-only file, whose new pieces are sent to the release's room.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::error::DeployError;
use super::recorder::Recorder;
use crate::store::{ReleaseId, StoreError};

/// The time for which a line may wait to be sent together with later ones.
const LINGER: Duration = Duration::from_millis(100);
/// The largest piece in one message, in bytes.
const PIECE: usize = 16 << 10;
/// The part of a full log that is kept for its end, as a divisor.
const END_PART: u64 = 8;
/// The most that one answer of the API carries, in bytes.
const ANSWER: u64 = 1 << 20;

/// A piece of a node's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeLog {
    /// The node.
    pub key: String,
    /// The position of the start of `text`, in bytes.
    pub offset: u64,
    /// The position of the end of `text`, in bytes: the offset for the next request.
    pub end: u64,
    /// True if more text is available.
    pub more: bool,
    /// The text itself.
    pub text: String,
}

/// Reads a node's log from byte `offset` on. The log of a node without output is empty.
pub(super) fn read(path: &Path, key: &str, offset: u64) -> Result<NodeLog, DeployError> {
    let mut piece = NodeLog {
        key: key.to_owned(),
        offset,
        end: offset,
        more: false,
        text: String::new(),
    };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(piece),
        Err(error) => return Err(DeployError::file(path)(error)),
    };
    let mut bytes = Vec::new();
    let read = file
        .seek(SeekFrom::Start(offset))
        .and_then(|_| file.take(ANSWER).read_to_end(&mut bytes))
        .map_err(DeployError::file(path))?;
    // A piece ends between characters. The file holds whole characters, so only a full answer can cut
    // one.
    let whole = match std::str::from_utf8(&bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => read,
    };
    bytes.truncate(whole);
    piece.end = offset + whole as u64;
    piece.more = read as u64 == ANSWER;
    piece.text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(piece)
}

/// The path of a node's log.
pub(super) fn path(folder: &Path, release: ReleaseId, key: &str) -> PathBuf {
    folder.join(release.to_string()).join(format!("{key}.log"))
}

/// The logs of one release's nodes. Lines in quick succession are written and sent together by a
/// thread.
pub(super) struct LogBook {
    shared: Arc<Shared>,
    sender: Option<thread::JoinHandle<()>>,
}

struct Shared {
    folder: PathBuf,
    release: ReleaseId,
    recorder: Recorder,
    /// The size limit of a node's log, in bytes.
    limit: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Output that is not written yet, in order.
    waiting: Vec<(String, String)>,
    /// The fill of each node's log.
    nodes: HashMap<String, Fill>,
    closed: bool,
}

/// The fill of a node's log. After all but the end part of the limit is used, only the newest lines
/// are held back for the log's end, where the reason of a failure is.
#[derive(Default)]
struct Fill {
    length: u64,
    end: VecDeque<String>,
    end_length: u64,
    left_out: u64,
}

impl Fill {
    /// Returns the line if it belongs into the log now, with a limit of `limit` bytes.
    fn take(&mut self, line: &str, limit: u64) -> Option<String> {
        let end_limit = limit / END_PART;
        let text = format!("{line}\n");
        let length = text.len() as u64;
        if self.end.is_empty() && self.left_out == 0 && self.length + length <= limit - end_limit {
            self.length += length;
            return Some(text);
        }
        self.end_length += length;
        self.end.push_back(text);
        while self.end_length > end_limit
            && let Some(oldest) = self.end.pop_front()
        {
            self.end_length -= oldest.len() as u64;
            self.left_out += 1;
        }
        None
    }

    /// The lines held back.
    fn finish(&mut self) -> Option<String> {
        if self.end.is_empty() && self.left_out == 0 {
            return None;
        }
        let mut text = match self.left_out {
            0 => String::new(),
            lines => format!("[{lines} lines are left out here]\n"),
        };
        self.end.drain(..).for_each(|line| text.push_str(&line));
        Some(text)
    }
}

impl LogBook {
    pub(super) fn open(
        folder: &Path,
        release: ReleaseId,
        recorder: Recorder,
        limit: u64,
    ) -> io::Result<Self> {
        fs::create_dir_all(folder.join(release.to_string()))?;
        let shared = Arc::new(Shared {
            folder: folder.to_owned(),
            release,
            recorder,
            limit,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let sender = {
            let shared = shared.clone();
            thread::Builder::new()
                .name(format!("log-{release}"))
                .spawn(move || shared.send())?
        };
        Ok(Self {
            shared,
            sender: Some(sender),
        })
    }

    /// Adds a line to a node's log.
    pub(super) fn line(&self, key: &str, line: &str) {
        let mut state = self.shared.lock();
        let fill = state.nodes.entry(key.to_owned()).or_default();
        if let Some(text) = fill.take(line, self.shared.limit) {
            state.say(key, &text);
            drop(state);
            self.shared.changed.notify_one();
        }
    }

    /// Ends a node's log: writes the lines held back.
    pub(super) fn finish(&self, key: &str) {
        let mut state = self.shared.lock();
        if let Some(text) = state.nodes.remove(key).and_then(|mut fill| fill.finish()) {
            state.say(key, &text);
            drop(state);
            self.shared.changed.notify_one();
        }
    }
}

impl State {
    fn say(&mut self, key: &str, text: &str) {
        match self.waiting.last_mut() {
            Some((last, before)) if last == key && before.len() < PIECE => before.push_str(text),
            _ => self.waiting.push((key.to_owned(), text.to_owned())),
        }
    }
}

impl Drop for LogBook {
    /// Writes and sends the rest.
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
        if let Some(sender) = self.sender.take() {
            let _ = sender.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self) {
        let mut unwritten: VecDeque<(String, String)> = VecDeque::new();
        loop {
            let state = self.lock();
            let is_idle = |state: &mut State| {
                state.waiting.is_empty() && !state.closed && unwritten.is_empty()
            };
            let mut state = self
                .changed
                .wait_while(state, is_idle)
                .unwrap_or_else(PoisonError::into_inner);
            let was_behind = !unwritten.is_empty();
            unwritten.extend(std::mem::take(&mut state.waiting));
            let closed = state.closed;
            drop(state);
            if let Err(error) = self.write_in_order(&mut unwritten)
                && (closed || !was_behind)
            {
                tracing::error!(release = %self.release, %error, "log not written");
            }
            if closed {
                return;
            }
            // The end of a release does not wait for more lines.
            let _ = self
                .changed
                .wait_timeout_while(self.lock(), LINGER, |state| !state.closed)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Writes and announces `pieces` from the oldest on until one cannot be written. That one and
    /// those behind it stay, since the disk may have space later.
    fn write_in_order(&self, pieces: &mut VecDeque<(String, String)>) -> Result<(), DeployError> {
        while let Some((key, text)) = pieces.front() {
            let offset = self.write(key, text)?;
            if let Err(error) = self.announce(key, offset, text) {
                // A reader of the file misses nothing.
                tracing::warn!(release = %self.release, node = key, %error, "log not announced");
            }
            pieces.pop_front();
        }
        Ok(())
    }

    /// Appends `text` to a node's log, whole or not at all. Returns its offset.
    fn write(&self, key: &str, text: &str) -> Result<u64, DeployError> {
        let path = path(&self.folder, self.release, key);
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(DeployError::file(&path))?;
        let offset = file
            .seek(SeekFrom::End(0))
            .map_err(DeployError::file(&path))?;
        if let Err(cause) = file.write_all(text.as_bytes()) {
            file.set_len(offset).map_err(DeployError::file(&path))?;
            return Err(DeployError::file(&path)(cause));
        }
        Ok(offset)
    }

    fn announce(&self, key: &str, mut offset: u64, text: &str) -> Result<(), StoreError> {
        for piece in pieces(text) {
            self.recorder.log_text(key, offset, piece)?;
            offset += piece.len() as u64;
        }
        Ok(())
    }
}

/// Cuts `text` between characters into pieces of at most [`PIECE`] bytes.
fn pieces(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (piece, rest) = text.split_at(text.floor_char_boundary(PIECE));
        text = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_bounded_and_lose_nothing() {
        let text = "发布".repeat(20_000);
        let cut: Vec<&str> = pieces(&text).collect();
        assert!(cut.iter().all(|piece| piece.len() <= PIECE));
        assert_eq!(cut.concat(), text);
    }

    #[test]
    fn a_long_log_keeps_its_beginning_and_its_end() {
        let mut fill = Fill::default();
        let mut kept = String::new();
        for number in 0..1000 {
            kept.extend(fill.take(&format!("line {number}"), 800));
        }
        kept.extend(fill.finish());
        assert!(kept.starts_with("line 0\nline 1\n"));
        assert!(kept.ends_with("line 998\nline 999\n"));
        let lines = kept.lines().count() as u64 - 1;
        assert!(kept.contains(&format!("[{} lines are left out here]\n", 1000 - lines)));
        assert!(kept.len() < 850);

        let mut short = Fill::default();
        let all: Vec<_> = (0..3).map(|_| short.take("x", 800)).collect();
        assert!(all.iter().all(Option::is_some) && short.finish().is_none());
    }

    #[test]
    fn a_log_is_read_from_any_offset_and_a_silent_node_has_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("zip.log");
        assert_eq!(read(&file, "zip", 0).unwrap().text, "");
        fs::write(&file, "first\nsecond\n").unwrap();
        let piece = read(&file, "zip", 6).unwrap();
        assert_eq!(
            (piece.text.as_str(), piece.end, piece.more),
            ("second\n", 13, false)
        );
    }

    #[test]
    fn a_long_log_is_read_in_whole_characters() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("zip.log");
        let text = format!("a{}", "发".repeat(400_000));
        fs::write(&file, &text).unwrap();
        let mut all = String::new();
        let mut offset = 0;
        loop {
            let piece = read(&file, "zip", offset).unwrap();
            all.push_str(&piece.text);
            offset = piece.end;
            if !piece.more {
                break;
            }
        }
        assert!(all == text);
    }
}
