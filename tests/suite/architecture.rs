//! Holds the house to its plan: who may use whom, as the table in `src/lib.rs` says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The most lines of a file; a longer one has more than one responsibility.
const LONGEST_FILE: usize = 600;

/// The entry point, which starts the runtime and hands over.
const ENTRY: [&str; 2] = ["main", "lib"];

/// A source file: its module and the text of its production code.
struct Source {
    path: PathBuf,
    module: String,
    code: String,
}

#[test]
fn modules_use_only_what_the_map_names() {
    let map = map();
    let modules: BTreeSet<&str> = map.keys().map(String::as_str).collect();
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(allowed) = map.get(&source.module) else {
            wrong.push(format!(
                "{}: module {} is not on the map",
                source.path.display(),
                source.module
            ));
            continue;
        };
        for used in used_modules(&source.code) {
            if modules.contains(used.as_str()) && used != source.module && !allowed.contains(&used)
            {
                wrong.push(format!(
                    "{}: {} may not use {used}",
                    source.path.display(),
                    source.module
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_map_has_no_cycle() {
    let map = map();
    fn visit<'a>(
        map: &'a BTreeMap<String, BTreeSet<String>>,
        module: &'a str,
        path: &mut Vec<&'a str>,
    ) {
        assert!(!path.contains(&module), "{path:?} comes back to {module}");
        path.push(module);
        map.get(module)
            .into_iter()
            .flatten()
            .for_each(|used| visit(map, used, path));
        path.pop();
    }
    map.keys()
        .for_each(|module| visit(&map, module, &mut Vec::new()));
}

#[test]
fn files_are_of_one_room_each() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut long = Vec::new();
    for folder in ["src", "tests", "assets", "templates"] {
        for path in files(&root.join(folder), &["rs", "js", "css", "html"]) {
            let lines = std::fs::read_to_string(&path).unwrap().lines().count();
            if lines > LONGEST_FILE && !path.components().any(|part| part.as_os_str() == "vendor") {
                long.push(format!("{} has {lines} lines", path.display()));
            }
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn only_the_edges_know_http() {
    only(&["transport", "web", "server", "auth"], &["actix"]);
}

#[test]
fn sql_lives_in_the_store() {
    only(
        &["store"],
        &[
            "diesel::",
            "diesel_migrations",
            "libsqlite3_sys",
            "sql_query",
            "PRAGMA ",
        ],
    );
}

#[test]
fn git_and_ssh_libraries_stay_behind_their_wrappers() {
    // The demo makes its sample repository, which the wrapper, made for reading, does not.
    only(&["git", "cli"], &["git2::"]);
    only(&["ssh"], &["ssh2::"]);
}

#[test]
fn the_guide_names_files_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = std::fs::read_to_string(root.join("docs/ARCHITECTURE.md")).unwrap();
    let is_file = |word: &&str| {
        let ends = [".rs", ".js", ".json", ".md"];
        word.contains('.') && ends.iter().any(|end| word.ends_with(end))
    };
    let code = guide.split('`').skip(1).step_by(2);
    let named: Vec<_> = code.filter(is_file).collect();
    assert!(named.len() > 50, "{named:?}");
    for name in named {
        let places = ["src", "docs", ""].map(|folder| root.join(folder).join(name));
        assert!(places.iter().any(|path| path.is_file()), "{name}");
    }
}

/// Only these modules may hold any of these words in their code.
fn only(modules: &[&str], words: &[&str]) {
    let mut wrong = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| !modules.contains(&source.module.as_str()))
    {
        for word in words.iter().filter(|word| source.code.contains(**word)) {
            wrong.push(format!("{}: {word}", source.path.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "only {modules:?} may know:\n{}",
        wrong.join("\n")
    );
}

/// The table in `src/lib.rs`: module → modules that it may use.
fn map() -> BTreeMap<String, BTreeSet<String>> {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let mut rows: BTreeMap<String, String> = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("//! | [`")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let names = cells[1]
            .split(',')
            .map(|name| name.trim().trim_matches(|c| "[]`".contains(c)).to_owned());
        names.for_each(|name| drop(rows.insert(name, cells[3].to_owned())));
    }
    assert!(rows.len() > 10, "the table of modules in src/lib.rs");
    rows.keys()
        .map(|name| (name.clone(), allowed(name, &rows)))
        .collect()
}

/// The modules that the last cell of a row allows. `app` is above all but the edges, which follow it.
fn allowed(module: &str, rows: &BTreeMap<String, String>) -> BTreeSet<String> {
    let cell = &rows[module];
    let edges = ["web", "cli", "server", "transport", "metrics"];
    let below_app = || -> BTreeSet<String> {
        rows.keys()
            .filter(|name| *name != "app" && !edges.contains(&name.as_str()))
            .cloned()
            .collect()
    };
    if cell == "–" {
        return BTreeSet::new();
    }
    if cell.starts_with("all above") {
        return below_app();
    }
    let mut allowed: BTreeSet<String> = cell
        .replace("what it uses", "")
        .replace("(`/home`)", "")
        .replace(" and ", ",")
        .split(',')
        .map(|name| name.trim().trim_matches(|c| "[]`".contains(c)).to_owned())
        .filter(|name| !name.is_empty())
        .collect();
    let unknown: Vec<&String> = allowed
        .iter()
        .filter(|name| !rows.contains_key(*name))
        .collect();
    assert!(unknown.is_empty(), "the row of {module} names {unknown:?}");
    if cell.contains("what it uses") {
        allowed.extend(below_app());
    }
    allowed
}

/// Every production source file but the entry point; tests may use what they test with.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let is_test = |path: &Path| {
        path.components().any(|part| part.as_os_str() == "tests")
            || path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .is_some_and(|stem| {
                    stem == "tests" || stem.ends_with("_test") || stem.starts_with("test_")
                })
    };
    files(&root, &["rs"])
        .into_iter()
        .filter(|path| !is_test(path.strip_prefix(&root).unwrap()))
        .map(|path| {
            let first = path
                .strip_prefix(&root)
                .unwrap()
                .components()
                .next()
                .unwrap();
            let module = Path::new(first.as_os_str())
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            Source {
                module,
                code: production_code(&std::fs::read_to_string(&path).unwrap()),
                path,
            }
        })
        .filter(|source| !ENTRY.contains(&source.module.as_str()))
        .collect()
}

/// The text without comments and without the `#[cfg(test)]` module at its end.
fn production_code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end]
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// The modules named in `crate::X` and `use crate::{X, Y::Z}`.
fn used_modules(code: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let is_whole_word = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        if is_whole_word {
            used.extend(heads(&code[at + "crate::".len()..]));
        }
    }
    used
}

/// The first names of the path or the group of paths that `text` begins with.
fn heads(text: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim_start()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    let Some(group) = text.strip_prefix('{') else {
        return vec![name(text)];
    };
    let mut depth = 0;
    let mut heads = vec![name(group)];
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(name(&group[at + 1..])),
            _ => {}
        }
    }
    heads
}

/// The files below `folder` with one of these endings.
pub fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path, endings));
        } else if path
            .extension()
            .and_then(|ending| ending.to_str())
            .is_some_and(|ending| endings.contains(&ending))
        {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn the_readers_of_sources_see_every_use() {
    let code = "use crate::{hub::{Hub, Room}, store, ssh::Connection};\nlet a = crate::git::Mirror::open();";
    let used = used_modules(code);
    assert_eq!(
        used.iter().map(String::as_str).collect::<Vec<_>>(),
        ["git", "hub", "ssh", "store"]
    );
}
