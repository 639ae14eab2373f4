//! Lists and forms, as a person uses them.

use serde_json::{Value, json};

use crate::fixture::{Browser, Longshore, until_true};

/// Enough servers for three pages, whatever a page holds up to 50.
const MANY: usize = 120;

fn with_servers(count: usize) -> Longshore {
    let server = Longshore::settings().start();
    let api = server.api();
    for number in 0..count {
        api.create(
            "servers",
            &json!({"hostname": format!("web-{number:03}"), "kind": "local", "root": "/srv"}),
        );
    }
    server
}

#[test]
fn deleting_asks_first_and_stays_on_the_page_of_the_list() {
    let server = with_servers(MANY);
    let browser = Browser::start();
    browser.log_in(&server.url);
    browser.go(&format!("{}/servers", server.url));
    let first_page = rows(&browser);
    browser.click(".pagination a[rel=next]");
    until_true("the second page", || browser.url().contains("page=2"));
    browser.wait_for("document.querySelector('.pagination [aria-current=page]')");
    let before = rows(&browser);
    assert!(
        before.len() > 2 && before.iter().all(|row| !first_page.contains(row)),
        "{before:?}"
    );

    browser.mark();
    browser.click("tbody tr:first-child a[data-delete]");
    let question = browser.text("[role=alertdialog]");
    assert!(question.contains(&before[0]), "{question}");
    browser.click("[role=alertdialog] button.quiet");
    browser.wait_for("!document.querySelector('[role=alertdialog]')");
    assert_eq!(rows(&browser), before, "nothing happens without a yes");

    browser.click("tbody tr:first-child a[data-delete]");
    browser.click("[role=alertdialog] button.danger");
    browser.wait_for(&format!(
        "document.querySelectorAll('tbody tr').length === {}",
        before.len() - 1
    ));
    assert_eq!(rows(&browser), before[1..]);
    assert!(browser.is_marked(), "there was no reload");
    assert!(browser.url().contains("page=2"));
    let left = server.api().get("servers").expect(200);
    assert!(
        !left
            .as_array()
            .unwrap()
            .iter()
            .any(|left| left["hostname"] == json!(before[0]))
    );
}

#[test]
fn a_server_in_use_is_not_deleted() {
    let server = with_servers(1);
    let api = server.api();
    let id = api.get("servers").expect(200)[0]["id"].clone();
    api.create(
        "projects",
        &json!({"title": "shop", "repo": "https://git.example.com/shop.git", "env": "prod", "path": "/srv/shop",
                "server_ids": [id], "keep": 3}),
    );
    let browser = Browser::start();
    browser.log_in(&server.url);
    browser.go(&format!("{}/servers", server.url));
    browser.click("a[data-delete]");
    browser.click("[role=alertdialog] button.danger");
    assert!(
        browser
            .text("[role=alertdialog] .notice.is-error")
            .contains("shop")
    );
    assert_eq!(rows(&browser), ["web-000"]);
}

#[test]
fn editing_shows_what_is_saved_and_keeps_what_is_not_touched() {
    let server = with_servers(1);
    let api = server.api();
    let id = api.get("servers").expect(200)[0]["id"].clone();
    let project = api.create(
        "projects",
        &json!({"title": "shop", "repo": "https://git.example.com/shop.git", "env": "prod", "path": "/srv/shop",
                "server_ids": [id], "keep": 7, "build": "make\nmake install", "after_deploy": "echo \"<done>\" & true"}),
    );
    let before = api.get(&format!("projects/{project}")).expect(200);
    let browser = Browser::start();
    browser.log_in(&server.url);
    browser.go(&format!("{}/projects/{project}/edit", server.url));
    assert_eq!(browser.value("#title"), "shop");
    assert_eq!(browser.value("#build"), "make\nmake install");
    assert_eq!(browser.value("#after_deploy"), "echo \"<done>\" & true");
    assert_eq!(
        browser.script("return document.querySelector('input[name=env]:checked').value;"),
        "prod"
    );
    assert_eq!(
        browser
            .script("return document.querySelectorAll('input[name=server_ids]:checked').length;"),
        1
    );
    browser.fill("#title", "shop 2");
    browser.click("#entity-form button[type=submit]");
    browser.wait_for(
        "document.querySelector('.notice.is-success') || document.querySelector('table')",
    );
    let after = api.get(&format!("projects/{project}")).expect(200);
    let mut expected = before;
    expected["title"] = json!("shop 2");
    for (key, value) in expected.as_object().unwrap() {
        if !key.ends_with("_at") {
            assert_eq!(&after[key], value, "{key}");
        }
    }
}

