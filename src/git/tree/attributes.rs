//! The part of `.gitattributes` that releases need: the paths that are `export-ignore` or
//! `export-subst`. Pure; the rules are in gitattributes(5).

use super::pattern::Pattern;

/// The longest line that is read as a rule, as in git.
const MAX_LINE: usize = 2048;
/// The most rules of one file; more are not read.
const MAX_RULES: usize = 10_000;

/// An attribute that is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attribute {
    /// The path is not released.
    ExportIgnore,
    /// `git archive` would write the commit's id into the file.
    ExportSubst,
}

const ASKED: [(Attribute, &str); 2] = [
    (Attribute::ExportIgnore, "export-ignore"),
    (Attribute::ExportSubst, "export-subst"),
];

/// The rules of every `.gitattributes` from the top down to one folder.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    files: Vec<Rules>,
    /// The macros of the top file; git reads no others.
    macros: Macros,
}

/// The rules of one file that concern these attributes.
#[derive(Debug)]
struct Rules {
    /// The length of its folder's path, with the slash after it.
    below: usize,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    pattern: Pattern,
    says: Vec<(Attribute, Says)>,
}

/// The state that a rule gives an attribute. Only `Set` counts; the others revoke it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Set,
    Other,
}

impl Attributes {
    /// Enters the folder at `path` (empty: the top) whose `.gitattributes` is `text`.
    pub(super) fn enter(&mut self, path: &[u8], text: &[u8]) {
        if path.is_empty() {
            self.macros = Macros::read(text);
        }
        let rules = lines(text)
            .filter_map(|line| Rule::read(line, &self.macros))
            .take(MAX_RULES)
            .collect();
        self.files.push(Rules {
            below: if path.is_empty() { 0 } else { path.len() + 1 },
            rules,
        });
    }

    /// Leaves the folder that was entered last.
    pub(super) fn leave(&mut self) {
        self.files.pop();
    }

    /// True if nothing can be set, so that no path need be looked up.
    pub(super) fn is_empty(&self) -> bool {
        self.files.iter().all(|file| file.rules.is_empty())
    }

    /// True if `attribute` is set for `path`. The file of the deepest folder decides, and in it the
    /// last line.
    pub(super) fn has(&self, attribute: Attribute, path: &[u8], is_folder: bool) -> bool {
        self.files
            .iter()
            .rev()
            .find_map(|file| file.say(attribute, path, is_folder))
            == Some(Says::Set)
    }
}

impl Rules {
    fn say(&self, attribute: Attribute, path: &[u8], is_folder: bool) -> Option<Says> {
        let path = path.get(self.below..)?;
        self.rules.iter().rev().find_map(|rule| {
            let (_, says) = rule.says.iter().rev().find(|(of, _)| *of == attribute)?;
            rule.pattern.matches(path, is_folder).then_some(*says)
        })
    }
}

/// Each `[attr]NAME` and the words after it.
#[derive(Debug, Default)]
struct Macros(Vec<(Vec<u8>, Vec<Vec<u8>>)>);

impl Macros {
    fn read(text: &[u8]) -> Self {
        let definition = |line: &[u8]| {
            let mut words = words(line.strip_prefix(b"[attr]")?).map(<[u8]>::to_owned);
            Some((words.next()?, words.collect()))
        };
        Self(lines(text).filter_map(definition).take(MAX_RULES).collect())
    }

    /// Adds the states that `word` sets, following macros a few levels deep.
    fn say(&self, word: &[u8], depth: usize, says: &mut Vec<(Attribute, Says)>) {
        let (name, state) = match word {
            [b'-' | b'!', name @ ..] => (name, Says::Other),
            name => match name.iter().position(|byte| *byte == b'=') {
                Some(at) => (&name[..at], Says::Other),
                None => (name, Says::Set),
            },
        };
        if let Some((asked, _)) = ASKED.iter().find(|(_, known)| known.as_bytes() == name) {
            says.push((*asked, state));
        }
        // Only a macro that is set gives its words.
        if state == Says::Set
            && depth > 0
            && let Some((_, stands_for)) = self.0.iter().rev().find(|(known, _)| known == name)
        {
            for word in stands_for {
                self.say(word, depth - 1, says);
            }
        }
    }
}

