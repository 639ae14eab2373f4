//! Proxies on the way: real ones, and each of their faults, which ends within the time for
//! connecting.

use super::PATIENT;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::exec::exec;
use super::sshd::{Sshd, free_port, wait_until};
use crate::secret::Secret;
use crate::ssh::{
    Cancel, Cause, Connection, Launcher, Phase, Pool, PoolOptions, Proxy, ProxyCommand, ProxyFault,
    ProxyServer, Target, Timeouts, offered_key,
};

/// A process of a test's own, which ends with it.
struct Running(Child);

impl Running {
    /// Starts a server and waits until it listens on `port`.
    fn on(port: u16, command: &mut Command) -> Self {
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut running = Self(quiet.spawn().expect("the test's packages are installed"));
        wait_until("the proxy", || {
            assert!(matches!(running.0.try_wait(), Ok(None)), "it ended");
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        running
    }
}

impl Drop for Running {
    /// Ends it as an operator does: a killed squid leaves memory behind.
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let patience = Instant::now() + Duration::from_secs(5);
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < patience {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn socks(port: u16, login: &[&str]) -> Running {
    let mut command = Command::new("microsocks");
    command.args(["-i", "127.0.0.1", "-p", &port.to_string()]);
    Running::on(port, command.args(login))
}

fn http(port: u16, folder: &Path, more: &str) -> Running {
    let config = folder.join(format!("tinyproxy-{port}"));
    let text = format!("Port {port}\nListen 127.0.0.1\nTimeout 600\nAllow 127.0.0.1\n{more}\n");
    std::fs::write(&config, text).unwrap();
    Running::on(
        port,
        Command::new("tinyproxy").arg("-d").arg("-c").arg(config),
    )
}

/// As root it switches to an account of its own, which then owns the folder.
fn squid(port: u16, folder: &Path) -> Running {
    let folder = folder.join("squid");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    let config = folder.join("squid.conf");
    let place = folder.display();
    let text = format!(
        "http_port 127.0.0.1:{port}\nhttp_access allow all\ncache deny all\naccess_log none\n\
         cache_log /dev/null\nvisible_hostname proxy.test\npid_filename none\ncoredump_dir {place}\n\
         pinger_enable off\nshutdown_lifetime 0 seconds\n"
    );
    std::fs::write(&config, text).unwrap();
    // Each has a name of its own, so that it shares memory with no other.
    let name = format!("ls{port}");
    let mut command = Command::new("squid");
    Running::on(port, command.args(["-N", "-n", &name, "-f"]).arg(config))
}

fn by(address: &str, mut target: Target) -> Target {
    target.proxy = Some(Proxy::Server(ProxyServer::parse(address).unwrap()));
    target
}

struct Plain;

impl Launcher for Plain {
    fn launch(&self, arguments: &[String], stream: OwnedFd) -> io::Result<Child> {
        Command::new(&arguments[0])
            .args(&arguments[1..])
            .stdin(Stdio::from(stream.try_clone()?))
            .stdout(Stdio::from(stream))
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
    }
}

fn by_command(arguments: &[&str], mut target: Target) -> Target {
    target.proxy = Some(Proxy::Command(ProxyCommand {
        arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
        launcher: Arc::new(Plain),
    }));
    target
}

const SHORT: Timeouts = Timeouts {
    connect: Duration::from_secs(2),
    idle: Duration::from_secs(5),
};

/// The cause, which must be found within little more than the time for connecting.
#[track_caller]
fn refused(target: &Target) -> Cause {
    let begun = Instant::now();
    let error = Connection::open(target, &SHORT).unwrap_err();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}: {error}");
    let port = target.port.to_string();
    assert!(error.address.ends_with(&port), "{error}");
    assert!(!error.to_string().contains("barley"), "{error}");
    error.cause
}

#[track_caller]
fn fault(target: &Target) -> ProxyFault {
    match refused(target) {
        Cause::Proxy { fault, .. } => fault,
        other => panic!("{other}"),
    }
}

#[test]
fn servers_are_reached_through_real_proxies() {
    let sshd = Sshd::start();
    let ports = [(); 5].map(|()| free_port().unwrap());
    let connect = format!("ConnectPort {}", sshd.port);
    let login = format!("{connect}\nBasicAuth ann barley");
    let _proxies = [
        socks(ports[0], &[]),
        socks(ports[1], &["-u", "ann", "-P", "barley"]),
        http(ports[2], sshd.folder(), &connect),
        http(ports[3], sshd.folder(), &login),
        squid(ports[4], sshd.folder()),
    ];
    let at = |scheme: &str, port: u16| format!("{scheme}127.0.0.1:{port}");
    for address in [
        at("socks5://", ports[0]),
        at("socks5h://", ports[0]),
        at("socks5://ann:barley@", ports[1]),
        at("http://", ports[2]),
        at("http://ann:barley@", ports[3]),
        at("http://", ports[4]),
    ] {
        for host in ["127.0.0.1", "localhost"] {
            let mut target = by(&address, sshd.target());
            target.host = host.to_owned();
            let connection = Connection::open(&target, &PATIENT)
                .unwrap_or_else(|error| panic!("{address} {host}: {error}"));
            let (exit, lines) = exec(&connection, "echo here; exit 5");
            assert_eq!(exit.code, Some(5), "{address}");
            assert_eq!(lines[0].1, "here");
            let offered = offered_key(&target, &PATIENT).unwrap();
            assert_eq!(offered.pin(), sshd.pin("ed25519"));
        }
    }
    // A wrong login, none, and a server that is not there.
    let socks = |login: &str| fault(&by(&at(login, ports[1]), sshd.target()));
    assert_eq!(socks("socks5://"), ProxyFault::LoginNeeded);
    assert_eq!(socks("socks5://ann:barley2@"), ProxyFault::LoginRefused);
    let http = |login: &str| fault(&by(&at(login, ports[3]), sshd.target()));
    assert_eq!(http("http://"), ProxyFault::LoginNeeded);
    assert_eq!(http("http://ann:barley2@"), ProxyFault::LoginRefused);
    for address in [at("socks5://", ports[0]), at("http://", ports[4])] {
        let mut nobody = by(&address, sshd.target());
        nobody.port = free_port().unwrap();
        let fault = fault(&nobody);
        assert!(matches!(fault, ProxyFault::Refused { .. }), "{fault}");
    }
    // A port that the proxy's rules do not allow.
    let other = Sshd::start();
    let fault = fault(&by(&at("http://", ports[2]), other.target()));
    assert!(
        matches!(&fault, ProxyFault::Refused { reason } if reason.starts_with("403")),
        "{fault}"
    );
}

#[test]
fn a_jump_server_may_be_behind_a_proxy() {
    let (jump, last) = (Sshd::start(), Sshd::start());
    let port = free_port().unwrap();
    let _proxy = socks(port, &[]);
    let mut target = last.target();
    let hop = by(&format!("socks5://127.0.0.1:{port}"), jump.target());
    target.via = Some(Box::new(hop));
    let connection = Connection::open(&target, &PATIENT).unwrap();
    assert_eq!(exec(&connection, "exit 7").0.code, Some(7));
}

#[test]
fn connections_by_different_proxies_are_not_taken_for_each_other() {
    let sshd = Sshd::start();
    let port = free_port().unwrap();
    let proxy = socks(port, &["-u", "ann", "-P", "barley"]);
    let pool = Pool::new(PoolOptions::default());
    let lease = |target: &Target| pool.lease(target, &SHORT, &Cancel::new());
    let address = format!("127.0.0.1:{port}");
    let right = by(&format!("socks5://ann:barley@{address}"), sshd.target());
    drop(lease(&right).unwrap());
    assert_eq!(pool.counts(), (1, 0));
    let wrong = by(&format!("socks5://ann:oats@{address}"), sshd.target());
    assert!(
        lease(&wrong).is_err(),
        "another password, another connection"
    );
    drop(lease(&right).unwrap());
    assert_eq!(pool.counts(), (1, 0));
    drop(proxy);
    assert!(matches!(
        lease(&wrong).unwrap_err().cause,
        Cause::Proxy {
            fault: ProxyFault::Unreachable { .. },
            ..
        }
    ));
}

/// A proxy that runs `talk` on each connection.
fn proxy_that(talk: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let talk = Arc::new(talk);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let talk = Arc::clone(&talk);
            thread::spawn(move || talk(stream));
        }
    });
    port
}