#[test]
fn a_refused_form_names_the_field_and_keeps_what_was_typed() {
    let server = with_servers(1);
    let browser = Browser::start();
    browser.log_in(&server.url);
    browser.go(&format!("{}/projects/new", server.url));
    browser.fill("#title", "shop");
    browser.fill("#repo", "ftp://git.example.com/shop.git");
    browser.fill("#path", "srv/../etc");
    browser.fill("#restart", "systemctl restart \"shop\"");
    browser.click("label:has(> input[name=server_ids])");
    browser.click("label:has(> input[name=env][value=prod])");
    browser.click("#entity-form button[type=submit]");
    browser.wait_for("document.querySelector('.field-error')");
    for field in ["repo", "path"] {
        assert!(
            !browser.text(&format!("#{field}-error")).is_empty(),
            "{field}"
        );
        let marked =
            format!("return document.getElementById('{field}').getAttribute('aria-invalid');");
        assert_eq!(browser.script(&marked), "true", "{field}");
    }
    assert_eq!(
        browser.script("return document.querySelectorAll('.field-error').length;"),
        2
    );
    assert_eq!(browser.value("#title"), "shop");
    assert_eq!(browser.value("#repo"), "ftp://git.example.com/shop.git");
    assert_eq!(browser.value("#path"), "srv/../etc");
    assert_eq!(browser.value("#restart"), "systemctl restart \"shop\"");
    assert_eq!(
        browser.script("return document.querySelector('input[name=env]:checked').value;"),
        "prod"
    );
    assert_eq!(
        browser
            .script("return document.querySelectorAll('input[name=server_ids]:checked').length;"),
        1
    );
    assert_eq!(
        server.api().get("projects").expect(200),
        json!([]),
        "nothing was saved"
    );

    browser.fill("#repo", "https://git.example.com/shop.git");
    browser.fill("#path", "/srv/shop");
    browser.click("#entity-form button[type=submit]");
    until_true("the new project's page", || {
        browser.url().ends_with("/edit")
    });
    assert_eq!(server.api().get("projects").expect(200)[0]["env"], "prod");
}

#[test]
fn a_wrong_password_is_refused_and_the_name_is_kept() {
    let server = with_servers(0);
    let browser = Browser::start();
    browser.go(&format!("{}/servers", server.url));
    until_true("the login page", || browser.url().contains("/login"));
    browser.fill("#name", "admin");
    browser.fill("#password", "wrong");
    browser.click("form[action='/login'] button[type=submit]");
    assert!(!browser.text("[role=alert]").is_empty());
    assert_eq!(
        (
            browser.value("#name").as_str(),
            browser.value("#password").as_str()
        ),
        ("admin", "")
    );
    browser.fill("#password", crate::fixture::PASSWORD);
    browser.click("form[action='/login'] button[type=submit]");
    until_true("the page that was asked for", || {
        browser.url().ends_with("/servers")
    });
}

#[test]
fn pages_speak_chinese_and_english_in_light_and_dark() {
    let server = with_servers(3);
    let browser = Browser::start();
    browser.log_in(&server.url);
    browser.go(&format!("{}/servers", server.url));
    for (language, title) in [("zh-CN", "服务器"), ("en", "Servers")] {
        browser.click(&format!("button[name=lang][value={language}]"));
        browser.wait_for(&format!("document.documentElement.lang === '{language}'"));
        assert_eq!(browser.text("h1"), title);
        assert!(browser.url().ends_with("/servers"), "it stays on the page");
        let mut backgrounds = Vec::new();
        for theme in ["light", "dark"] {
            browser.click(&format!("button[name=theme][value={theme}]"));
            browser.wait_for(&format!(
                "document.documentElement.getAttribute('data-theme') === '{theme}'"
            ));
            backgrounds.push(background(&browser));
            browser.screenshot(&format!("servers-{language}-{theme}"));
        }
        assert_ne!(backgrounds[0], backgrounds[1]);
    }
    browser.resize(400, 800);
    let overflow =
        browser.script("return document.documentElement.scrollWidth - window.innerWidth;");
    assert!(
        overflow.as_i64().unwrap() <= 0,
        "no sideways scrolling on a phone: {overflow}"
    );
    browser.screenshot("servers-phone");
}

fn background(browser: &Browser) -> Value {
    browser.script("return getComputedStyle(document.body).backgroundColor;")
}

/// The names in the list, from the top.
fn rows(browser: &Browser) -> Vec<String> {
    let names = browser.script(
        "return [].map.call(document.querySelectorAll('tbody .row-title'), function (link) { return link.textContent; });",
    );
    serde_json::from_value(names).unwrap()
}
