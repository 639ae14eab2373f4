//! One output stream of a command: separates the login's output from the command's.

use std::io::{self, Write};
use std::mem;

use super::command::Stream;
use super::lines::Lines;
use super::script::{Listener, Mark, Origin};

/// The most bytes of a login's output that are passed on: endless output must not fill a log.
const LOGIN_TEXT: usize = 16 << 10;

/// The most characters of it that an error repeats.
const LAST_WORDS: usize = 300;

/// Receives a command's lines.
pub(super) type Tell<'a> = &'a mut dyn FnMut(Stream, &str);

/// One stream.
pub(super) struct Output {
    stream: Stream,
    pub(super) listener: Listener,
    login: Lines,
    login_length: usize,
    last_words: String,
    lines: Lines,
}

impl Output {
    pub(super) fn new(stream: Stream, mark: &Mark) -> Self {
        Self {
            stream,
            listener: Listener::new(mark),
            login: Lines::default(),
            login_length: 0,
            last_words: String::new(),
            lines: Lines::default(),
        }
    }

    /// Processes bytes. The command's output goes to `sink` unchanged, if there is one.
    ///
    /// # Errors
    /// Those of the sink.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        sink: Option<&mut (dyn Write + '_)>,
        tell: Tell<'_>,
    ) -> io::Result<()> {
        let Self {
            listener,
            login,
            lines,
            ..
        } = self;
        let (mut heard, mut taken) = (Vec::new(), Ok(()));
        let mut sink = sink;
        let stream = self.stream;
        listener.feed(bytes, &mut |origin, bytes| match (origin, &mut sink) {
            (Origin::Login, _) => login.feed(bytes, &mut |line| heard.push(line.to_owned())),
            (Origin::Command, Some(sink)) if taken.is_ok() => taken = sink.write_all(bytes),
            (Origin::Command, Some(_)) => {}
            (Origin::Command, None) => lines.feed(bytes, &mut |line| tell(stream, line)),
        });
        for line in heard {
            self.hear_login(&line, tell);
        }
        if self.listener.has_begun {
            self.end_login(tell);
        }
        taken
    }

    /// Passes on the held-back bytes at the stream's end.
    pub(super) fn finish(&mut self, sink: Option<&mut (dyn Write + '_)>, tell: Tell<'_>) {
        let mut rest = Vec::new();
        self.listener
            .finish(&mut |origin, bytes| rest.push((origin, bytes.to_owned())));
        let mut sink = sink;
        for (origin, bytes) in rest {
            match (origin, &mut sink) {
                (Origin::Login, _) => {
                    let mut heard = Vec::new();
                    self.login
                        .feed(&bytes, &mut |line| heard.push(line.to_owned()));
                    heard.iter().for_each(|line| self.hear_login(line, tell));
                }
                // All significant output came before the command's end.
                (Origin::Command, Some(sink)) => drop(sink.write_all(&bytes)),
                (Origin::Command, None) => {
                    let stream = self.stream;
                    self.lines.feed(&bytes, &mut |line| tell(stream, line));
                }
            }
        }
        self.end_login(tell);
        let stream = self.stream;
        self.lines.finish(&mut |line| tell(stream, line));
    }

    /// The end of the login's output, in one line.
    pub(super) fn last_words(&self) -> String {
        let skipped = self.last_words.chars().count().saturating_sub(LAST_WORDS);
        self.last_words.chars().skip(skipped).collect()
    }

    fn end_login(&mut self, tell: Tell<'_>) {
        let mut last = None;
        mem::take(&mut self.login).finish(&mut |line| last = Some(line.to_owned()));
        if let Some(line) = last {
            self.hear_login(&line, tell);
        }
    }

    fn hear_login(&mut self, line: &str, tell: Tell<'_>) {
        let line = plain(line);
        let line = line.trim_end();
        if line.trim().is_empty() || self.login_length > LOGIN_TEXT {
            return;
        }
        self.login_length += line.len();
        let line: String = line.chars().take(LOGIN_TEXT).collect();
        if !self.last_words.is_empty() {
            self.last_words.push_str(" / ");
        }
        self.last_words.push_str(line.trim());
        tell(Stream::Login, &line);
    }
}

/// `line` without control characters and terminal control sequences (ECMA-48 section 5.4, and
/// xterm's operating system commands: titles).
fn plain(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => match characters.next() {
                Some('[') => {
                    characters.find(|next| ('\u{40}'..='\u{7e}').contains(next));
                }
                Some(']' | 'P' | '_' | '^') => {
                    while let Some(next) = characters.next() {
                        if next == '\u{7}' {
                            break;
                        }
                        if next == '\u{1b}' && characters.next_if_eq(&'\\').is_some() {
                            break;
                        }
                    }
                }
                _ => {}
            },
            '\t' => plain.push('\t'),
            character if character.is_control() => {}
            character => plain.push(character),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_and_colours_are_no_words() {
        let line =
            "\u{1b}]0;me@host\u{7}\u{1b}[1;31mWelcome\u{1b}[0m\r\u{1b}]2;x\u{1b}\\ to\u{7} it";
        assert_eq!(plain(line), "Welcome to it");
        assert_eq!(plain("\u{1b}]0;never ended"), "");
        assert_eq!(plain("\u{1b}"), "");
    }
}
