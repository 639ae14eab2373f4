//! The host of the repository over https: `git http-backend` (CGI, RFC 3875) behind a small server.

use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod, SslStream};

use crate::repository::git;

/// A server that lives as long as this process.
pub struct Https {
    port: u16,
    folder: tempfile::TempDir,
}

impl Https {
    pub fn start(root: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        certificate(folder.path());
        let mut acceptor =
            SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).expect("TLS");
        let (key, chain) = (
            folder.path().join("host.key"),
            folder.path().join("host.pem"),
        );
        acceptor
            .set_private_key_file(key, SslFiletype::PEM)
            .expect("a key");
        acceptor
            .set_certificate_chain_file(chain)
            .expect("a certificate");
        let acceptor = Arc::new(acceptor.build());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("a port").port();
        let root = root.to_owned();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (acceptor, root) = (Arc::clone(&acceptor), root.clone());
                thread::spawn(move || {
                    stream.set_nodelay(true).ok()?;
                    let tls = acceptor.accept(stream).ok()?;
                    // A client that goes away is no failure.
                    serve(tls, &root).ok()
                });
            }
        });
        Self { port, folder }
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}/app.git", self.port)
    }

    /// The certificate that signed the host's.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("host.pem")
    }
}

/// A certificate for `localhost` that vouches for itself.
fn certificate(folder: &Path) {
    let arguments = "req -x509 -newkey rsa:2048 -nodes -keyout host.key -out host.pem -days 2 \
                     -subj /CN=localhost -addext subjectAltName=DNS:localhost";
    let done = Command::new("openssl")
        .current_dir(folder)
        .args(arguments.split_whitespace())
        .stderr(Stdio::null())
        .status();
    assert!(done.expect("openssl").success());
}

/// Answers the requests of one connection, one after the other.
fn serve(tls: SslStream<TcpStream>, root: &Path) -> io::Result<()> {
    let mut stream = BufReader::with_capacity(64 << 10, tls);
    loop {
        let mut first = String::new();
        if stream.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let body = body(&mut stream, &headers)?;
        answer(&first, &headers, &body, root, stream.get_mut())?;
    }
}

fn body(stream: &mut impl io::BufRead, headers: &HashMap<String, String>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if headers
        .get("transfer-encoding")
        .is_none_or(|it| it != "chunked")
    {
        let length = headers
            .get("content-length")
            .and_then(|it| it.parse().ok())
            .unwrap_or(0);
        stream.take(length).read_to_end(&mut body)?;
        return Ok(body);
    }
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let length = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        stream.take(length).read_to_end(&mut body)?;
        stream.read_line(&mut String::new())?;
        if length == 0 {
            return Ok(body);
        }
    }
}

fn answer(
    first: &str,
    headers: &HashMap<String, String>,
    body: &[u8],
    root: &Path,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut words = first.split(' ');
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let header = |name: &str| headers.get(name).map_or("", String::as_str);
    let mut backend = git()
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_PROTOCOL", header("git-protocol"))
        .env("REQUEST_METHOD", method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    backend.stdin.take().expect("its input").write_all(body)?;
    let mut output = BufReader::new(backend.stdout.take().expect("its output"));
    let mut status = "200 OK".to_owned();
    let mut head = String::new();
    loop {
        let mut line = String::new();
        output.read_line(&mut line)?;
        match line.trim_end() {
            "" => break,
            line => match line.strip_prefix("Status: ") {
                Some(text) => status = text.to_owned(),
                None => head.push_str(&format!("{line}\r\n")),
            },
        }
    }
    write!(
        out,
        "HTTP/1.1 {status}\r\n{head}Transfer-Encoding: chunked\r\n\r\n"
    )?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = output.read(&mut buffer)?;
        let mut chunk = format!("{length:x}\r\n").into_bytes();
        chunk.extend_from_slice(&buffer[..length]);
        chunk.extend_from_slice(b"\r\n");
        out.write_all(&chunk)?;
        if length == 0 {
            break;
        }
    }
    backend.wait().map(drop)
}
