//! `git http-backend` (CGI, RFC 3875) behind a small HTTP server on loopback.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// A running server; ends when it is dropped.
pub struct HttpBackend {
    pub port: u16,
    /// The number of requests received.
    pub requests: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

impl Drop for HttpBackend {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

impl HttpBackend {
    /// Serves everything below `root`; if `login` (the base64 of `user:password`) is given, only
    /// with it.
    pub fn start(root: &Path, login: Option<&str>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(AtomicUsize::new(0));
        let over = Arc::new(AtomicBool::new(false));
        let (root, login) = (root.to_owned(), login.map(str::to_owned));
        let (counted, ended) = (Arc::clone(&requests), Arc::clone(&over));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (root, login, counted) = (root.clone(), login.clone(), Arc::clone(&counted));
                thread::spawn(move || {
                    // A client that goes away is no failure of the test.
                    let _ = answer(&stream.unwrap(), root, login.as_deref(), &counted);
                });
            }
        });
        Self {
            port,
            requests,
            over,
        }
    }
}

fn answer(
    mut stream: &TcpStream,
    root: PathBuf,
    login: Option<&str>,
    counted: &AtomicUsize,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(());
    }
    counted.fetch_add(1, Ordering::SeqCst);
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    // Through a proxy the target is absolute (RFC 9112, section 3.2.2).
    let path = match target.strip_prefix("http://") {
        Some(rest) => &rest[rest.find('/').unwrap()..],
        None => target,
    };
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut headers = std::collections::HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(": ") else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let header = |name: &str| headers.get(name).cloned().unwrap_or_default();
    let mut body = Vec::new();
    if header("transfer-encoding") == "chunked" {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let length = u64::from_str_radix(line.trim(), 16).unwrap();
            (&mut reader).take(length).read_to_end(&mut body)?;
            reader.read_line(&mut String::new())?;
            if length == 0 {
                break;
            }
        }
    } else {
        let length = header("content-length").parse().unwrap_or(0);
        (&mut reader).take(length).read_to_end(&mut body)?;
    }
    let authorized = login.is_none_or(|login| header("authorization") == format!("Basic {login}"));
    if !authorized {
        return stream.write_all(
            b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"git\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
    }
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("REQUEST_METHOD", method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    child.stdin.take().unwrap().write_all(&body)?;
    let output = child.wait_with_output()?.stdout;
    let end = output
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let status = head
        .lines()
        .find_map(|line| line.strip_prefix("Status: "))
        .unwrap_or("200 OK");
    let content = &output[end + 4..];
    let length = content.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(content)
}
