//! The wire over real sockets: an actix server on a free port, a client that speaks plain HTTP, and
//! a access that admits nearly every client.

mod course;
mod full;
mod send;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix_web::{App, HttpServer, dev::ServerHandle};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};

use super::*;
use crate::auth::Proof;
use crate::http::Sites;
use crate::hub::{
    Family, HubOptions, RoomName,
    test_log::{MemoryLog, epoch},
};

/// A bearer token is taken as an account name; rooms of releases require one; `shut` revokes every
/// right.
struct TestAccess {
    log: Arc<MemoryLog>,
    hub: Hub,
    shut: AtomicBool,
    sites: Sites,
}

impl Access for TestAccess {
    fn who(&self, asker: Asker) -> Soon<'_, Result<Who, Refusal>> {
        let account = match &asker.proof {
            Proof::Bearer(name) => Some(name.expose().clone()),
            Proof::Cookie(_) | Proof::None => None,
        };
        ready(Ok(Who {
            account,
            proof: asker.proof,
            address: asker.peer,
            foreign_host: asker.foreign_host,
        }))
    }

    fn may_read<'a>(
        &'a self,
        who: &'a Who,
        rooms: &'a [RoomName],
    ) -> Soon<'a, Result<(), Refusal>> {
        let wants_login = |room: &RoomName| room.family() == Family::Release;
        if self.shut.load(Ordering::Relaxed) {
            return ready(Err(Refusal::new(Code::Forbidden, "room", "shut")));
        }
        later(async move {
            match rooms.iter().any(wants_login) && who.account.is_none() {
                true => Err(Refusal::new(Code::Login, "room", "log in")),
                false => Ok(()),
            }
        })
    }

    fn sites(&self) -> &Sites {
        &self.sites
    }

    fn may_publish<'a>(&'a self, _: &'a Who, _: &'a Draft) -> Soon<'a, Result<(), Refusal>> {
        ready(Ok(()))
    }

    fn append_at_once(&self, _: &Draft) -> Option<u64> {
        None
    }

    fn append(&self, draft: Draft) -> Soon<'_, Result<u64, Refusal>> {
        later(async move {
            let message = self.log.append(&draft.room, &draft.content, 1);
            let number = message.number;
            self.hub.publish(vec![message]);
            Ok(number)
        })
    }
}

struct Site {
    access: Arc<TestAccess>,
    hub: Hub,
    addr: SocketAddr,
    server: ServerHandle,
}

fn site(options: HubOptions) -> Site {
    let log = MemoryLog::new();
    let hub = Hub::new(log.clone(), epoch("b"), 0, options);
    let access = Arc::new(TestAccess {
        log,
        hub: hub.clone(),
        shut: AtomicBool::new(false),
        sites: Sites::default(),
    });
    let wire = Wire::new(hub.clone(), access.clone());
    let server = HttpServer::new(move || {
        let wire = wire.clone();
        App::new().configure(move |config| wire.routes(config))
    })
    .workers(1)
    .disable_signals()
    .shutdown_timeout(1)
    .h1_allow_half_closed(false)
    .bind(("127.0.0.1", 0))
    .unwrap();
    let addr = server.addrs()[0];
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    Site {
        access,
        hub,
        addr,
        server: handle,
    }
}

impl Site {
    fn say(&self, room: &str, text: &str) {
        let room = RoomName::parse(room).unwrap();
        let message = self.access.log.append(&room, text, 1);
        self.hub.publish(vec![message]);
    }

    async fn open(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        stream
    }

    async fn call(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let mut stream = self.open(method, path, headers, body).await;
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.unwrap();
        Answer::parse(&String::from_utf8(read).unwrap())
    }

    async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "", b"").await
    }

    async fn parked(&self, path: &str, headers: &str) -> JoinHandle<Answer> {
        let polls = self.hub.census().polls;
        let mut stream = self.open("GET", path, headers, b"").await;
        let answer = actix_web::rt::spawn(async move {
            let mut read = Vec::new();
            stream.read_to_end(&mut read).await.unwrap();
            Answer::parse(&String::from_utf8(read).unwrap())
        });
        self.until_polls(polls + 1).await;
        answer
    }

    async fn until_polls(&self, polls: usize) {
        let arrived = async {
            while self.hub.census().polls != polls {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), arrived)
            .await
            .unwrap();
    }

    async fn stop(self) {
        self.server.stop(false).await;
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HashMap<String, String>,
    body: String,
}

impl Answer {
    fn parse(text: &str) -> Answer {
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        Answer {
            status: status.parse().unwrap(),
            headers: lines
                .map(|line| line.split_once(": ").unwrap())
                .map(|(key, value)| (key.to_ascii_lowercase(), value.to_owned()))
                .collect(),
            body: body.to_owned(),
        }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn cursor(&self) -> String {
        self.json()["cursor"].as_str().unwrap().to_owned()
    }

    fn texts(&self) -> Vec<String> {
        let json = self.json();
        let messages = json["messages"].as_array().unwrap().iter();
        messages
            .map(|m| m["data"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The `Cookie` header for the next request.
    fn cookie(&self) -> String {
        let set = &self.headers["set-cookie"];
        format!("Cookie: {}\r\n", set.split(';').next().unwrap())
    }
}
