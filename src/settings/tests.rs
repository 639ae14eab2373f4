//! The sources of settings and their bounds.

use super::*;

fn variables(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect::<Vec<_>>()
        .into_iter()
}

#[test]
fn variables_go_over_the_file_and_the_file_over_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("longshore.toml");
    std::fs::write(&path, "listen = \"127.0.0.1:9000\"\nchat = \"off\"\n").unwrap();
    let settings = Settings::load(
        Some(&path),
        variables(&[
            ("LONGSHORE_CHAT", "open"),
            (
                "LONGSHORE_PUBLIC_URLS",
                "https://a.example, https://b.example",
            ),
            ("LONGSHORE_RUN_AS", "builder"),
            ("LONGSHORE_GIT_ALLOW_HTTP", "true"),
            ("LONGSHORE_LIMITS", "off"),
            ("PATH", "/bin"),
        ]),
    )
    .unwrap();
    assert_eq!(settings.listen.port(), 9000);
    assert_eq!(settings.chat, ChatAccess::Open);
    assert_eq!(
        settings.public_urls,
        ["https://a.example", "https://b.example"]
    );
    assert_eq!(settings.run_as.as_deref(), Some("builder"));
    assert!(settings.git_allow_http);
    assert_eq!(settings.queue_messages, 256);
    assert_eq!(settings.clients, u32::MAX);
    assert_eq!(settings.message_bytes, 65_536);
}

#[test]
fn wrong_settings_are_named() {
    for (name, value, expected) in [
        ("LONGSHORE_LISTEN", "nowhere", "listen"),
        ("LONGSHORE_CHAT", "sometimes", "chat"),
        ("LONGSHORE_QUEUE_MESSAGES", "0", "queue_messages"),
        ("LONGSHORE_QUEUE_MESSAGES", "many", "queue_messages"),
        ("LONGSHORE_LISTNE", "1", "listne"),
        ("LONGSHORE_POLL_ROOMS", "257", "poll_rooms"),
        ("LONGSHORE_MESSAGE_BYTES", "65537", "message_bytes"),
        ("LONGSHORE_CONNECTIONS", "0", "connections"),
        ("LONGSHORE_LIMITS", "of", "LONGSHORE_LIMITS"),
        ("LONGSHORE_PUBLIC_URLS", "deploy.example", "public_urls"),
        (
            "LONGSHORE_TRUSTED_PROXIES",
            "proxy.local",
            "trusted_proxies",
        ),
    ] {
        let error = Settings::load(None, variables(&[(name, value)]))
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{name}={value}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn the_documentation_lists_every_setting_with_its_default() {
    let documented = include_str!("../../docs/settings.md");
    let table = toml::Table::try_from(Settings::with_every_key(&Settings::default())).unwrap();
    for (key, value) in table {
        let row = match key.as_str() {
            "run_as" | "git_ca_file" => format!("| `{key}` | – |"),
            _ => format!("| `{key}` | `{}` |", serde_json::to_string(&value).unwrap()),
        };
        assert!(documented.contains(&row), "docs/settings.md lacks {row}");
    }
}
