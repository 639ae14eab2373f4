//! Tolerant reading of commits and tags. libgit2 rejects a commit or tag if it cannot parse its
//! people, and git hosts have many of these: git itself only warns (git-fsck(1), `badEmail`). Here
//! a commit needs its tree and nothing else.

use encoding_rs::Encoding;
use git2::{ErrorClass, ErrorCode, ObjectType, Odb, Oid, Repository};

/// The longest chain of tags that is followed.
const MAX_TAGS: usize = 64;

/// A commit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CommitObject {
    pub(super) id: Oid,
    pub(super) tree: Oid,
    pub(super) parents: Vec<Oid>,
    /// The commit time, in seconds since 1970; 0 if it cannot be read, as in git.
    pub(super) seconds: i64,
    /// The committer's time zone, in minutes east of Greenwich.
    pub(super) offset_minutes: i32,
    author: Vec<u8>,
    encoding: Option<Vec<u8>>,
    message: Vec<u8>,
}

impl CommitObject {
    /// Reads the commit `id`.
    ///
    /// # Errors
    /// `NotFound` if no object or another kind of object has that id.
    pub(super) fn find(repository: &Repository, id: Oid) -> Result<Self, git2::Error> {
        Self::read(&repository.odb()?, id)
    }

    /// [`find`](Self::find) in an open database.
    pub(super) fn read(odb: &Odb<'_>, id: Oid) -> Result<Self, git2::Error> {
        let object = odb.read(id)?;
        if object.kind() != ObjectType::Commit {
            let code = ErrorCode::NotFound;
            return Err(git2::Error::new(code, ErrorClass::Object, "not a commit"));
        }
        Self::parse(id, object.data()).ok_or_else(|| {
            let reason = format!("the commit {id} names no tree");
            git2::Error::new(ErrorCode::Invalid, ErrorClass::Object, reason)
        })
    }

    fn parse(id: Oid, data: &[u8]) -> Option<Self> {
        let end = data.windows(2).position(|pair| pair == b"\n\n");
        let (head, message) = match end {
            Some(end) => (&data[..end], &data[end + 2..]),
            None => (data, &[][..]),
        };
        let mut lines = head.split(|byte| *byte == b'\n');
        let tree = oid(lines.next()?.strip_prefix(b"tree ")?)?;
        let mut commit = Self {
            id,
            tree,
            parents: Vec::new(),
            seconds: 0,
            offset_minutes: 0,
            author: Vec::new(),
            encoding: None,
            message: message.to_owned(),
        };
        let mut has_author = false;
        for line in lines {
            if let Some(parent) = line.strip_prefix(b"parent ").and_then(oid) {
                commit.parents.push(parent);
            } else if let Some(person) = line.strip_prefix(b"author ") {
                // Some tools wrote several; the first counts.
                if !std::mem::replace(&mut has_author, true) {
                    commit.author = name(person).to_owned();
                }
            } else if let Some(person) = line.strip_prefix(b"committer ") {
                (commit.seconds, commit.offset_minutes) = time(person).unwrap_or_default();
            } else if let Some(label) = line.strip_prefix(b"encoding ") {
                commit.encoding = Some(label.to_owned());
            }
        }
        Some(commit)
    }

    /// The author's name.
    pub(super) fn author(&self) -> String {
        self.decoded(&self.author)
    }

    /// The message's first paragraph, on one line.
    pub(super) fn summary(&self) -> String {
        let text = self.decoded(&self.message);
        let paragraph = text
            .lines()
            .map(str::trim)
            .skip_while(|line| line.is_empty());
        let lines: Vec<&str> = paragraph.take_while(|line| !line.is_empty()).collect();
        lines.join(" ")
    }

    /// A text of the commit in the encoding that its header names; UTF-8 if it names none or an
    /// unknown one (git-commit(1), "Discussion").
    fn decoded(&self, text: &[u8]) -> String {
        let named = self
            .encoding
            .as_deref()
            .and_then(|label| Encoding::for_label_no_replacement(label));
        match named {
            Some(encoding) => encoding.decode_without_bom_handling(text).0.into_owned(),
            None => String::from_utf8_lossy(text).into_owned(),
        }
    }
}

/// The commit that `id` leads to, through any tags; `None` if it leads to a tree or a file.
///
/// # Errors
/// `NotFound` if an object on the way is missing.
pub(super) fn commit_of(odb: &Odb<'_>, mut id: Oid) -> Result<Option<Oid>, git2::Error> {
    for _ in 0..MAX_TAGS {
        match odb.read_header(id)?.1 {
            ObjectType::Commit => return Ok(Some(id)),
            ObjectType::Tag => match tagged(odb.read(id)?.data()) {
                Some(target) => id = target,
                None => return Ok(None),
            },
            _ => return Ok(None),
        }
    }
    Ok(None)
}

/// The shortest prefix of `id`, of seven digits or more, that no other object has.
pub(super) fn short(odb: &Odb<'_>, id: Oid) -> Result<String, git2::Error> {
    const LEAST: usize = 7;
    let whole = id.to_string();
    for length in LEAST..whole.len() {
        let prefix = Oid::from_str(&whole[..length])?;
        match odb.exists_prefix(prefix, length) {
            Err(error) if error.code() == ErrorCode::Ambiguous => {}
            found => return found.map(|_| whole[..length].to_owned()),
        }
    }
    Ok(whole)
}

