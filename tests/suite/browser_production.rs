//! Confirmation before every change to production, and rollback to the release that was live before.

use serde_json::json;

use crate::fixture::{Browser, Fleet, until_true};

/// The state on the page that shows `release`.
fn ends_as(browser: &Browser, release: &str, state: &str) {
    until_true("the release's page", || {
        browser.url().ends_with(&format!("/releases/{release}"))
    });
    browser.wait_for(&format!(
        "document.getElementById('release').getAttribute('data-state') === '{state}'"
    ));
}

fn text_has(browser: &Browser, selector: &str, parts: &[&str]) {
    let text = browser.text(selector);
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[test]
fn a_failed_release_offers_the_one_before_and_production_asks_with_servers_and_commits() {
    let fleet = Fleet::of(2);
    let restart = "test \"$(cat index.html)\" = one";
    let project = fleet.project(json!({"env": "prod", "restart": restart}));
    let url = &fleet.longshore.url;
    let browser = Browser::start();
    browser.log_in(url);

    let first = fleet.succeed(&project, "v1");
    let first = fleet.look(&first);

    // A commit further, whose restart fails: it is on the servers, and does not work.
    browser.go(&format!("{url}/releases/new?project={project}"));
    browser.click("#ref-picker [data-value='main']");
    browser.click("#release-form button[type=submit]");
    browser.wait_for("document.getElementById('commits-between')");
    let old = &first["commit"].as_str().unwrap()[..8];
    let shown = browser.text("#release-confirm");
    assert!(shown.contains(old) && shown.contains("#1"), "{shown}");
    assert!(browser.text("#commits-between").contains('1'), "{shown}");
    for (language, theme) in [("en", "light"), ("zh-CN", "dark")] {
        browser.click(&format!("button[name=lang][value={language}]"));
        browser.wait_for(&format!("document.documentElement.lang === '{language}'"));
        browser.click(&format!("button[name=theme][value={theme}]"));
        browser.wait_for(&format!(
            "document.documentElement.getAttribute('data-theme') === '{theme}'"
        ));
        // The question came by a form; a switch of the language leads back to the form.
        browser.go(&format!("{url}/releases/new?project={project}"));
        browser.click("#ref-picker [data-value='main']");
        browser.click("#release-form button[type=submit]");
        browser.wait_for("document.getElementById('commits-between')");
        browser.screenshot(&format!("confirm-{language}"));
    }
    browser.click("#release-confirm button[type=submit]");
    ends_as(&browser, "2", "failed");
    let second = fleet.look("2");
    assert_eq!(second["ref"], "main", "the branch is still named");

    // Its page leads to the release before, never to itself.
    let back = "form[action='/releases/1/rollback'] button";
    text_has(&browser, back, &["#1", old]);
    let itself = "document.querySelector(\"form[action='/releases/2/rollback']\")";
    browser.wait_for(&format!("{itself} === null"));
    browser.screenshot("rollback-offer");
    browser.click(back);
    browser.wait_for("document.getElementById('commits-between')");
    text_has(&browser, "#release-confirm", &["#1", old, "web-1, web-2"]);
    browser.click("#release-confirm button[type=submit]");
    ends_as(&browser, "3", "succeeded");
    for machine in &fleet.machines {
        assert_eq!(machine.shown().as_deref(), Some("one"));
        assert_eq!(machine.current().as_deref(), Some("1"));
    }
    // No rollback is offered to the live release or to a failed one.
    for release in ["1", "2", "3"] {
        browser.go(&format!("{url}/releases/{release}"));
        browser.wait_for("document.querySelectorAll('g.node').length > 3");
        let offers = browser
            .script("return document.querySelectorAll(\"form[action$='/rollback']\").length;");
        assert_eq!(offers, json!(0), "release {release}");
    }

    // A repeated release asks as well.
    browser.click("form[action$='/again'] button");
    browser.wait_for("document.getElementById('release-confirm')");
    browser.click("#release-confirm a.button");
    until_true("the release's page", || {
        browser.url().ends_with("/releases/3")
    });
}

#[test]
fn what_was_confirmed_is_released_though_the_branch_has_moved() {
    let fleet = Fleet::of(1);
    let project = fleet.project(json!({"env": "prod"}));
    let url = &fleet.longshore.url;
    let browser = Browser::start();
    browser.log_in(url);
    browser.go(&format!("{url}/releases/new?project={project}"));
    browser.click("#ref-picker [data-value='main']");
    browser.click("#release-form button[type=submit]");
    browser.wait_for("document.getElementById('release-confirm')");
    text_has(&browser, "#release-confirm", &["web-1"]);
    assert_eq!(fleet.api.get("releases").expect(200), json!([]));
    let confirmed = browser.value("#release-confirm input[name=confirmed]");
    assert_eq!(confirmed.len(), 40);
    fleet.git.repository.commit("three", "Say three");
    browser.click("#release-confirm button[type=submit]");
    ends_as(&browser, "1", "succeeded");
    assert_eq!(fleet.look("1")["commit"], json!(confirmed));
    assert_eq!(fleet.machines[0].shown().as_deref(), Some("two"));
}
