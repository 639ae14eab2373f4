//! Holds the pages to what old browsers can run and what the content policy lets run.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::architecture::files;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Asks MuJS, which knows ECMAScript 5 and nothing later, to read a script without running it.
fn syntax_error(path: &Path) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let gate = folder.path().join("gate.js");
    std::fs::write(
        &gate,
        format!("new Function(read({:?}));", path.to_str().unwrap()),
    )
    .unwrap();
    let output = Command::new("mujs")
        .arg(&gate)
        .output()
        .expect("mujs is installed; run tests/run once");
    let said = [output.stdout, output.stderr].concat();
    (!output.status.success() || !said.is_empty())
        .then(|| String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn scripts_are_es5() {
    let scripts: Vec<PathBuf> = files(&root().join("assets"), &["js"]);
    assert!(scripts.len() > 5, "{scripts:?}");
    let errors: Vec<String> = scripts
        .iter()
        .filter_map(|path| syntax_error(path).map(|error| format!("{}: {error}", path.display())))
        .collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

#[test]
fn the_library_is_small_and_asks_for_nothing_new() {
    const MOST_BYTES: usize = 12_000;
    let library = std::fs::read_to_string(root().join("assets/longshore.js")).unwrap();
    assert!(library.len() < MOST_BYTES, "{} bytes", library.len());
    for file in ["longshore.js", "longshore-tabs.js", "page.js"] {
        let text = std::fs::read_to_string(root().join("assets").join(file)).unwrap();
        for newer in [
            "Promise",
            "fetch(",
            "new Map",
            "new Set",
            "Symbol",
            ".includes(",
        ] {
            assert!(!text.contains(newer), "{file}: {newer}");
        }
    }
}

#[test]
fn the_gate_refuses_what_came_after_es5() {
    let folder = tempfile::tempdir().unwrap();
    let newer = [
        "let a = 1;",
        "const a = 1;",
        "f(() => 1);",
        "var a = `b`;",
        "class A {}",
        "var a = {b};",
        "f(1,);",
    ];
    for script in newer {
        let path = folder.path().join("newer.js");
        std::fs::write(&path, script).unwrap();
        assert!(syntax_error(&path).is_some(), "{script}");
    }
    let path = folder.path().join("older.js");
    std::fs::write(
        &path,
        "var a = { get: 1, 'default': [1, 2,], }; for (var k in a) { a[k] = /x/g; }",
    )
    .unwrap();
    assert_eq!(syntax_error(&path), None);
}

#[test]
fn templates_have_no_code_inside() {
    let templates = files(&root().join("templates"), &["html"]);
    assert!(templates.len() > 5, "{templates:?}");
    for path in templates {
        let text = std::fs::read_to_string(&path).unwrap().to_lowercase();
        for tag in text.split("<script").skip(1) {
            let attributes = tag.split('>').next().unwrap();
            let is_data = attributes.contains("type=\"application/json\"");
            assert!(
                is_data || attributes.contains("src="),
                "{}: an inline script",
                path.display()
            );
        }
        for inline in [" style=", "<style", "javascript:"] {
            assert!(!text.contains(inline), "{}: {inline}", path.display());
        }
        for (at, _) in text.match_indices(" on") {
            let name: String = text[at + 1..]
                .chars()
                .take_while(char::is_ascii_alphabetic)
                .collect();
            let is_handler = name.len() > 3 && text[at + 1 + name.len()..].starts_with('=');
            assert!(!is_handler, "{}: {name}", path.display());
        }
    }
}