/// Reads and sends nothing, until the other side closes.
fn hears(mut stream: TcpStream) {
    let _ = io::copy(&mut stream, &mut io::sink());
}

fn after_reading(mut stream: TcpStream, answer: &[u8]) -> TcpStream {
    let _ = stream.read(&mut [0; 1024]);
    let _ = stream.write_all(answer);
    stream
}

#[test]
fn a_proxys_faults_are_its_own_and_in_time() {
    let sshd = Sshd::start();
    let socks = |port: u16| by(&format!("socks5://127.0.0.1:{port}"), sshd.target());
    let http = |port: u16| by(&format!("http://127.0.0.1:{port}"), sshd.target());
    let closed = free_port().unwrap();
    for target in [socks(closed), http(closed)] {
        let fault = fault(&target);
        assert!(matches!(fault, ProxyFault::Unreachable { .. }), "{fault}");
    }
    let unknown = by("socks5://no-such-host.invalid:1", sshd.target());
    assert!(matches!(fault(&unknown), ProxyFault::Unresolved { .. }));

    let silent = proxy_that(hears);
    // The methods are agreed on; then nothing more arrives.
    let halfway = proxy_that(|stream| hears(after_reading(stream, &[5, 0])));
    // One byte a second of an endless head.
    let slow = proxy_that(|stream| {
        let mut stream = after_reading(stream, b"HTTP/1.1 200 ");
        while stream.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(300));
        }
    });
    for target in [socks(silent), http(silent), socks(halfway), http(slow)] {
        let cause = refused(&target);
        let is_late = matches!(
            cause,
            Cause::TimedOut {
                phase: Phase::Proxy,
                ..
            }
        );
        assert!(is_late, "{cause}");
    }

    let dies = proxy_that(drop);
    let dies_midway = proxy_that(|stream| drop(after_reading(stream, &[5, 0, 5])));
    let cut_head = proxy_that(|stream| drop(after_reading(stream, b"HTTP/1.1 200 OK\r\nA: b")));
    for target in [socks(dies), http(dies), socks(dies_midway), http(cut_head)] {
        assert_eq!(fault(&target), ProxyFault::HungUp);
    }

    let garbage = proxy_that(|stream| hears(after_reading(stream, b"SSH-2.0-OpenSSH_9\r\n")));
    let old = proxy_that(|stream| hears(after_reading(stream, &[0, 90])));
    let bad_head = proxy_that(|stream| hears(after_reading(stream, b"HTTP/9 !\r\n\r\n")));
    for target in [socks(garbage), http(garbage), socks(old), http(bad_head)] {
        assert_eq!(fault(&target), ProxyFault::Garbage);
    }

    // It agrees, but no sshd answers then.
    let other = proxy_that(|stream| {
        hears(after_reading(
            stream,
            b"HTTP/1.0 200 Fine\r\n\r\nbe gone\r\n\0\x01",
        ));
    });
    let cause = refused(&http(other));
    let is_no_sshd = matches!(cause, Cause::Handshake { .. } | Cause::TimedOut { .. });
    assert!(is_no_sshd, "{cause}");
}

