//! Recognizes and parses the requests that the poll loop serves: pure.

use std::{mem::MaybeUninit, net::IpAddr, sync::Arc};

use crate::http::{Head, Sites, Source};
use crate::hub::{Position, RoomName};
use crate::secret::Secret;
use crate::transport::{
    access::Asker,
    ask::{Ask, Contract},
    poll::Asked,
    send::{AnswerForm, Fields},
};

/// The longest request head; longer ones are handed over to the routes.
pub const HEAD_BYTES: usize = 8 << 10;
/// The most headers; requests with more are handed over to the routes.
const HEADERS: usize = 32;

/// True if a connection that begins with `read` may be one for the poll loop: a first check that
/// keeps pages and forms out of it.
pub fn is_for_poll_loop(read: &[u8]) -> bool {
    read.starts_with(b"GET /get_msg") || read.starts_with(b"POST /send_msg")
}

/// A request that the poll loop serves.
pub(super) enum Request<'a> {
    Poll(Asked),
    Publish(Published<'a>),
}

/// A message that a client publishes.
pub(super) struct Published<'a> {
    pub(super) source: Source,
    pub(super) asker: Asker<'a>,
    pub(super) fields: Fields,
    pub(super) form: AnswerForm,
}

/// Parses a request. `None` if the request is not for the poll loop, incomplete or malformed: the
/// routes implement all of HTTP.
pub(super) fn read<'a>(
    bytes: &'a [u8],
    peer: Option<IpAddr>,
    last_request: &mut LastRequest,
    shared: &mut Arc<[RoomName]>,
    sites: &Sites,
) -> Option<Request<'a>> {
    if let Some(asked) = last_request.again(bytes) {
        return Some(Request::Poll(asked));
    }
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS];
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(bytes, &mut headers);
    let Ok(httparse::Status::Complete(length)) = parsed else {
        return None;
    };
    let (head, body) = bytes.split_at(length);
    if request.method == Some("POST") {
        return publish(&request, body, peer, sites).map(Request::Publish);
    }
    if !body.is_empty() {
        // It is a body or the next request.
        return None;
    }
    poll(&request, head, peer, last_request, shared, sites).map(Request::Poll)
}

fn poll(
    request: &httparse::Request<'_, '_>,
    head: &[u8],
    peer: Option<IpAddr>,
    last_request: &mut LastRequest,
    shared: &mut Arc<[RoomName]>,
    sites: &Sites,
) -> Option<Asked> {
    let ask = Ask::parse(query(request)?).ok()?;
    let (asker, _) = sender(request.headers, None, peer, sites)?;
    let Contract::Full { rooms, after } = ask.contract else {
        return None;
    };
    if **shared != *rooms {
        *shared = rooms.into();
    }
    let asked = Asked::new(asker, ask.name.into(), Arc::clone(shared), after, ask.wait);
    last_request.remember(head, &asked);
    Some(asked)
}

/// Parses a complete message in a form or in JSON.
fn publish<'a>(
    request: &httparse::Request<'_, 'a>,
    body: &[u8],
    peer: Option<IpAddr>,
    sites: &Sites,
) -> Option<Published<'a>> {
    let is_ours = matches!(request.path?, "/send_msg" | "/send_msg/") && request.version == Some(1);
    if !is_ours {
        return None;
    }
    let (asker, source) = sender(request.headers, Some(body.len()), peer, sites)?;
    let kind = only(request.headers, "content-type")?;
    Some(Published {
        source,
        asker,
        fields: Fields::parse(kind, body).ok()?,
        form: AnswerForm::of(only(request.headers, "accept")?),
    })
}

/// The text of the header `name`, empty if there is none; `None` if there are several.
fn only<'a>(headers: &[httparse::Header<'a>], name: &str) -> Option<&'a str> {
    let mut values = headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case(name));
    match (values.next(), values.next()) {
        (None, _) => Some(""),
        (Some(header), None) => std::str::from_utf8(header.value).ok(),
        (Some(_), Some(_)) => None,
    }
}

/// The last request of a connection. Its next request usually differs only in the cursor, and then
/// only the cursor is parsed.
#[derive(Default)]
pub(super) struct LastRequest(Option<Box<Last>>);

struct Last {
    /// The head without its cursor, which was at `at`. It may contain a login.
    head: Secret<Box<[u8]>>,
    at: usize,
    asked: Asked,
}

