//! The main story: from a login to a release whose every node turns to its colour, in one browser.

use serde_json::{Value, json};

use crate::fixture::{Browser, Gate, GitDaemon, Longshore, Sshd, until_true};

#[test]
fn a_person_registers_a_server_and_a_project_and_watches_the_release() {
    let server = Longshore::settings().start();
    let (sshd, git, gate) = (Sshd::start("web-1"), GitDaemon::start(), Gate::closed());
    let root = tempfile::tempdir().unwrap();
    let browser = Browser::start();
    let url = &server.url;
    browser.log_in(url);

    browser.go(&format!("{url}/credentials/new"));
    browser.fill("#name", "deploy key");
    browser.fill("#secret", &sshd.private_key());
    submit(&browser);

    browser.go(&format!("{url}/servers/new"));
    browser.fill("#hostname", "web-1");
    browser.fill("#host", "127.0.0.1");
    browser.fill("#port", &sshd.port.to_string());
    browser.fill("#user", &sshd.user);
    browser.choose("#credential_id", "deploy key");
    browser.fill("#root", root.path().to_str().unwrap());
    submit(&browser);
    until_true("the server's own page", || browser.url().ends_with("/edit"));
    accept_host_key(&browser, &sshd);

    browser.go(&format!("{url}/projects/new"));
    browser.fill("#title", "网站");
    browser.fill("#repo", &git.url());
    browser.click("label:has(> input[name=server_ids])");
    browser.fill("#path", "/srv/app");
    browser.fill("#restart", &format!("{}; cat index.html", gate.command()));
    submit(&browser);
    until_true("the project's own page", || {
        browser.url().ends_with("/edit")
    });
    let project = browser.url().split('/').nth(4).unwrap().to_owned();

    browser.go(&format!("{url}/releases/new?project={project}"));
    browser.click("#ref-picker [data-value='main']");
    browser.click("#release-form button[type=submit]");
    watch(&browser, &gate);
    assert_eq!(
        std::fs::read_to_string(root.path().join("srv/app/current/index.html")).unwrap(),
        "two"
    );

    browser.click("g.node[data-key^='restart']");
    browser.wait_for("document.getElementById('log').textContent.indexOf('two') >= 0");
    browser.screenshot("release");
    browser.click("form[action$='/again'] button");
    browser.wait_for("!window.notReloaded && document.querySelector('#release')");
    browser
        .wait_for("document.getElementById('release').getAttribute('data-state') === 'succeeded'");
}

/// Tests the connection and accepts the fingerprint that the machine's owner reads out.
fn accept_host_key(browser: &Browser, sshd: &Sshd) {
    browser.mark();
    browser.click("[data-check] form button");
    browser.wait_for("document.querySelector('.check-result code')");
    assert_eq!(browser.text(".check-result code"), sshd.fingerprint());
    browser.click(".check-result button.primary");
    browser.wait_for("document.querySelector('.check-result .notice.is-success')");
    assert!(browser.is_marked(), "there was no reload");
}

/// Sees the chart while the restart waits at the gate, opens it, and sees every node succeed.
fn watch(browser: &Browser, gate: &Gate) {
    until_true("the release's page", || {
        let url = browser.url();
        url.contains("/releases/") && !url.ends_with("/new")
    });
    browser.wait_for("document.querySelectorAll('g.node').length > 5");
    browser.mark();
    gate.wait_until_reached();
    browser
        .wait_for("document.querySelector(\"g.node[data-key^='restart'][data-state='running']\")");
    let before = nodes(browser);
    assert!(
        before.iter().any(|node| node["state"] == "succeeded"),
        "{before:?}"
    );
    let running = before
        .iter()
        .find(|node| node["state"] == "running")
        .unwrap()["color"]
        .clone();
    browser.screenshot("release-running");
    gate.open();
    browser.wait_for(
        "[].every.call(document.querySelectorAll('g.node'), function (node) {
        return node.getAttribute('data-state') === 'succeeded'; })",
    );
    browser
        .wait_for("document.getElementById('release').getAttribute('data-state') === 'succeeded'");
    let after = nodes(browser);
    assert_eq!(after.len(), before.len());
    for node in &after {
        assert_eq!(node["color"], after[0]["color"], "{node}");
        assert_ne!(node["color"], running, "{node}");
        assert_ne!(node["fill"], json!("none"), "{node}");
    }
    assert!(browser.is_marked(), "there was no reload");
}

/// The nodes of the chart: key, state, color and the fill as painted.
fn nodes(browser: &Browser) -> Vec<Value> {
    let nodes = browser.script(
        "return [].map.call(document.querySelectorAll('g.node'), function (node) {
           return { key: node.getAttribute('data-key'), state: node.getAttribute('data-state'),
                    color: node.getAttribute('data-color'),
                    fill: getComputedStyle(node.querySelector('.shape')).fill };
         });",
    );
    serde_json::from_value(nodes).unwrap()
}

fn submit(browser: &Browser) {
    let before = browser.url();
    browser.click("#entity-form button[type=submit]");
    until_true("the page after the form", || browser.url() != before);
}
