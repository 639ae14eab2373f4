//! The two servers, each pinned to one core, with what they use.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::wire::Peer;

const SERVER_CORE: &str = "0";
const LOAD_CORE: &str = "1";

/// A running server, ended with its folder when dropped.
pub struct Server {
    pub peer: Peer,
    pub address: SocketAddr,
    process: Child,
    _folder: tempfile::TempDir,
}

impl Server {
    pub fn start(peer: Peer) -> Server {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let address = free_address();
        let mut command = pinned(SERVER_CORE);
        match peer {
            Peer::Longshore => {
                command
                    .arg(env!("CARGO_BIN_EXE_longshore"))
                    .args(["serve", "--listen", &address.to_string(), "--data"])
                    .arg(folder.path().join("data"))
                    .env("LONGSHORE_CHAT", "open")
                    .env("LONGSHORE_LIMITS", "off");
            }
            Peer::Nchan => {
                let file = folder.path().join("nginx.conf");
                fs::write(&file, nginx(folder.path(), address)).expect("nginx.conf");
                command.args(["nginx", "-c"]).arg(file);
            }
        }
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        let process = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("the server starts");
        let server = Server {
            peer,
            address,
            process,
            _folder: folder,
        };
        let over = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < over, "{} does not answer", peer.name());
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// The processor time that the server has used, its children too, in seconds.
    pub fn cpu(&self) -> f64 {
        const TICKS: f64 = 100.0;
        let ticks: u64 = self.processes().iter().map(|pid| ticks(*pid)).sum();
        ticks as f64 / TICKS
    }

    /// Its proportional memory, in KiB.
    pub fn pss(&self) -> u64 {
        self.processes().iter().map(|pid| pss(*pid)).sum()
    }

    fn processes(&self) -> Vec<u32> {
        let pid = self.process.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        let children = children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok());
        std::iter::once(pid).chain(children).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both end in order at a TERM; nginx ends its worker too.
        let pid = self.process.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let over = Instant::now() + Duration::from_secs(15);
        while Instant::now() < over {
            if matches!(self.process.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Ten thousand clients want as many descriptors, here and in the servers.
pub fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, all).expect("the limit of descriptors");
}

/// Puts this process, the load generator, on its core.
pub fn pin_the_load() {
    let pid = std::process::id().to_string();
    let _ = Command::new("taskset")
        .args(["-cp", LOAD_CORE, &pid])
        .stdout(Stdio::null())
        .status();
}

fn pinned(core: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", core]);
    command
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address")
}

fn nginx(folder: &Path, address: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "load_module /usr/lib/nginx/modules/ngx_nchan_module.so;
daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 19000; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 300s;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  nchan_message_buffer_length 100;
  nchan_shared_memory_size 256M;
  server {{
    listen {address} backlog=4096;
    location = /sub {{
      nchan_subscriber longpoll;
      nchan_channel_id chat;
      nchan_subscriber_first_message newest;
    }}
    location = /pub {{
      nchan_publisher;
      nchan_channel_id chat;
    }}
  }}
}}
"
    )
}

fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name may hold spaces; what follows its bracket does not.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let times = fields.split_whitespace().skip(11).take(2);
    times.filter_map(|time| time.parse::<u64>().ok()).sum()
}

fn pss(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find(|line| line.starts_with("Pss:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}
