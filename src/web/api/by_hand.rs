//! `/api/v1/servers/{id}/exec`, `file` and `tree`, `/api/v1/known_hosts` and `/api/v1/audit`: for
//! admins; every action is recorded in the audit log.

use std::io::Write as _;
use std::time::{Duration, Instant};

use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};

use crate::app::App;
use crate::deploy::{By, DeployError, Place, Said};
use crate::ssh::{Cancel, CancelOnDrop, Command, Exit, NewRemoteFile, Stream};
use crate::store::audit::{self, Entry};
use crate::store::servers::{self, Server};
use crate::store::{AuditWay, Role, ServerId};
use crate::web::error::{Error, Result};
use crate::web::forms::FieldErrors;
use crate::web::hand::{self, Outgoing};
use crate::web::input::{Fields, Id, Json, query};
use crate::web::paging::{ApiPage, bounded};
use crate::web::say;
use crate::web::visitor::Visitor;

/// The longest command, in characters.
const LONGEST_COMMAND: usize = 64 << 10;
/// The largest output of a command that is returned, in bytes.
const OUTPUT: usize = 1 << 20;
/// The time limit of a command in seconds: least, most, default.
const SECONDS: (u64, u64, u64) = (1, 600, 60);
/// The longest path on a server, in characters.
const LONGEST_PATH: usize = 4096;

/// A command to run.
pub struct Order {
    command: String,
    stdin: String,
    limit: Duration,
}

/// A command's output and exit.
#[derive(Default)]
pub struct Done {
    lines: Vec<(Stream, String)>,
    bytes: usize,
    truncated: bool,
    exit: Option<Exit>,
    milliseconds: u128,
}

impl Order {
    /// Reads the fields `command`, `stdin` and `seconds`.
    ///
    /// # Errors
    /// [`Error::Fields`] for invalid fields.
    pub fn of(fields: &Fields) -> Result<Self> {
        let mut errors = FieldErrors::default();
        let command = fields.required("command")?;
        if command.chars().count() > LONGEST_COMMAND {
            let most = LONGEST_COMMAND.to_string();
            errors.add_with("command", "too_long", &[("max", &most)]);
        }
        if command.contains('\0') {
            errors.add("command", "invalid_characters");
        }
        let (least, most, usual) = SECONDS;
        let seconds = match fields.line("seconds").as_deref().map(str::trim) {
            None | Some("") => Some(usual),
            Some(text) => text
                .parse()
                .ok()
                .filter(|seconds| (least..=most).contains(seconds)),
        };
        if seconds.is_none() {
            let (min, max) = (least.to_string(), most.to_string());
            errors.add_with("seconds", "out_of_range", &[("min", &min), ("max", &max)]);
        }
        errors.or(()).map_err(Error::from)?;
        Ok(Self {
            command,
            stdin: fields.line("stdin").unwrap_or_default(),
            limit: Duration::from_secs(seconds.unwrap_or(usual)),
        })
    }

    fn run(
        &self,
        app: &App,
        by: &By,
        server: &Server,
        cancel: &Cancel,
        on_line: &mut dyn FnMut(Stream, &str),
    ) -> std::result::Result<Exit, DeployError> {
        let mut stdin = self.stdin.as_bytes();
        let command = Command::new(&self.command, self.limit).stdin(&mut stdin);
        let hand = app.engine().by_hand();
        hand.exec(by, server, command, cancel, on_line)
    }
}

impl Done {
    /// Counts a line of output; true if it still fits. Lines beyond the limit are dropped.
    fn takes(&mut self, line: &str) -> bool {
        self.bytes += line.len() + 1;
        self.truncated |= self.bytes > OUTPUT;
        !self.truncated
    }

    /// The JSON of the result.
    pub fn shown(&self) -> Value {
        let text = |of: Stream| -> String {
            let lines = self.lines.iter().filter(|(stream, _)| *stream == of);
            lines.map(|(_, line)| format!("{line}\n")).collect()
        };
        json!({
            "exit_code": self.exit.as_ref().and_then(|exit| exit.code),
            "signal": self.exit.as_ref().and_then(|exit| exit.signal.clone()),
            "stdout": text(Stream::Out),
            "stderr": text(Stream::Err),
            "login": text(Stream::Login),
            "truncated": self.truncated,
            "milliseconds": self.milliseconds,
        })
    }
}