/// The object that an annotated tag names, at its start.
fn tagged(data: &[u8]) -> Option<Oid> {
    let line = data.split(|byte| *byte == b'\n').next()?;
    oid(line.strip_prefix(b"object ")?)
}

fn oid(digits: &[u8]) -> Option<Oid> {
    let text = std::str::from_utf8(digits).ok()?;
    (text.len() == 40).then(|| Oid::from_str(text).ok())?
}

/// The name in `Name <address> seconds zone`. Without brackets, everything before the time is the
/// name.
fn name(person: &[u8]) -> &[u8] {
    let end = person.iter().position(|byte| *byte == b'<');
    let name = match end {
        Some(end) => &person[..end],
        None => before_time(person),
    };
    name.trim_ascii()
}

fn before_time(person: &[u8]) -> &[u8] {
    let spaces = person.iter().rposition(|byte| *byte == b' ');
    let zone = spaces.filter(|at| matches!(person.get(at + 1), Some(b'+' | b'-')));
    let rest = &person[..zone.unwrap_or(person.len())];
    match rest.iter().rposition(|byte| *byte == b' ') {
        Some(at) if zone.is_some() && rest[at + 1..].iter().all(u8::is_ascii_digit) => &rest[..at],
        _ => rest,
    }
}

/// The seconds, and the zone in minutes, after the address.
fn time(person: &[u8]) -> Option<(i64, i32)> {
    let behind = person
        .iter()
        .rposition(|byte| *byte == b'>')
        .map_or(0, |at| at + 1);
    let text = std::str::from_utf8(&person[behind..]).ok()?;
    let mut words = text.split_ascii_whitespace().rev();
    let (last, before) = (words.next()?, words.next());
    let (seconds, zone) = match before {
        Some(seconds) => (seconds, last),
        None => (last, "+0000"),
    };
    let zone: i32 = zone.parse().unwrap_or(0);
    Some((seconds.parse().ok()?, zone / 100 * 60 + zone % 100))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

    fn read(head: &[u8], message: &[u8]) -> CommitObject {
        let data = [b"tree ", TREE.as_bytes(), b"\n", head, b"\n\n", message].concat();
        CommitObject::parse(Oid::ZERO_SHA1, &data).unwrap()
    }

    #[test]
    fn people_are_read_however_they_are_written() {
        for (line, author) in [
            (&b"author Ann <ann@example.com> 1700000000 +0800"[..], "Ann"),
            (
                b"author Ann ann@example.com 1700000000 +0800",
                "Ann ann@example.com",
            ),
            (b"author Ann <ann@example.com 1700000000 +0800", "Ann"),
            (b"author  <> 1 +0000", ""),
            (b"author Ann", "Ann"),
            (b"author A <a@b> 1 +0000\nauthor B <b@b> 2 +0000", "A"),
            (b"gpgsig nobody", ""),
        ] {
            assert_eq!(read(line, b"").author(), author, "{line:?}");
        }
        for (line, time) in [
            (
                &b"committer A <a@b> 1700000000 +0800"[..],
                (1_700_000_000, 480),
            ),
            (b"committer A <a@b> 1700000000 -0330", (1_700_000_000, -210)),
            (b"committer A <a@b> -5 +0000", (-5, 0)),
            (b"committer A <a@b> soon", (0, 0)),
            (b"committer A a@b 12 +0100", (12, 60)),
            (b"committer", (0, 0)),
        ] {
            let commit = read(line, b"");
            assert_eq!((commit.seconds, commit.offset_minutes), time, "{line:?}");
        }
    }

    #[test]
    fn text_is_read_in_the_encoding_that_the_header_names() {
        for (encoding, message, summary) in [
            (&b"encoding GBK"[..], &b"\xd0\xde\xb8\xb4"[..], "修复"),
            (b"encoding GB18030", b"\xd0\xde\xb8\xb4", "修复"),
            (b"encoding ISO-8859-1", b"d\xe9j\xe0 vu", "déjà vu"),
            (b"encoding latin1", b"d\xe9j\xe0 vu", "déjà vu"),
            (b"encoding SHIFT_JIS", b"\x8f\x43\x90\xb3", "修正"),
            (b"encoding klingon", "修复".as_bytes(), "修复"),
            (b"encoding UTF-8", "修复".as_bytes(), "修复"),
            (b"x none", b"\xff", "\u{fffd}"),
        ] {
            assert_eq!(read(encoding, message).summary(), summary, "{encoding:?}");
        }
        let commit = read(b"author \xd0\xde <a@b> 1 +0000\nencoding gbk", b"");
        assert_eq!(commit.author(), "修");
    }

    #[test]
    fn a_summary_is_the_first_paragraph() {
        let message = b"\n\n  one\r\n two \n\nthree\n";
        assert_eq!(read(b"x y", message).summary(), "one two");
    }
}
