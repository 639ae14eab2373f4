//! One producer's bytes for many servers, with bounded memory.
//!
//! For several servers the bytes are in an unnamed file, which each reads at its own pace while it
//! grows. For a single server a few pieces are in memory, and nothing is written to disk.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The number of bytes that wait in memory for a single reader.
const AHEAD: usize = 4 << 20;

/// The interval at which a waiting reader or writer checks if it is still wanted.
const GLANCE: Duration = Duration::from_millis(50);

/// A stream that is being written. Clones share it.
#[derive(Clone)]
pub(super) struct Stream(Arc<Shared>);

struct Shared {
    /// `None`: the bytes are in memory, for one reader.
    file: Option<File>,
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Vec<u8>>,
    waiting: usize,
    written: u64,
    /// True if nobody reads any more.
    abandoned: bool,
    /// The end of the writing: success, or the reason of the failure.
    ended: Option<Result<(), String>>,
}

impl Stream {
    /// A stream for any number of readers, in an unnamed file in `folder`.
    pub(super) fn in_file(folder: &Path) -> io::Result<Self> {
        Ok(Self::new(Some(tempfile::tempfile_in(folder)?)))
    }

    /// A stream for a single reader.
    pub(super) fn in_memory() -> Self {
        Self::new(None)
    }

    fn new(file: Option<File>) -> Self {
        Self(Arc::new(Shared {
            file,
            state: Mutex::default(),
            moved: Condvar::new(),
        }))
    }

    pub(super) fn reader(&self) -> Reader {
        Reader {
            stream: self.clone(),
            piece: Vec::new(),
            used: 0,
            at: 0,
        }
    }

    /// Ends the writing with its result.
    pub(super) fn end(&self, result: Result<(), String>) {
        self.state().ended.get_or_insert(result);
        self.0.moved.notify_all();
    }

    /// Ends the writing, since nobody needs it any more.
    pub(super) fn abandon(&self) {
        self.state().abandoned = true;
        self.0.moved.notify_all();
    }

    /// The number of bytes so far; true if these are all.
    pub(super) fn length(&self) -> (u64, bool) {
        let state = self.state();
        (state.written, state.ended.is_some())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let woken = self.0.moved.wait_timeout(state, GLANCE);
        woken.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state();
        while self.0.file.is_none() && state.waiting >= AHEAD && !state.abandoned {
            state = self.wait(state);
        }
        if state.abandoned {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        match &self.0.file {
            Some(file) => {
                let place = state.written;
                // Readers use counted bytes only, and there is one writer.
                drop(state);
                file.write_all_at(bytes, place)?;
                state = self.state();
            }
            None => {
                state.pieces.push_back(bytes.to_vec());
                state.waiting += bytes.len();
            }
        }
        state.written += bytes.len() as u64;
        self.0.moved.notify_all();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a stream from its beginning.
pub(super) struct Reader {
    stream: Stream,
    piece: Vec<u8>,
    used: usize,
    at: u64,
}

impl Reader {
    /// Reads the next bytes; 0 at the end of the stream. Waits for the writer as long as `wanted`
    /// allows, which is called at least every 50 ms.
    pub(super) fn take(
        &mut self,
        buffer: &mut [u8],
        wanted: &mut dyn FnMut() -> io::Result<()>,
    ) -> io::Result<usize> {
        if self.used < self.piece.len() {
            return self.give_piece(buffer);
        }
        let mut state = self.stream.state();
        loop {
            if let Some(piece) = state.pieces.pop_front() {
                state.waiting -= piece.len();
                drop(state);
                self.stream.0.moved.notify_all();
                (self.piece, self.used) = (piece, 0);
                return self.give_piece(buffer);
            }
            if let Some(file) = self
                .stream
                .0
                .file
                .as_ref()
                .filter(|_| state.written > self.at)
            {
                let ready = usize::try_from(state.written - self.at).unwrap_or(usize::MAX);
                drop(state);
                let most = buffer.len().min(ready);
                let count = file.read_at(&mut buffer[..most], self.at)?;
                self.at += count as u64;
                return Ok(count);
            }
            match &state.ended {
                Some(Ok(())) => return Ok(0),
                Some(Err(reason)) => return Err(io::Error::other(reason.clone())),
                None => {}
            }
            wanted()?;
            state = self.stream.wait(state);
        }
    }

    fn give_piece(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut rest = self.piece.get(self.used..).unwrap_or_default();
        let count = rest.read(buffer)?;
        self.used += count;
        self.at += count as u64;
        Ok(count)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.stream.0.file.is_none() {
            self.stream.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn read_all(mut reader: Reader) -> io::Result<Vec<u8>> {
        let (mut all, mut buffer) = (Vec::new(), vec![0; 70_000]);
        loop {
            match reader.take(&mut buffer, &mut || Ok(()))? {
                0 => return Ok(all),
                count => all.extend_from_slice(&buffer[..count]),
            }
        }
    }

    fn content() -> Vec<u8> {
        (0..AHEAD as u32)
            .flat_map(|number| number.to_le_bytes())
            .collect()
    }

    #[test]
    fn many_readers_get_what_one_wrote_whenever_they_come() {
        let folder = tempfile::tempdir().unwrap();
        let stream = Stream::in_file(folder.path()).unwrap();
        let expected = content();
        thread::scope(|scope| {
            let early = scope.spawn(|| read_all(stream.reader()));
            let mut writer = stream.clone();
            for piece in expected.chunks(100_000) {
                writer.write_all(piece).unwrap();
            }
            stream.end(Ok(()));
            assert!(early.join().unwrap().unwrap() == expected);
            assert!(read_all(stream.reader()).unwrap() == expected);
        });
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_single_reader_needs_no_disk_and_holds_the_writer_back() {
        let stream = Stream::in_memory();
        let expected = content();
        thread::scope(|scope| {
            let mut writer = stream.clone();
            let (stream, expected) = (&stream, &expected);
            scope.spawn(move || {
                for piece in expected.chunks(100_000) {
                    writer.write_all(piece).unwrap();
                }
                stream.end(Ok(()));
            });
            let mut reader = stream.reader();
            let mut first = [0; 1];
            assert_eq!(reader.take(&mut first, &mut || Ok(())).unwrap(), 1);
            assert!(stream.state().waiting <= AHEAD + 100_000);
            assert!(read_all(reader).unwrap() == expected[1..]);
        });
    }

    #[test]
    fn a_writer_that_nobody_reads_ends_and_a_failure_is_told() {
        let stream = Stream::in_memory();
        drop(stream.reader());
        assert!(stream.clone().write_all(b"x").is_err());
        let stream = Stream::in_memory();
        stream.end(Err("the mirror is gone".into()));
        let error = read_all(stream.reader()).unwrap_err();
        assert_eq!(error.to_string(), "the mirror is gone");
    }
}