/// Runs a command to its end.
///
/// # Errors
/// Fails for an unknown server, too much work at once or an error of the engine.
pub async fn run(visitor: &Visitor, by: By, id: ServerId, order: Order) -> Result<Done> {
    let server = find(visitor, id).await?;
    let guard = CancelOnDrop::default();
    let cancel = guard.0.clone();
    let done = hand::work(visitor, move |app| {
        let begun = Instant::now();
        let mut done = Done::default();
        let exit = order.run(app, &by, &server, &cancel, &mut |stream, line| {
            if done.takes(line) {
                done.lines.push((stream, line.to_owned()));
            }
        })?;
        done.exit = Some(exit);
        done.milliseconds = begun.elapsed().as_millis();
        Ok::<_, DeployError>(done)
    })
    .await??;
    drop(guard);
    Ok(done)
}

async fn find(visitor: &Visitor, id: ServerId) -> Result<Server> {
    visitor
        .ask(move |app| app.store().read(|conn| servers::find(conn, id)))
        .await
}

/// `POST servers/{id}/exec`; with `?live=1` the output is streamed as one JSON object per line.
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id, invalid fields, a malformed query or an
/// error of the engine.
pub async fn exec(
    visitor: Visitor,
    Id(id): Id<ServerId>,
    request: HttpRequest,
    Json(fields): Json,
) -> Result {
    visitor.require(Role::Admin)?;
    fields.only(&["command", "stdin", "seconds"], &[])?;
    let order = Order::of(&fields)?;
    let by = visitor.by(AuditWay::Api)?;
    if query(&request, "live")?.is_none() {
        let done = run(&visitor, by, id, order).await?;
        return Ok(HttpResponse::Ok().json(done.shown()));
    }
    let server = find(&visitor, id).await?;
    let language = visitor.language();
    let send = move |app: &App, outgoing: &mut Outgoing, cancel: &Cancel| {
        let begun = Instant::now();
        let mut done = Done::default();
        // The first line is sent at once, because the command may stay silent for long.
        tell(outgoing, &json!({"begun": true}), cancel);
        let ended = order.run(app, &by, &server, cancel, &mut |stream, line| {
            if done.takes(line) {
                let name = match stream {
                    Stream::Out => "out",
                    Stream::Err => "err",
                    Stream::Login => "login",
                };
                tell(outgoing, &json!({"stream": name, "line": line}), cancel);
            }
        });
        done.milliseconds = begun.elapsed().as_millis();
        let last = match ended {
            Ok(exit) => {
                done.exit = Some(exit);
                let mut last = done.shown();
                if let Some(last) = last.as_object_mut() {
                    last.remove("stdout");
                    last.remove("stderr");
                    last.remove("login");
                }
                last
            }
            Err(error) => json!({"error": say::said(language, &Said::from(&error))}),
        };
        tell(outgoing, &last, cancel);
        Ok(())
    };
    hand::give_out(&visitor, "application/x-ndjson", None, send).await
}

fn tell(outgoing: &mut Outgoing, value: &Value, cancel: &Cancel) {
    if outgoing.write_all(format!("{value}\n").as_bytes()).is_err() {
        cancel.cancel();
    }
}

/// The query's path on the server.
fn path_of(request: &HttpRequest) -> Result<String> {
    let path = query(request, "path")?.unwrap_or_default();
    let mut errors = FieldErrors::default();
    match path.as_str() {
        "" => errors.add("path", "required"),
        path if path.contains('\0') => errors.add("path", "invalid_characters"),
        path if path.chars().count() > LONGEST_PATH => {
            let most = LONGEST_PATH.to_string();
            errors.add_with("path", "too_long", &[("max", &most)]);
        }
        _ => {}
    }
    errors.or(path).map_err(Error::from)
}

