//! The rules of a server's fields.

use super::*;

const CREDENTIALS: [(CredentialId, CredentialKind); 2] = [
    (CredentialId(1), CredentialKind::SshKey),
    (CredentialId(2), CredentialKind::GitToken),
];

/// A valid server except for the fields in `json`.
fn checked(json: &str) -> std::result::Result<ServerValues, FieldErrors> {
    checked_way(json).map(|(values, _)| values)
}

fn checked_way(json: &str) -> std::result::Result<(ServerValues, Way), FieldErrors> {
    let mut object = serde_json::json!({
        "hostname": "web-1", "host": "192.0.2.1", "port": 22, "user": "deploy",
        "kind": "ssh", "credential_id": "1", "root": "/",
    });
    let changes: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).unwrap();
    object.as_object_mut().unwrap().extend(changes);
    let body = serde_json::to_vec(&object).unwrap();
    let fields = Fields::from_json("application/json", &body).unwrap();
    check(&fields, None, &CREDENTIALS)
}

#[test]
fn each_bad_value_names_its_field() {
    let long_name = format!(r#"{{"hostname":"{}"}}"#, "x".repeat(65));
    for (json, field, code) in [
        (r#"{"hostname":""}"#, "hostname", "required"),
        (r#"{"hostname":null}"#, "hostname", "required"),
        (r#"{"hostname":{}}"#, "hostname", "invalid_type"),
        (r#"{"hostname":"a\nb"}"#, "hostname", "invalid_characters"),
        (long_name.as_str(), "hostname", "too_long"),
        (r#"{"host":""}"#, "host", "required"),
        (r#"{"host":"-oX"}"#, "host", "invalid_host"),
        (r#"{"host":"a b"}"#, "host", "invalid_host"),
        (r#"{"host":"a..b"}"#, "host", "invalid_host"),
        (r#"{"host":"a.."}"#, "host", "invalid_host"),
        (r#"{"host":"."}"#, "host", "invalid_host"),
        (r#"{"host":"[a]"}"#, "host", "invalid_host"),
        (r#"{"host":"a;id"}"#, "host", "invalid_host"),
        (r#"{"host":"a\u0000"}"#, "host", "invalid_characters"),
        (r#"{"port":0}"#, "port", "invalid_port"),
        (r#"{"port":65536}"#, "port", "invalid_port"),
        (r#"{"port":"22;id"}"#, "port", "invalid_port"),
        (r#"{"port":22.5}"#, "port", "invalid_port"),
        (r#"{"user":""}"#, "user", "required"),
        (r#"{"user":"root\n"}"#, "user", "invalid_characters"),
        (r#"{"user":"-x"}"#, "user", "invalid_user"),
        (r#"{"user":"a b"}"#, "user", "invalid_user"),
        (r#"{"kind":"telnet"}"#, "kind", "unknown_choice"),
        (
            r#"{"credential_id":"x"}"#,
            "credential_id",
            "unknown_choice",
        ),
        (r#"{"credential_id":9}"#, "credential_id", "unknown_choice"),
        (
            r#"{"credential_id":2}"#,
            "credential_id",
            "wrong_credential",
        ),
        (r#"{"root":".."}"#, "root", "invalid_path"),
        (r#"{"root":"/$(id)"}"#, "root", "invalid_path"),
        (r#"{"jump_id":"x"}"#, "jump_id", "unknown_choice"),
        (r#"{"proxy":"gate:1080"}"#, "proxy", "invalid_proxy"),
        (r#"{"proxy":"socks4://gate"}"#, "proxy", "invalid_proxy"),
        (r#"{"proxy":"http://a\nb"}"#, "proxy", "invalid_characters"),
        (r#"{"proxy":["http://p"]}"#, "proxy", "invalid_type"),
        (
            r#"{"proxy":"http://p","jump_id":1}"#,
            "proxy",
            "proxy_behind_jump",
        ),
        (
            r#"{"proxy":"http://p","proxy_command":["nc"]}"#,
            "proxy_command",
            "proxy_twice",
        ),
        (
            r#"{"proxy_command":["nc"],"jump_id":1}"#,
            "proxy_command",
            "proxy_behind_jump",
        ),
        (
            r#"{"proxy_command":["nc","%d"]}"#,
            "proxy_command",
            "invalid_proxy_command",
        ),
        (
            r#"{"proxy_command":["","%h"]}"#,
            "proxy_command",
            "invalid_proxy_command",
        ),
        (
            r#"{"proxy_command":["nc\u0000"]}"#,
            "proxy_command",
            "invalid_characters",
        ),
        (
            r#"{"proxy_command":{"a":1}}"#,
            "proxy_command",
            "invalid_type",
        ),
        (
            r#"{"connect_seconds":0}"#,
            "connect_seconds",
            "out_of_range",
        ),
        (r#"{"idle_seconds":"3601"}"#, "idle_seconds", "out_of_range"),
    ] {
        let errors = checked(json).unwrap_err();
        let first = errors.first().unwrap();
        assert_eq!((first.field.as_str(), first.code), (field, code), "{json}");
    }
}

#[test]
fn sound_values_pass() {
    for json in [
        "{}",
        r#"{"connect_seconds":"","idle_seconds":120,"jump_id":null}"#,
        r#"{"host":"::1"}"#,
        r#"{"host":"web-1.example.com."}"#,
        r#"{"host":"fe80::1%eth0"}"#,
        r#"{"credential_id":null}"#,
        r#"{"host":"web-1.example.com","port":"2222"}"#,
        r#"{"hostname":"<script>alert(1)</script>"}"#,
        r#"{"hostname":"一号服务器","root":"/srv/应用/"}"#,
        r#"{"kind":"local","host":"","user":"","credential_id":null}"#,
    ] {
        checked(json).unwrap_or_else(|errors| panic!("{json}: {errors:?}"));
    }
    let local = checked(r#"{"kind":"local","host":""}"#).unwrap();
    assert_eq!(
        (local.host.as_str(), local.credential_id),
        ("127.0.0.1", None)
    );
    assert_eq!(checked(r#"{"root":""}"#).unwrap().root, "/");
    assert_eq!(checked(r#"{"host":"[::1]"}"#).unwrap().host, "::1");
}

#[test]
fn a_proxy_command_is_a_list_or_a_word_a_line() {
    let words = |json: &str| checked_way(json).unwrap().1.command.map(|words| words.0);
    let nc = Some(["nc", "%h", "%p"].map(str::to_owned).to_vec());
    assert_eq!(words(r#"{"proxy_command":["nc","%h","%p"]}"#), nc);
    assert_eq!(words(r#"{"proxy_command":"nc\r\n%h\n\n %p \n"}"#), nc);
    for none in ["[]", "null", "\"\"", "\"\\n\""] {
        assert_eq!(words(&format!(r#"{{"proxy_command":{none}}}"#)), None);
    }
}

#[test]
fn every_bad_field_is_named_at_once_in_the_forms_order() {
    let errors = checked(r#"{"root":"..","host":"a b","hostname":""}"#).unwrap_err();
    let fields: Vec<&str> = errors.0.iter().map(|error| error.field.as_str()).collect();
    assert_eq!(fields, ["hostname", "host", "root"]);
}
