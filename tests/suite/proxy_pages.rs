//! Our chat page in browsers behind Debian's proxies: the library finds a way through each.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fixture::{Browser, Longshore, Page, Phantom, ProxyKind};
use crate::proxies::{through_each, with_proxies};

/// A browser that reads a page: Chromium or PhantomJS.
trait Reader {
    fn go(&self, url: &str);
    fn script(&self, script: &str) -> Value;
    fn wait_for(&self, condition: &str);
    fn say(&self, text: &str);
    /// True if the library has settled on a transport.
    fn has_settled(&self) -> bool;
}

impl Reader for Browser {
    fn go(&self, url: &str) {
        Browser::go(self, url);
    }
    fn script(&self, script: &str) -> Value {
        Browser::script(self, script)
    }
    fn wait_for(&self, condition: &str) {
        Browser::wait_for(self, condition);
    }
    fn say(&self, text: &str) {
        self.fill("#txt", text);
        self.click("#composer button[type=submit]");
    }
    fn has_settled(&self) -> bool {
        let settled = "return Object.keys(localStorage).some(function (key) {
            return key.indexOf('longshore ') === 0 && JSON.parse(localStorage[key]).way; });";
        Browser::script(self, settled) == json!(true)
    }
}

impl Reader for Page<'_> {
    fn go(&self, url: &str) {
        Page::go(self, url);
    }
    fn script(&self, script: &str) -> Value {
        Page::script(self, script)
    }
    fn wait_for(&self, condition: &str) {
        Page::wait_for(self, condition);
    }
    fn say(&self, text: &str) {
        self.fill("#txt", text);
        self.click("#composer button[type=submit]");
    }
    fn has_settled(&self) -> bool {
        true // there is one way alone
    }
}

/// The longest time that traffic goes on while the library looks for a transport.
const TRAFFIC: Duration = Duration::from_secs(15);

/// Talks to the page while it tries its transports, and from it; every message must be shown once and
/// in order. Returns the transport that the page settled on.
fn reads_everything(server: &Longshore, page: &dyn Reader, url: &str, name: &str) -> String {
    page.go(&format!("{url}/home/?name={name}"));
    page.script("window.notReloaded = true;");
    page.wait_for("document.getElementById('live').getAttribute('data-state') === 'on'");
    let mouth = server.wire(&format!("{name}, elsewhere"));
    let mut said = Vec::new();
    let start = Instant::now();
    loop {
        let text = format!("{name} {}", said.len());
        mouth.say(&text);
        said.push(text);
        if said.len() >= 20 && (page.has_settled() || start.elapsed() > TRAFFIC) {
            break;
        }
        std::thread::sleep(Duration::from_millis(150));
    }
    let own = format!("{name} 自己说的");
    page.say(&own);
    said.push(own.clone());
    page.wait_for(&format!("({}).indexOf({}) >= 0", told(name), json!(own)));
    for number in 0..5 {
        let text = format!("{name} after {number}");
        mouth.say(&text);
        said.push(text);
    }
    let last = json!(said.last());
    page.wait_for(&format!("({}).indexOf({last}) >= 0", told(name)));
    assert_eq!(
        page.script(&format!("return {};", told(name))),
        json!(said),
        "{name}"
    );
    assert_eq!(
        page.script("return window.notReloaded;"),
        json!(true),
        "{name}: no reload"
    );
    let way = page.script("return document.getElementById('live').getAttribute('data-transport');");
    let way = way.as_str().unwrap_or_default().to_owned();
    println!(
        "{name}: {} messages, by {way} after {:?}",
        said.len(),
        start.elapsed()
    );
    way
}

/// An expression: the texts in the chat page's record that begin with `name`.
fn told(name: &str) -> String {
    format!(
        "[].map.call(document.querySelectorAll('#record .bubble'), function (bubble) {{
           return bubble.lastChild.textContent;
         }}).filter(function (text) {{ return text.indexOf({}) === 0; }})",
        json!(format!("{name} "))
    )
}

#[test]
fn the_chat_page_works_in_chromium_behind_every_proxy() {
    let (server, proxies) = with_proxies();
    through_each(&proxies, |proxy| {
        let browser = match proxy.kind.is_forward() {
            true => Browser::behind(proxy),
            false => Browser::start(),
        };
        let name = format!("{:?}", proxy.kind);
        let way = reads_everything(&server, &browser, &proxy.url(), &name);
        let expected = match proxy.kind {
            ProxyKind::Squid | ProxyKind::Nginx => "sse",
            _ => "websocket",
        };
        assert_eq!(way, expected, "{name}");
    });
}

#[test]
fn the_chat_page_works_in_an_old_engine_behind_every_proxy() {
    let (server, proxies) = with_proxies();
    through_each(&proxies, |proxy| {
        let phantom = match proxy.kind.is_forward() {
            true => Phantom::behind(proxy),
            false => Phantom::start(),
        };
        let url = match proxy.kind.is_forward() {
            // PhantomJS goes to loopback addresses itself; to it this is none, and it leads here too.
            true => proxy.url().replace("127.0.0.1", "0.0.0.0"),
            false => proxy.url(),
        };
        let name = format!("{:?}", proxy.kind);
        let way = reads_everything(&server, &phantom.page("chat"), &url, &name);
        assert_eq!(way, "longpoll", "{name}");
        assert_eq!(phantom.complaints(), json!([]), "{name}");
    });
}