/// The query's permission bits, in octal; 644 by default.
fn mode_of(request: &HttpRequest) -> Result<u32> {
    let Some(text) = query(request, "mode")? else {
        return Ok(0o644);
    };
    u32::from_str_radix(&text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or(Error::Parameter("mode"))
}

/// The query's file.
fn file_of(request: &HttpRequest) -> Result<Place> {
    let changed = bounded(request, "changed", 0, i64::from(u32::MAX))?;
    Ok(Place::File {
        path: path_of(request)?,
        new: NewRemoteFile {
            mode: mode_of(request)?,
            changed: changed.map(i64::unsigned_abs),
            synced: true,
        },
    })
}

/// The query's folder.
fn folder_of(request: &HttpRequest) -> Result<Place> {
    let path = path_of(request)?;
    Ok(Place::Folder { path })
}

/// `PUT servers/{id}/file?path=&mode=644&changed=`: writes the body to the file.
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id, a malformed query, a body that is too large
/// or an error of the engine.
pub async fn write_file(
    visitor: Visitor,
    Id(id): Id<ServerId>,
    request: HttpRequest,
    body: Payload,
) -> Result {
    write(&visitor, id, &request, body, file_of).await
}

/// `GET servers/{id}/file?path=`: the file's content.
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id, a malformed query or an error of the
/// engine.
pub async fn read_file(visitor: Visitor, Id(id): Id<ServerId>, request: HttpRequest) -> Result {
    read(&visitor, id, &request, file_of).await
}

/// `PUT servers/{id}/tree?path=`: unpacks the body, a tar archive, in the folder.
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id, a malformed query, a body that is too large
/// or an error of the engine.
pub async fn write_tree(
    visitor: Visitor,
    Id(id): Id<ServerId>,
    request: HttpRequest,
    body: Payload,
) -> Result {
    write(&visitor, id, &request, body, folder_of).await
}

/// `GET servers/{id}/tree?path=`: the folder as a tar archive.
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id, a malformed query or an error of the
/// engine.
pub async fn read_tree(visitor: Visitor, Id(id): Id<ServerId>, request: HttpRequest) -> Result {
    read(&visitor, id, &request, folder_of).await
}

async fn write(
    visitor: &Visitor,
    id: ServerId,
    request: &HttpRequest,
    body: Payload,
    place: fn(&HttpRequest) -> Result<Place>,
) -> Result {
    visitor.require(Role::Admin)?;
    let place = place(request)?;
    let by = visitor.by(AuditWay::Api)?;
    let server = find(visitor, id).await?;
    let limit = visitor.app().settings().ssh_upload_bytes;
    let sent = hand::take_in(visitor, request, body, limit, move |app, source, cancel| {
        let hand = app.engine().by_hand();
        hand.write(&by, &server, source, &place, cancel)
    });
    Ok(HttpResponse::Ok().json(json!({ "bytes": sent.await? })))
}

async fn read(
    visitor: &Visitor,
    id: ServerId,
    request: &HttpRequest,
    place: fn(&HttpRequest) -> Result<Place>,
) -> Result {
    visitor.require(Role::Admin)?;
    let place = place(request)?;
    let by = visitor.by(AuditWay::Api)?;
    let server = find(visitor, id).await?;
    let (kind, name) = match &place {
        Place::File { path, .. } => ("application/octet-stream", last_name(path).to_owned()),
        Place::Folder { path } => {
            let name = last_name(path.trim_end_matches('/'));
            ("application/x-tar", format!("{name}.tar"))
        }
    };
    let send = move |app: &App, outgoing: &mut Outgoing, cancel: &Cancel| {
        let hand = app.engine().by_hand();
        hand.read(&by, &server, &place, outgoing, cancel)?;
        Ok(())
    };
    hand::give_out(visitor, kind, Some(&name), send).await
}

fn last_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// `POST known_hosts` `{"text"}`
///
/// # Errors
/// Fails for a sender who is not an admin, invalid fields, an error of the engine or a database
/// error.
pub async fn import_known_hosts(visitor: Visitor, Json(fields): Json) -> Result {
    visitor.require(Role::Admin)?;
    fields.only(&["text"], &[])?;
    let text = fields.required("text")?;
    let by = visitor.by(AuditWay::Api)?;
    let import = visitor
        .ask(move |app| app.engine().by_hand().import_known_hosts(&by, &text))
        .await?;
    Ok(HttpResponse::Ok().json(import))
}

/// `GET audit?server_id=`
///
/// # Errors
/// Fails for a sender who is not an admin, a malformed query or a database error.
pub async fn audit(visitor: Visitor, request: HttpRequest) -> Result {
    visitor.require(Role::Admin)?;
    let part = ApiPage::of(&request)?;
    let server = bounded(&request, "server_id", 1, i64::MAX)?.map(ServerId);
    let page = visitor
        .ask(move |app| {
            app.store()
                .read(|conn| audit::page(conn, server, part.request()))
        })
        .await?;
    let language = visitor.language();
    Ok(part.respond(page, |entry| Entry {
        message: say::stored(language, &entry.message),
        ..entry
    }))
}
