//! `.gitmodules`: the addresses of a tree's submodules. Pure.
//!
//! The file has the form of git's own configuration. libgit2 would read it, but it would also
//! follow an `[include]` in it to any file of this machine.

use std::collections::HashMap;

use crate::git::url::RepoUrl;

/// The addresses of submodules, by the folder that each is in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Modules(HashMap<Vec<u8>, String>);

impl Modules {
    /// Parses the file; entries that are not understood are skipped.
    pub(super) fn read(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        let mut modules = HashMap::new();
        let mut inside = false;
        let (mut path, mut url) = (None, None);
        for line in logical_lines(&text) {
            if let Some(header) = line.strip_prefix('[') {
                add(&mut modules, path.take(), url.take());
                inside = is_submodule(header);
                continue;
            }
            let Some((key, value)) = line.split_once('=').filter(|_| inside) else {
                continue;
            };
            match key.trim().to_ascii_lowercase().as_str() {
                "path" => path = value_of(value),
                "url" => url = value_of(value),
                _ => {}
            }
        }
        add(&mut modules, path, url);
        Self(modules)
    }

    /// The address of the submodule in the folder `path`, as written.
    pub(super) fn url(&self, path: &[u8]) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }
}

fn add(modules: &mut HashMap<Vec<u8>, String>, path: Option<String>, url: Option<String>) {
    if let (Some(path), Some(url)) = (path, url) {
        modules
            .entry(path.trim_end_matches('/').as_bytes().to_owned())
            .or_insert(url);
    }
}

/// The lines, joined if one ends with a backslash; without empty ones and comments.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.split('\n') {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let trimmed = line.trim();
        if !open && (trimmed.is_empty() || trimmed.starts_with(['#', ';'])) {
            continue;
        }
        let (piece, continues) = match line.strip_suffix('\\') {
            Some(piece) => (piece, true),
            None => (line, false),
        };
        match lines.last_mut() {
            Some(last) if open => last.push_str(piece),
            _ => lines.push(piece.trim_start().to_owned()),
        }
        open = continues;
    }
    lines
}

/// True for `submodule "NAME"]`.
fn is_submodule(header: &str) -> bool {
    header
        .trim()
        .strip_suffix(']')
        .and_then(|header| header.split_once(char::is_whitespace))
        .is_some_and(|(kind, name)| {
            kind.eq_ignore_ascii_case("submodule") && name.trim().starts_with('"')
        })
}

/// A value without its quotes, escapes and comment; `None` if a quote is open or an escape is
/// unknown.
fn value_of(text: &str) -> Option<String> {
    let mut value = String::new();
    let mut quoted = false;
    let mut kept = 0;
    let mut letters = text.trim().chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => quoted = !quoted,
            '\\' => value.push(match letters.next()? {
                'n' => '\n',
                't' => '\t',
                'b' => '\u{8}',
                same @ ('"' | '\\') => same,
                _ => return None,
            }),
            '#' | ';' if !quoted => break,
            other => value.push(other),
        }
        if quoted || !letter.is_whitespace() {
            kept = value.len();
        }
    }
    value.truncate(kept);
    (!quoted && !value.is_empty()).then_some(value)
}

/// The address of a submodule as written in the `.gitmodules` of the repository at `parent`; `./x`
/// and `../x` are relative to it. `None` if it climbs out of the host.
pub(super) fn resolve(parent: &RepoUrl, written: &str) -> Option<String> {
    if !(written.starts_with("./") || written.starts_with("../")) {
        return Some(written.to_owned());
    }
    let whole = parent.as_str();
    let path = parent.path.as_str();
    let before = whole.strip_suffix(path)?;
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    for part in written.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    if parts.is_empty() {
        return None;
    }
    let root = if rooted { "/" } else { "" };
    Some(format!("{before}{root}{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::url::UrlPolicy;

    #[test]
    fn the_file_is_read_as_git_reads_it() {
        let text = b"[submodule \"a\"]\n\tpath = lib/a\n\turl = ../a.git\n\
            ; nothing\n[Submodule \"b c\"]\r\n  URL = \"https://h.example/b\" # why\r\n  Path=lib/b/ \r\n\
            [include]\n\tpath = /etc/passwd\n\turl = x\n\
            [submodule \"half\"]\n\tpath = half\n\
            [submodule \"long\"]\n\tpath = lo\\\nng\n\turl = \"a\\tb\"\n\
            [submodule \"cr\"]\n\tpath = \"sub\r\"\n\turl = z\n";
        let modules = Modules::read(text);
        assert_eq!(modules.url(b"lib/a"), Some("../a.git"));
        assert_eq!(modules.url(b"lib/b"), Some("https://h.example/b"));
        assert_eq!(modules.url(b"long"), Some("a\tb"));
        assert_eq!(modules.url(b"sub\r"), Some("z"));
        for none in [&b"half"[..], b"/etc/passwd", b"", b"sub"] {
            assert_eq!(modules.url(none), None, "{none:?}");
        }
    }

    #[test]
    fn relative_addresses_are_resolved() {
        let policy = UrlPolicy {
            local_folders: vec!["/srv".into()],
            ..UrlPolicy::default()
        };
        for (parent, written, expected) in [
            (
                "https://h.example/t/app.git",
                "../lib.git",
                Some("https://h.example/t/lib.git"),
            ),
            (
                "https://h.example:8443/t/app",
                "./lib",
                Some("https://h.example:8443/t/app/lib"),
            ),
            (
                "https://h.example/t/app/",
                "../../lib",
                Some("https://h.example/lib"),
            ),
            ("git@h.example:t/app", "../lib", Some("git@h.example:t/lib")),
            (
                "git@h.example:t/app",
                "../../lib",
                Some("git@h.example:lib"),
            ),
            ("ssh://git@h.example/t/app", "../../../lib", None),
            ("https://h.example/app", "../", None),
            ("/srv/git/app", "../lib", Some("/srv/git/lib")),
            ("/srv/git/app", "../../../etc/x", Some("/etc/x")),
            (
                "https://h.example/app",
                "https://o.example/x",
                Some("https://o.example/x"),
            ),
            (
                "https://h.example/app",
                "ext::sh -c id",
                Some("ext::sh -c id"),
            ),
        ] {
            let parent = RepoUrl::parse(parent, &policy).unwrap();
            assert_eq!(resolve(&parent, written).as_deref(), expected, "{written}");
        }
    }
}