#[test]
fn waiting_for_a_proxy_is_cancelled() {
    let sshd = Sshd::start();
    let silent = proxy_that(hears);
    let target = by(&format!("socks5://127.0.0.1:{silent}"), sshd.target());
    let cancel = Cancel::new();
    let stop = cancel.clone();
    let begun = Instant::now();
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        stop.cancel();
    });
    let patient = Timeouts {
        connect: Duration::from_secs(60),
        ..SHORT
    };
    let error = Connection::open_unless(&target, &patient, &cancel).unwrap_err();
    assert!(matches!(error.cause, Cause::Cancelled { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_command_carries_the_connection_and_ends_with_it() {
    let sshd = Sshd::start();
    let mark = sshd.folder().join("pid");
    let text = format!("echo $$ > {}; exec socat - TCP:$1:$2", mark.display());
    let target = by_command(&["sh", "-c", &text, "proxy", "%h", "%p"], sshd.target());
    let connection = Connection::open(&target, &PATIENT).unwrap();
    assert_eq!(exec(&connection, "exit 9").0.code, Some(9));
    let pid = std::fs::read_to_string(&mark).unwrap();
    assert!(is_alive(&pid));
    drop(connection);
    wait_until("its end", || !is_alive(&pid));
    let offered = offered_key(&target, &PATIENT).unwrap();
    assert_eq!(offered.pin(), sshd.pin("ed25519"));
}

#[test]
fn a_commands_faults_are_its_own_and_nothing_is_left_of_it() {
    let sshd = Sshd::start();
    let shell = |text: &str| by_command(&["sh", "-c", text], sshd.target());
    let missing = by_command(&["/no/such/program"], sshd.target());
    assert!(matches!(fault(&missing), ProxyFault::Start { .. }));
    match fault(&shell("echo first >&2; echo no way >&2; exit 3")) {
        ProxyFault::Ended { ended, said } => {
            assert_eq!((ended.code, said.as_str()), (Some(3), "no way"));
        }
        other => panic!("{other}"),
    }
    // An exit without an error is reported as the server's close, as without a command.
    assert!(matches!(refused(&shell("exit 0")), Cause::TurnedAway));

    let mark = sshd.folder().join("pids");
    let place = mark.display();
    // It ignores TERM and the end of its input, and it has a child.
    let stubborn = format!("trap '' TERM; sleep 300 & echo $$ $! > {place}; wait");
    assert!(matches!(refused(&shell(&stubborn)), Cause::TimedOut { .. }));
    let pids = std::fs::read_to_string(&mark).unwrap();
    wait_until("the end of all of it", || {
        !pids.split_whitespace().any(is_alive)
    });

    let babble = format!("echo $$ > {place}; while echo gibberish; do :; done");
    let cause = refused(&shell(&babble));
    let is_no_sshd = matches!(cause, Cause::Handshake { .. } | Cause::TimedOut { .. });
    assert!(is_no_sshd, "{cause}");
    let pid = std::fs::read_to_string(&mark).unwrap();
    wait_until("the end of the babble", || !is_alive(&pid));
}

#[test]
fn a_command_that_dies_midway_breaks_the_connection_and_no_more() {
    let sshd = Sshd::start();
    let mark = sshd.folder().join("pid");
    let text = format!("echo $$ > {}; exec socat - TCP:$1:$2", mark.display());
    let target = by_command(&["sh", "-c", &text, "proxy", "%h", "%p"], sshd.target());
    let connection = Connection::open(&target, &SHORT).unwrap();
    let pid = std::fs::read_to_string(&mark).unwrap();
    super::sshd::run("kill", &["-KILL", pid.trim()]);
    let command = crate::ssh::Command::new("sleep 60", Duration::from_secs(120));
    let begun = Instant::now();
    let error = connection.exec(command, &Cancel::new(), &mut |_, _| {});
    assert!(error.is_err() && connection.is_broken());
    assert!(begun.elapsed() < Duration::from_secs(20));
    drop(connection);
    let again = Connection::open(&target, &SHORT).unwrap();
    assert_eq!(exec(&again, "exit 4").0.code, Some(4));
}

/// A zombie that is not reaped yet counts as dead.
fn is_alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_password_is_in_no_text() {
    let proxy = ProxyServer::parse("socks5://ann:barley@gate").unwrap();
    let again = proxy
        .clone()
        .with_password(Some(Secret::new("barley".into())));
    for text in [format!("{proxy:?}"), format!("{again:?} {again}")] {
        assert!(!text.contains("barley"), "{text}");
    }
}