impl Rule {
    /// `None` if the line does not concern these attributes.
    fn read(line: &[u8], macros: &Macros) -> Option<Self> {
        if line.starts_with(b"[attr]") {
            return None;
        }
        let (pattern, rest) = split_pattern(line)?;
        let mut says = Vec::new();
        for word in words(rest) {
            macros.say(word, 4, &mut says);
        }
        if says.is_empty() {
            return None;
        }
        Some(Self {
            pattern: Pattern::read(&pattern)?,
            says,
        })
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    text.split(|byte| *byte == b'\n')
        .filter(|line| line.len() < MAX_LINE)
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .map(<[u8]>::trim_ascii_start)
        .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
}

/// The pattern, which may be in double quotes as in C, and the rest of the line.
fn split_pattern(line: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    if line.first() != Some(&b'"') {
        let end = line.iter().position(u8::is_ascii_whitespace)?;
        return Some((line[..end].to_owned(), &line[end..]));
    }
    let mut pattern = Vec::new();
    let mut at = 1;
    loop {
        match *line.get(at)? {
            b'"' => return Some((pattern, &line[at + 1..])),
            b'\\' => {
                let escaped = *line.get(at + 1)?;
                if (b'0'..=b'3').contains(&escaped) {
                    let digits = std::str::from_utf8(line.get(at + 1..at + 4)?).ok()?;
                    pattern.push(u8::from_str_radix(digits, 8).ok()?);
                    at += 4;
                    continue;
                }
                pattern.push(match escaped {
                    b'a' => 7,
                    b'b' => 8,
                    b'f' => 12,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'v' => 11,
                    b'\\' | b'"' => escaped,
                    _ => return None,
                });
                at += 2;
            }
            byte => {
                pattern.push(byte);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(text: &str, path: &str, is_folder: bool) -> bool {
        let mut attributes = Attributes::default();
        attributes.enter(b"", text.as_bytes());
        attributes.has(Attribute::ExportIgnore, path.as_bytes(), is_folder)
    }

    #[test]
    fn rules_are_read_as_git_reads_them() {
        for (text, path, is_folder, expected) in [
            ("tests export-ignore", "tests", true, true),
            ("tests export-ignore", "a/tests", false, true),
            ("/tests export-ignore", "a/tests", true, false),
            ("tests/ export-ignore", "tests", true, true),
            ("tests/ export-ignore", "tests", false, false),
            ("*.md export-ignore", "docs/a.md", false, true),
            ("docs/*.md export-ignore", "docs/a/b.md", false, false),
            ("docs/**/*.md export-ignore", "docs/a/b.md", false, true),
            ("* export-ignore\na -export-ignore", "a", false, false),
            ("a -export-ignore\n* export-ignore", "a", false, true),
            ("* export-ignore\na !export-ignore", "a", false, false),
            ("a export-ignore=yes", "a", false, false),
            ("a text export-ignore eol=lf", "a", false, true),
            ("# a export-ignore", "a", false, false),
            ("  a export-ignore\r", "a", false, true),
            ("\"a b\" export-ignore", "a b", false, true),
            ("\"\\303\\251\" export-ignore", "é", false, true),
            ("!a export-ignore", "a", false, false),
            ("[attr]dev export-ignore\na dev", "a", false, true),
            ("[attr]dev export-ignore\na -dev", "a", false, false),
            ("a export-subst", "a", false, false),
            ("a", "a", false, false),
        ] {
            assert_eq!(ignored(text, path, is_folder), expected, "{text:?} {path}");
        }
    }

    #[test]
    fn deeper_files_come_first() {
        let mut attributes = Attributes::default();
        attributes.enter(b"", b"*.txt export-ignore");
        attributes.enter(b"d", b"keep.txt -export-ignore\n/e/x.txt export-ignore");
        let has = |path: &str| attributes.has(Attribute::ExportIgnore, path.as_bytes(), false);
        assert!(!has("d/keep.txt"));
        assert!(has("d/other.txt") && has("d/e/x.txt"));
        attributes.leave();
        assert!(attributes.has(Attribute::ExportIgnore, b"keep.txt", false));
        attributes.leave();
        assert!(attributes.is_empty());
    }
}
