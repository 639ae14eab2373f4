//! A server's page, as an admin works there by hand.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::json;

use crate::fixture::{Browser, Fleet, Longshore};

#[test]
fn a_file_is_put_on_a_server_and_what_was_done_is_told() {
    let fleet = Fleet::with(1, Longshore::settings().set("ssh_upload_bytes", "1000000"));
    let here = tempfile::tempdir().unwrap();
    let at = |name: &str| here.path().join(name).display().to_string();
    let content: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
    fs::write(at("page"), &content).unwrap();
    fs::write(at("large"), vec![0; 1_000_001]).unwrap();
    let there = fleet.machines[0].root.path().join("it's 发布");
    let browser = Browser::start();
    browser.log_in(&fleet.longshore.url);
    browser.go(&format!("{}/servers/1/work", fleet.longshore.url));
    let told = |text: &str| {
        browser.wait_for(&format!(
            "document.querySelector('#put-result').textContent.indexOf({}) >= 0",
            json!(text)
        ));
    };

    browser.fill("#put-file", &at("page"));
    assert_eq!(
        browser.value("#put-path"),
        "/tmp/page",
        "a path is proposed"
    );
    browser.fill("#put-path", &there.display().to_string());
    browser.click("#put-form button");
    told("300000");
    assert!(fs::read(&there).unwrap() == content);
    let changed = |path: &str| fs::metadata(path).unwrap().mtime();
    assert_eq!(changed(&there.display().to_string()), changed(&at("page")));

    browser.fill("#put-path", "/missing/folder/file");
    browser.click("#put-form button");
    told("/missing/folder/file");
    browser.fill("#put-file", &at("large"));
    browser.click("#put-form button");
    told("large");

    browser.fill("#command", "echo hello; echo sorry >&2; exit 3");
    browser.click("#exec-form button[type=submit]");
    browser.wait_for("document.querySelector('#exec-end').textContent.indexOf('3') >= 0");
    let output = browser.text("#exec-output");
    assert!(
        output.contains("hello") && output.contains("sorry"),
        "{output}"
    );
    for (language, theme) in [("en", "light"), ("zh-CN", "dark")] {
        browser.click(&format!("button[name=lang][value={language}]"));
        browser.wait_for(&format!("document.documentElement.lang === '{language}'"));
        browser.click(&format!("button[name=theme][value={theme}]"));
        browser.wait_for(&format!(
            "document.documentElement.getAttribute('data-theme') === '{theme}'"
        ));
        browser.wait_for("document.querySelector('table')");
        browser.screenshot(&format!("server-work-{language}-{theme}"));
    }
}