impl LastRequest {
    /// The poll, if `head` differs from the last one only in its cursor.
    fn again(&self, head: &[u8]) -> Option<Asked> {
        let Last {
            head: last,
            at,
            asked,
        } = self.0.as_deref()?;
        let (before, behind) = last.expose().split_at_checked(*at)?;
        let cursor = head.strip_prefix(before)?.strip_suffix(behind)?;
        let after = Position::parse([plain(cursor)?]).ok()?;
        Some(Asked {
            after,
            ..asked.clone()
        })
    }

    fn remember(&mut self, head: &[u8], asked: &Asked) {
        self.0 = around_cursor(head).map(|(before, behind)| {
            Box::new(Last {
                head: Secret::new([before, behind].concat().into()),
                at: before.len(),
                asked: asked.clone(),
            })
        });
    }
}

/// The bytes before and after the value of the only `after` in the query of a head. `None` if there
/// is not exactly one, or if its value has characters that cursors do not have.
fn around_cursor(head: &[u8]) -> Option<(&[u8], &[u8])> {
    const NAME: &str = "after=";
    let line = head.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let mut names = line.match_indices(NAME);
    let ((at, _), None) = (names.next()?, names.next()) else {
        return None;
    };
    let from = at + NAME.len();
    let length = line[from..].find(['&', ' '])?;
    let (before, rest) = head.split_at(from);
    let (cursor, behind) = rest.split_at(length);
    let begins = line[..at].ends_with(['?', '&']);
    (begins && plain(cursor).is_some()).then_some((before, behind))
}

/// `value` as text, if it has only the characters of cursors.
fn plain(value: &[u8]) -> Option<&str> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let value = value.iter().all(is_plain).then_some(value)?;
    std::str::from_utf8(value).ok()
}

fn query<'a>(request: &httparse::Request<'_, 'a>) -> Option<&'a str> {
    if request.method != Some("GET") || request.version != Some(1) {
        return None;
    }
    let path = request.path?;
    let path = path.strip_prefix("/get_msg")?;
    let query = path.strip_prefix('/').unwrap_or(path).strip_prefix('?')?;
    (!query.contains('#')).then_some(query)
}

