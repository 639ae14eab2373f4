//! Holds comments to two rules: they begin with a noun or a verb, and functions that may fail say how.

use std::path::Path;

use crate::architecture::files;

/// Words that promise a fact and do not state it.
const QUESTIONS: [&str; 9] = [
    "What", "Who", "Whom", "Whose", "Whether", "Where", "How", "When", "Which",
];

/// The sources below `folders` with their lines.
fn lines_of(folders: &[&str], mut visit: impl FnMut(&Path, &[&str])) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for path in folders
        .iter()
        .flat_map(|folder| files(&root.join(folder), &["rs"]))
    {
        let text = std::fs::read_to_string(&path).unwrap();
        visit(&path, &text.lines().collect::<Vec<_>>());
    }
}

/// The text of a line that is a comment.
fn comment(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("//")?;
    Some(rest.trim_start_matches(['/', '!']).trim())
}

#[test]
fn comments_begin_with_the_fact() {
    let mut wrong = Vec::new();
    lines_of(&["src", "tests", "benches", "crates"], |path, lines| {
        for (number, line) in lines.iter().enumerate() {
            let first = comment(line).and_then(|text| text.split(' ').next());
            if first.is_some_and(|word| QUESTIONS.contains(&word)) {
                wrong.push(format!("{}:{}: {line}", path.display(), number + 1));
            }
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn public_functions_say_how_they_fail() {
    let mut wrong = Vec::new();
    lines_of(&["src"], |path, lines| {
        let is_test = path
            .components()
            .any(|part| part.as_os_str().to_string_lossy().contains("test"));
        for (number, line) in lines.iter().enumerate() {
            let code = line.trim_start();
            let is_public = ["pub fn ", "pub async fn ", "pub const fn "]
                .iter()
                .any(|start| code.starts_with(start));
            if is_test || !is_public || !returns_result(&lines[number..]) {
                continue;
            }
            let above = lines[..number].iter().rev();
            let mut docs = above.take_while(|line| {
                let line = line.trim_start();
                line.starts_with("//") || line.starts_with('#')
            });
            if !docs.any(|line| comment(line) == Some("# Errors")) {
                wrong.push(format!("{}:{}: {code}", path.display(), number + 1));
            }
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// True if the function that begins at the first of `lines` returns a `Result`.
fn returns_result(lines: &[&str]) -> bool {
    let mut head = String::new();
    for line in lines {
        head.push_str(line);
        if line.ends_with('{') || line.ends_with(';') {
            break;
        }
    }
    let Some((_, returned)) = head.rsplit_once("->") else {
        return false;
    };
    let name = returned.trim_start().split(['<', ' ', '{']).next();
    name.is_some_and(|name| name == "Result" || name.ends_with("::Result"))
}
