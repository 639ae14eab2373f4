//! The mixed load: four kinds of users, each on threads of its own.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server::{Server, text};

/// The number of pollers in a round.
const POLLERS: usize = 200;
/// Their count in `/metrics`.
const PARKED: &str = "longshore_parked_polls";
/// The time within which all of them are parked.
const PARKED_WITHIN: Duration = Duration::from_secs(5);
/// Paths that are read again and again.
const PATHS: [&str; 7] = [
    "/login",
    "/releases",
    "/projects",
    "/servers",
    "/api/v1/releases",
    "/api/v1/projects",
    "/api/v1/servers",
];

/// Counts of the work done, and the times of the reads since the last [`Load::latency`].
#[derive(Default)]
pub struct Done {
    pub releases: AtomicU64,
    pub reads: AtomicU64,
    pub streams: AtomicU64,
    pub rounds: AtomicU64,
    milliseconds: Mutex<Vec<u64>>,
    is_over: AtomicBool,
}

/// The load while it runs.
pub struct Load {
    done: Arc<Done>,
    threads: Vec<JoinHandle<()>>,
}

impl std::ops::Deref for Load {
    type Target = Done;

    fn deref(&self) -> &Done {
        &self.done
    }
}

impl Load {
    pub fn start(server: &Arc<Server>) -> Self {
        let done = Arc::new(Done::default());
        let users: [fn(&Server, &Done); 5] = [release, read, read, stream, poll];
        let threads = users.map(|user| {
            let (server, done) = (Arc::clone(server), Arc::clone(&done));
            std::thread::spawn(move || {
                while !done.is_over.load(Ordering::Relaxed) {
                    user(&server, &done);
                }
            })
        });
        Self {
            done,
            threads: threads.into(),
        }
    }

    /// The median and the 99th hundredth of the reads since the last call, in milliseconds.
    pub fn latency(&self) -> (u64, u64) {
        let mut times = std::mem::take(&mut *self.lock());
        times.sort_unstable();
        let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or(0);
        (at(50), at(99))
    }

    pub fn stop(self) {
        self.done.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

impl Done {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<u64>> {
        self.milliseconds
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Ordering::Relaxed)
}

fn release(server: &Server, done: &Done) {
    let asked = json!({"project_id": server.project, "ref": "main"});
    let Some(release) = server.post("releases", &asked) else {
        std::thread::sleep(Duration::from_millis(200));
        return;
    };
    let path = format!("/api/v1/releases/{}", text(&release["id"]));
    let is_active = |body: String| body.contains("\"queued\"") || body.contains("\"running\"");
    while server.get(&path).is_some_and(is_active) {
        std::thread::sleep(Duration::from_millis(50));
    }
    count(&done.releases);
}

fn read(server: &Server, done: &Done) {
    let path = PATHS[count(&done.reads) as usize % PATHS.len()];
    let begun = Instant::now();
    server.get(path).expect("an answer");
    done.lock().push(begun.elapsed().as_millis() as u64);
}

/// Opens a connection, sends a request and gives the connection.
fn ask(server: &Server, path: &str) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(&server.address).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .ok()?;
    let (host, token) = (&server.address, &server.token);
    let head =
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    Some(stream)
}

fn stream(server: &Server, done: &Done) {
    let name = count(&done.streams);
    if let Some(mut stream) = ask(server, &format!("/events?name=s{name}&room=releases")) {
        let _ = stream.read(&mut [0; 512]);
    }
}

/// A room of its own, of whose parked pollers half are cut before the message comes.
fn poll(server: &Server, done: &Done) {
    let round = count(&done.rounds);
    let room = format!("chat/soak-{round}");
    let now = server.get(&format!("/get_msg?name=sender&room={room}&after=now"));
    let now: Value = serde_json::from_str(&now.expect("an answer")).expect("JSON");
    let after = text(&now["cursor"]);
    let ask_one = |number| {
        let name = format!("p{round}-{number}");
        let path = format!("/get_msg?name={name}&room={room}&after={after}&wait=20");
        ask(server, &path)
    };
    let mut polls: Vec<TcpStream> = (0..POLLERS).filter_map(ask_one).collect();
    let begun = Instant::now();
    while server.counts(&[PARKED])[0] < polls.len() as u64 && begun.elapsed() < PARKED_WITHIN {
        std::thread::sleep(Duration::from_millis(20));
    }
    polls.truncate(POLLERS / 2);
    let send = format!("http://{}/send_msg", server.address);
    let form = [
        ("name", "sender"),
        ("room", room.as_str()),
        ("content", "hello"),
    ];
    let _ = server.agent.post(send).send_form(form);
    for poll in &mut polls {
        let _ = poll.read(&mut [0; 2048]);
    }
}