/// The sender according to the headers, and the source of the page that sent the request. `None` if
/// a header needs the routes, if the headers do not announce a body of `body` bytes (`None`: no
/// body), or if the page is of another site, which the routes refuse.
fn sender<'a>(
    headers: &[httparse::Header<'a>],
    body: Option<usize>,
    peer: Option<IpAddr>,
    sites: &Sites,
) -> Option<(Asker<'a>, Source)> {
    let (mut hosts, mut announced) = (0, None);
    for header in headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        match header.name.len() {
            4 if is("host") => hosts += 1,
            10 if is("connection") && !header.value.eq_ignore_ascii_case(b"keep-alive") => {
                return None;
            }
            6 if is("expect") => return None,
            7 if is("upgrade") => return None,
            14 if is("content-length") => {
                let is_plain = header.value.iter().all(u8::is_ascii_digit);
                let length = std::str::from_utf8(header.value).ok()?.parse().ok()?;
                if !is_plain || announced.replace(length).is_some() {
                    return None;
                }
            }
            17 if is("transfer-encoding") => return None,
            _ => {}
        }
    }
    let head = Head::of(headers.iter().map(|header| (header.name, header.value)));
    let source = sites.source(&head);
    let is_plain = hosts == 1 && announced == body && source != Source::Foreign;
    is_plain.then(|| (Asker::read(sites, peer, &head), source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Proof;

    const POLL: &str = "GET /get_msg?name=ann&room=chat&after=b.7 HTTP/1.1\r\nHost: here\r\n";

    fn read_text(text: &str) -> Option<Asked> {
        let mut shared = Arc::default();
        let sites = Sites::default();
        let mut last_request = LastRequest::default();
        match read(
            text.as_bytes(),
            None,
            &mut last_request,
            &mut shared,
            &sites,
        )? {
            Request::Poll(asked) => Some(asked),
            Request::Publish(_) => None,
        }
    }

    /// The fields of a message and the format of its reply.
    fn read_message(text: &str) -> Option<(Fields, AnswerForm)> {
        let mut shared = Arc::default();
        let sites = Sites::default();
        let mut last_request = LastRequest::default();
        match read(
            text.as_bytes(),
            None,
            &mut last_request,
            &mut shared,
            &sites,
        )? {
            Request::Publish(published) => Some((published.fields, published.form)),
            Request::Poll(_) => None,
        }
    }

    #[test]
    fn a_whole_message_is_for_the_poll_loop() {
        let form = "POST /send_msg HTTP/1.1\r\nHost: here\r\nContent-Length: 22\r\n\r\ncontent=hi&name=%E5%90";
        assert!(read_message(form).is_none(), "what is not sound is not");
        let form = "POST /send_msg/ HTTP/1.1\r\nHost: here\r\ncontent-length: 19\r\n\r\ncontent=hi&name=ann";
        let (fields, answer) = read_message(form).unwrap();
        assert_eq!(fields.content.as_deref(), Some("hi"));
        assert_eq!(fields.name.as_deref(), Some("ann"));
        assert_eq!(answer, AnswerForm::Text);
        let json = "POST /send_msg HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n\
             Accept: application/json\r\nContent-Length: 16\r\n\r\n{\"content\":\"hi\"}";
        let (fields, answer) = read_message(json).unwrap();
        assert_eq!(fields.content.as_deref(), Some("hi"));
        assert_eq!(answer, AnswerForm::Json);
    }

    #[test]
    fn other_ways_to_send_a_message_are_the_routes() {
        let whole = "POST /send_msg HTTP/1.1\r\nHost: here\r\nContent-Length: 10\r\n\r\ncontent=hi";
        assert!(read_message(whole).is_some());
        for cut in 0..whole.len() {
            assert!(read_message(&whole[..cut]).is_none(), "cut at {cut}");
        }
        for (part, other) in [
            ("POST", "PUT"),
            ("/send_msg", "/send_msg?x"),
            ("/send_msg", "/send_msgs"),
            ("HTTP/1.1", "HTTP/1.0"),
            ("Content-Length: 10", "Content-Length: +10"),
            (
                "Content-Length: 10",
                "Content-Length: 10\r\nContent-Length: 10",
            ),
            (
                "Content-Length: 10",
                "Content-Length: 10\r\nTransfer-Encoding: chunked",
            ),
            (
                "Content-Length: 10",
                "Content-Length: 10\r\nExpect: 100-continue",
            ),
            (
                "Content-Length: 10",
                "Content-Length: 10\r\nConnection: close",
            ),
            (
                "Content-Length: 10",
                "Content-Length: 10\r\nUpgrade: websocket",
            ),
            (
                "Content-Length: 10",
                "Content-Length: 10\r\nContent-Type: text/xml",
            ),
            (
                "Content-Length: 10",
                "Content-Length: 10\r\nOrigin: http://there",
            ),
            ("Host: here\r\n", ""),
            ("content=hi", "content=hiGET / HTTP/1.1\r\n"),
        ] {
            let request = whole.replace(part, other);
            assert!(read_message(&request).is_none(), "{request}");
        }
    }

    #[test]
    fn a_plain_poll_is_for_the_poll_loop() {
        let asked = read_text(&format!("{POLL}Connection: Keep-Alive\r\n\r\n")).unwrap();
        assert_eq!(&*asked.name, "ann");
        assert_eq!(*asked.rooms, [RoomName::chat()]);
        assert_eq!(asked.after, Position::parse(["b.7"]).unwrap());
        assert!(matches!(asked.proof, Proof::None));
        let slash = POLL.replace("/get_msg?", "/get_msg/?");
        assert!(read_text(&format!("{slash}\r\n")).is_some());
    }

    #[test]
    fn a_page_of_this_host_may_ask() {
        for own in [
            "Origin: http://here",
            "Referer: https://here/page?x=http://there",
            "Referer: http://there/\r\nOrigin: https://here",
        ] {
            assert!(
                read_text(&format!("{POLL}{own}\r\n\r\n")).is_some(),
                "{own}"
            );
        }
    }

    #[test]
    fn it_carries_its_proof() {
        let with = |header: &str| read_text(&format!("{POLL}{header}\r\n\r\n")).unwrap().proof;
        match with("cookie: a=b; longshore_session=tok") {
            Proof::Cookie(token) => assert_eq!(token.expose(), "tok"),
            other => panic!("{other:?}"),
        }
        match with("AUTHORIZATION: Bearer tok\r\nCookie: longshore_session=x") {
            Proof::Bearer(token) => assert_eq!(token.expose(), "tok"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_usual_head_gives_what_a_new_one_gives() {
        let (mut last_request, mut shared) = (LastRequest::default(), Arc::default());
        let queries = [
            "name=ann&room=chat&after=b.7",
            "name=ann&room=chat&after=b.8",
            "name=ann&room=chat&after=now",
            "name=bob&room=chat&after=b.8",
            "name=bob&room=chat%2Fx&wait=5&after=b.8",
            "name=bob&room=chat%2Fx&wait=6&after=b.8",
            "after=b.9&name=bob&room=chat&room=vote%2Fx",
            "after=b.10&name=bob&room=chat&room=vote%2Fx",
            "after=b.10&name=bob&room=chat&room=vote%2Fx&after=b.3",
            "after=b%2E10&name=bob&room=chat",
            "name=bob&room=chat&thereafter=b.1&wait=0",
            "name=bob&room=chat",
            "name=ann&room=chat&after=",
            "name=ann&room=chat&after=b",
            "name=ann&room=chat&after=b.9",
            "name=ann",
            "name=ann&room=chat&after=b.10",
        ];
        let ends = [
            "Host: here\r\n\r\n",
            "Host: here\r\nCookie: longshore_session=tok\r\n\r\n",
            "Host: here\r\nCookie: longshore_session=after=b.8\r\n\r\n",
            "Host: here\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
            "Host: here\r\nConnection: close\r\n\r\n",
            "Host: here\r\n\r\nGET",
        ];
        let said = |asked: Asked| {
            let Asked {
                name,
                rooms,
                after,
                wait,
                ..
            } = asked;
            let proof = match asked.proof {
                Proof::Cookie(token) => token.expose().clone(),
                _ => String::new(),
            };
            (name, rooms, after, wait, proof, asked.forwarded)
        };
        let mut again = 0;
        for end in ends.iter().chain(&ends) {
            for query in queries.iter().flat_map(|query| [query, query]) {
                let head = format!("GET /get_msg?{query} HTTP/1.1\r\n{end}");
                again += usize::from(last_request.again(head.as_bytes()).is_some());
                let got = read(
                    head.as_bytes(),
                    None,
                    &mut last_request,
                    &mut shared,
                    &Sites::default(),
                );
                let got = got.and_then(|request| match request {
                    Request::Poll(asked) => Some(asked),
                    Request::Publish(_) => None,
                });
                assert_eq!(got.map(said), read_text(&head).map(said), "{head}");
            }
        }
        assert!(again > 50, "{again}");
    }

    #[test]
    fn everything_else_is_the_routes() {
        let whole = format!("{POLL}\r\n");
        for cut in 0..whole.len() {
            assert!(read_text(&whole[..cut]).is_none(), "cut at {cut}");
        }
        for other in [
            whole.replace("GET", "POST"),
            whole.replace("GET", "HEAD"),
            whole.replace("HTTP/1.1", "HTTP/1.0"),
            whole.replace("/get_msg?", "/get_msgs?"),
            whole.replace("/get_msg?", "http://here/get_msg?"),
            whole.replace("&room=chat&after=b.7", ""),
            whole.replace("b.7", "!"),
            whole.replace("Host: here\r\n", ""),
            whole.replace("Host: here", "Host: here\r\nHost: there"),
            whole.replace("Host: here", "Host: here\r\nConnection: close"),
            whole.replace(
                "Host: here",
                "Host: here\r\nConnection: upgrade\r\nUpgrade: websocket",
            ),
            whole.replace("Host: here", "Host: here\r\nUpgrade: websocket"),
            whole.replace("Host: here", "Host: here\r\nContent-Length: 0"),
            whole.replace("Host: here", "Host: here\r\nTransfer-Encoding: chunked"),
            whole.replace("Host: here", "Host: here\r\nExpect: 100-continue"),
            whole.replace("Host: here", "Host: here\r\n folded: x"),
            whole.replace("Host: here", "Host: here\r\nOrigin: http://there"),
            whole.replace("Host: here", "Host: here\r\nOrigin: http://hereabouts"),
            whole.replace("Host: here", "Host: here\r\nOrigin: null"),
            whole.replace("Host: here", "Host: here\r\nReferer: http://there/here"),
            whole.replace("Host: here", "Host:\r\nOrigin: http://"),
            format!("{whole}{whole}"),
        ] {
            assert!(read_text(&other).is_none(), "{other}");
        }
    }
}
