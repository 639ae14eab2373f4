//! Patterns of `.gitattributes`, as gitignore(5) describes them and git's own `wildmatch` matches
//! them. Pure.

/// The longest pattern, in bytes; longer ones match nothing.
const MAX_LENGTH: usize = 1024;
/// The most steps of one match; past it a pattern, which must be hostile, matches nothing.
const MAX_STEPS: usize = 100_000;

/// A parsed pattern.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    text: Vec<u8>,
    /// The pattern has no slash, so it is matched against the last component of a path.
    of_names: bool,
    /// The pattern ended with a slash.
    of_folders: bool,
}

impl Pattern {
    /// `None` for a text that git does not accept as an attributes pattern, such as `!a`.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        if text.is_empty() || text.starts_with(b"!") || text.len() > MAX_LENGTH {
            return None;
        }
        let (text, of_folders) = match text.strip_suffix(b"/") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let of_names = !text.contains(&b'/');
        let text = text.strip_prefix(b"/").unwrap_or(text);
        Some(Self {
            text: text.to_owned(),
            of_names,
            of_folders,
        })
    }

    /// True if it matches `path`, relative to the pattern's folder.
    pub(super) fn matches(&self, path: &[u8], is_folder: bool) -> bool {
        if self.of_folders && !is_folder {
            return false;
        }
        let mut steps = 0;
        if self.of_names {
            let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
            return matches(&self.text, last, true, &mut steps);
        }
        // git compares the part before the first wildcard by itself, so that the rest starts there:
        // `a**` matches slashes, `a?**` does not.
        let plain = self.text.iter().take_while(|byte| !b"*?[\\".contains(byte));
        let (plain, pattern) = self.text.split_at(plain.count());
        match path.strip_prefix(plain) {
            Some(rest) => matches(pattern, rest, true, &mut steps),
            None => false,
        }
    }
}

/// `begins`: true at the pattern's start and after a slash.
fn matches(pattern: &[u8], text: &[u8], begins: bool, steps: &mut usize) -> bool {
    *steps += 1;
    if *steps > MAX_STEPS {
        return false;
    }
    let Some((first, rest)) = pattern.split_first() else {
        return text.is_empty();
    };
    match first {
        b'*' => matches_stars(pattern, text, begins, steps),
        b'?' => match text.split_first() {
            Some((byte, after)) if *byte != b'/' => matches(rest, after, false, steps),
            _ => false,
        },
        b'[' => match (class(rest), text.split_first()) {
            (Some((class, behind)), Some((byte, after))) if *byte != b'/' => {
                class.has(*byte) && matches(behind, after, false, steps)
            }
            _ => false,
        },
        b'\\' => match (rest.split_first(), text.split_first()) {
            (Some((escaped, behind)), Some((byte, after))) => {
                escaped == byte && matches(behind, after, *byte == b'/', steps)
            }
            _ => false,
        },
        literal => match text.split_first() {
            Some((byte, after)) => literal == byte && matches(rest, after, *byte == b'/', steps),
            None => false,
        },
    }
}

/// `*` stays within a path component; two or more that are a whole component match slashes.
fn matches_stars(pattern: &[u8], text: &[u8], begins: bool, steps: &mut usize) -> bool {
    let stars = pattern.iter().take_while(|byte| **byte == b'*').count();
    let rest = &pattern[stars..];
    let is_whole_part = stars >= 2 && begins && (rest.is_empty() || rest[0] == b'/');
    if is_whole_part {
        // `**/` may match nothing at all.
        if let Some(behind) = rest.strip_prefix(b"/")
            && matches(behind, text, true, steps)
        {
            return true;
        }
        return (0..=text.len()).any(|end| matches(rest, &text[end..], false, steps));
    }
    for end in 0..=text.len() {
        if matches(rest, &text[end..], false, steps) {
            return true;
        }
        if text.get(end) == Some(&b'/') {
            return false;
        }
    }
    false
}

/// The contents of `[` and `]`.
struct Class {
    negated: bool,
    ranges: Vec<(u8, u8)>,
}

impl Class {
    fn has(&self, byte: u8) -> bool {
        let within = |(low, high): &(u8, u8)| (*low..=*high).contains(&byte);
        self.ranges.iter().any(within) != self.negated
    }
}

/// The class and the rest of the pattern; `None` if it has no end.
fn class(text: &[u8]) -> Option<(Class, &[u8])> {
    let (negated, mut at) = match text.first()? {
        b'!' | b'^' => (true, 1),
        _ => (false, 0),
    };
    let begin = at;
    let mut ranges = Vec::new();
    loop {
        match *text.get(at)? {
            b']' if at > begin => return Some((Class { negated, ranges }, &text[at + 1..])),
            b'[' if text.get(at + 1) == Some(&b':') => {
                let name = &text[at + 2..];
                let end = name.windows(2).position(|two| two == b":]")?;
                ranges.extend(named(&name[..end])?);
                at += 2 + end + 2;
            }
            _ => {
                let (low, behind) = letter(text, at)?;
                at = behind;
                let is_range = text.get(at) == Some(&b'-')
                    && text.get(at + 1).is_some_and(|byte| *byte != b']');
                if is_range {
                    let (high, behind) = letter(text, at + 1)?;
                    ranges.push((low, high));
                    at = behind;
                } else {
                    ranges.push((low, low));
                }
            }
        }
    }
}

fn letter(text: &[u8], at: usize) -> Option<(u8, usize)> {
    match *text.get(at)? {
        b'\\' => Some((*text.get(at + 1)?, at + 2)),
        byte => Some((byte, at + 1)),
    }
}

/// A class by its POSIX name.
fn named(name: &[u8]) -> Option<Vec<(u8, u8)>> {
    let digit = (b'0', b'9');
    let (upper, lower) = ((b'A', b'Z'), (b'a', b'z'));
    Some(match name {
        b"alnum" => vec![digit, upper, lower],
        b"alpha" => vec![upper, lower],
        b"blank" => vec![(b' ', b' '), (b'\t', b'\t')],
        b"cntrl" => vec![(0, 31), (127, 127)],
        b"digit" => vec![digit],
        b"graph" => vec![(33, 126)],
        b"lower" => vec![lower],
        b"print" => vec![(32, 126)],
        b"punct" => vec![(33, 47), (58, 64), (91, 96), (123, 126)],
        b"space" => vec![(9, 13), (b' ', b' ')],
        b"upper" => vec![upper],
        b"xdigit" => vec![digit, (b'A', b'F'), (b'a', b'f')],
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_patterns_end() {
        let pattern = Pattern::read("*a".repeat(400).as_bytes()).unwrap();
        assert!(!pattern.matches(&b"a".repeat(399), false));
        assert!(Pattern::read("a".repeat(2000).as_bytes()).is_none());
        for odd in ["[", "[a", "[!", "\\", "[[:alpha:", "[[:x:]]", "a[b-"] {
            let pattern = Pattern::read(odd.as_bytes()).unwrap();
            assert!(!pattern.matches(b"a", false), "{odd}");
        }
    }
}
