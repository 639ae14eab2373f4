//! Changes that another site's page could send with somebody's cookie: all refused, nothing done.

use crate::endpoints::{ENDPOINTS, Stage, ask, log_in, request};

/// Faults of a request that has an admin's cookie.
const FORGERIES: [&str; 8] = [
    "neither Origin nor Referer",
    "a foreign Origin",
    "the Origin null",
    "a foreign Referer",
    "JSON as text/plain from elsewhere",
    "no form token",
    "a wrong form token",
    "the form token of another login",
];

/// Paths without a form token: a login is how one gets one, and the wire goes by the Origin alone.
const WITHOUT_TOKEN: [&str; 2] = ["/login", "/send_msg"];

#[test]
fn every_forged_change_is_refused_and_changes_nothing() {
    let stage = Stage::start();
    let (server, url) = (&stage.server, stage.server.url.as_str());
    let (cookie, token) = log_in(server, "admin");
    let (_, other) = log_in(server, "admin");
    let cookie = format!("Cookie: {cookie}");
    let own = format!("Origin: {url}");
    let with = |token: &str| format!("X-CSRF-Token: {token}");
    let before = stage.everything();
    let mut count = 0;
    for (method, path, _) in ENDPOINTS.iter().filter(|(method, ..)| *method != "GET") {
        for forgery in FORGERIES {
            let by_token = forgery.contains("token");
            if by_token && WITHOUT_TOKEN.contains(path) {
                continue;
            }
            let shown = match forgery {
                "neither Origin nor Referer" => vec![with(&token)],
                "a foreign Origin" | "JSON as text/plain from elsewhere" => {
                    vec!["Origin: http://evil.example".to_owned(), with(&token)]
                }
                "the Origin null" => vec!["Origin: null".to_owned(), with(&token)],
                "a foreign Referer" => {
                    vec![
                        format!("Referer: http://evil.example/?{url}/"),
                        with(&token),
                    ]
                }
                "no form token" => vec![own.clone()],
                "a wrong form token" => vec![own.clone(), with(&token[1..])],
                _ => vec![own.clone(), with(&other)],
            };
            let headers = [vec![cookie.clone()], shown].concat();
            let mut request = request(&stage, (method, path), true, &headers);
            if forgery.contains("text/plain") {
                let text = String::from_utf8(request).unwrap();
                let form = "application/x-www-form-urlencoded";
                let text = text.replace("application/json", "text/plain");
                request = text.replace(form, "text/plain").into_bytes();
            }
            let (status, text) = ask(url, method, &request);
            // One that says that it is no form may be refused for that before.
            let as_text = forgery.contains("text/plain") && matches!(status, 400 | 415);
            assert!(
                status == 403 || as_text,
                "{forgery}: {method} {path}\n{text}"
            );
            count += 1;
        }
    }
    assert!(count >= 360, "{count}");
    assert_eq!(stage.everything(), before);
    let still = [cookie, own, with(&token)];
    let poll = "/get_msg";
    let started = String::from_utf8(request(&stage, ("GET", poll), true, &still)).unwrap();
    let started = started.replace("after=now", "after=start&wait=0");
    let (status, text) = ask(url, "GET", started.as_bytes());
    assert_eq!(status, 200, "the login goes on: {text}");
    assert!(text.contains("\"messages\":[]"), "{text}");
    // With all that is asked for, the same is done.
    let right = request(&stage, ("POST", "/api/v1/servers/{id}/check"), true, &still);
    let (status, text) = ask(url, "POST", &right);
    assert_eq!(status, 200, "{text}");
}
