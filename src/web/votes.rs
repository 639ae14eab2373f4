//! The vote pages: question, live bars, and the organiser's controls.

use std::time::Instant;

use actix_web::http::StatusCode;
use actix_web::http::header::ACCEPT;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use super::error::{Error, Refusal, Result};
use super::flash::Flash;
use super::forms::{FieldError, FieldErrors};
use super::guest;
use super::home::check_access;
use super::input::{Fields, Form, Given};
use super::render::{self, context, value};
use super::visitor::Visitor;
use crate::hub::RoomName;
use crate::limits::Sender;
use crate::proxies::rate_limit_key;
use crate::secret::{Secret, fingerprint};
use crate::vote::{Question, Vote, Voter, Votes, read_choice};

/// The number of votes in the list.
const LISTED: i64 = 50;
/// The length of the browser's fingerprint in its client name, in characters.
const CLIENT_CHARS: usize = 10;

/// `GET /vote`: the list of votes, and a form for a new one.
///
/// # Errors
/// Access denied or a database error.
pub async fn list(visitor: Visitor) -> Result {
    check_access(&visitor)?;
    show_list(&visitor, &Fields::default(), None).await
}

async fn show_list(visitor: &Visitor, typed: &Fields, refused: Option<&Refusal>) -> Result {
    let votes = visitor
        .ask(|app| Votes::of(app.store()).newest(LISTED))
        .await?;
    let row = |(vote, total): &(Vote, i64)| {
        json!({
            "name": vote.name, "address": address(&vote.name), "question": vote.question,
            "open": vote.open, "total": total,
        })
    };
    let rows: Vec<_> = votes.iter().map(row).collect();
    let context = context! {
        votes => rows,
        values => typed.typed(),
        errors => errors(visitor, refused),
    };
    render::page(visitor, status(refused), "votes/list.html", "vote", context)
}

fn status(refused: Option<&Refusal>) -> StatusCode {
    refused.map_or(StatusCode::OK, |refusal| refusal.status)
}

fn errors(visitor: &Visitor, refused: Option<&Refusal>) -> minijinja::Value {
    match refused {
        Some(refusal) => render::errors(visitor, &refusal.errors),
        None => value(json!({})),
    }
}

/// `POST /vote`: opens a vote under the form's name.
///
/// # Errors
/// Access denied, or errors that do not concern the form.
pub async fn open(visitor: Visitor, request: HttpRequest, Form(fields): Form) -> Result {
    check_access(&visitor)?;
    let name = fields.line("name").unwrap_or_default().trim().to_owned();
    let opened = match named(&name) {
        Ok(_) => set_question(&visitor, &request, &name, &fields, true).await,
        Err(_) => Err(refused("name", "vote_name").into()),
    };
    match opened {
        Ok(response) => Ok(response),
        Err(error) => show_list(&visitor, &fields, Some(&error.refusal()?)).await,
    }
}

/// `GET /vote/{name}`: the big-screen page, or the form for a new vote of that name.
///
/// # Errors
/// Access denied, an invalid name or a database error.
pub async fn show(visitor: Visitor, request: HttpRequest, path: web::Path<String>) -> Result {
    check_access(&visitor)?;
    let room = named(&path)?;
    let token = guest::token_or_new(&request);
    let show = Show {
        visitor: &visitor,
        request: &request,
        room: &room,
        token: &token,
    };
    let mut page = match wants_json(&request) {
        true => HttpResponse::Ok().json(show.state().await?.data),
        false => show.page(&Fields::default(), None).await?,
    };
    if visitor.identity().is_none() {
        guest::keep_token(&visitor, &token, &mut page);
    }
    Ok(page)
}

struct Show<'a> {
    visitor: &'a Visitor,
    request: &'a HttpRequest,
    room: &'a RoomName,
    token: &'a Secret<String>,
}

/// The vote in the view of this visitor.
struct State {
    voter: Voter,
    vote: Option<Vote>,
    choice: Option<i32>,
    here: usize,
    /// The data for the page's script.
    data: serde_json::Value,
}

impl Show<'_> {
    async fn state(&self) -> Result<State> {
        let hub = self.visitor.app().hub();
        // Taken before the snapshot, so that later messages are polled.
        let cursor = hub.now().to_string();
        let name = self.room.rest().unwrap_or_default().to_owned();
        let voter = voter_of(self.visitor, Some(self.token)).ok_or(Error::NotLoggedIn)?;
        let (who, asked) = (voter.clone(), name.clone());
        let found = self
            .visitor
            .ask(move |app| Votes::of(app.store()).find_with_ballot(&asked, &who))
            .await?;
        let (vote, choice) = found.map_or((None, None), |(vote, choice)| (Some(vote), choice));
        let here = hub.presence(self.room).count;
        let data = json!({
            "name": name,
            "cursor": cursor,
            "client": self.client(),
            "choice": choice,
            "vote": vote.as_ref().map(Vote::whole),
            "here": here,
        });
        Ok(State {
            voter,
            vote,
            choice,
            here,
            data,
        })
    }

    async fn page(&self, typed: &Fields, refused: Option<&Refusal>) -> Result {
        let state = self.state().await?;
        let name = self.room.rest().unwrap_or_default();
        let organises = |vote: &Vote| vote.may_organise(&state.voter);
        let context = context! {
            name,
            address => address(name),
            shown_address => self.shown_address(name),
            vote => state.vote.as_ref().map(Vote::whole),
            rows => state.vote.as_ref().map(|vote| rows(vote, state.choice)),
            may_organise => state.vote.as_ref().is_none_or(organises),
            here => state.here,
            data => state.data,
            values => typed.typed(),
            errors => errors(self.visitor, refused),
        };
        render::page(
            self.visitor,
            status(refused),
            "votes/show.html",
            "vote",
            context,
        )
    }

    /// The name of this browser's client, the same in all its tabs, so that they count as one
    /// person.
    fn client(&self) -> String {
        let mark: String = fingerprint(self.token.expose())
            .chars()
            .take(CLIENT_CHARS)
            .collect();
        format!("vote-{mark}")
    }

    /// The address for people to type from a screen.
    fn shown_address(&self, name: &str) -> String {
        let public = self.visitor.app().settings().public_urls.first().cloned();
        let host = match public {
            Some(url) => url.split("://").last().unwrap_or_default().to_owned(),
            None => self.request.connection_info().host().to_owned(),
        };
        format!("{host}/vote/{name}")
    }
}

/// The options with the values for the bars.
fn rows(vote: &Vote, choice: Option<i32>) -> Vec<serde_json::Value> {
    let (total, most) = (vote.total(), vote.options.iter().map(|o| o.count).max());
    (1..)
        .zip(&vote.options)
        .map(|(place, option)| {
            let percent = (option.count * 100 + total / 2).checked_div(total);
            json!({
                "place": place, "text": option.text, "count": option.count,
                "percent": percent.unwrap_or(0), "chosen": choice == Some(place),
                "leads": option.count > 0 && Some(option.count) == most,
            })
        })
        .collect()
}

/// `POST /vote/{name}`: casts a ballot.
///
/// # Errors
/// Access denied, an invalid ballot, too many ballots or a database error, unless a script asks,
/// which gets the error as JSON.
pub async fn cast(
    visitor: Visitor,
    request: HttpRequest,
    path: web::Path<String>,
    Form(fields): Form,
) -> Result {
    let cast = take_ballot(&visitor, &request, &path, &fields).await;
    if !wants_json(&request) {
        return cast.map(|_| render::redirect(&address(&path)));
    }
    Ok(match cast {
        Ok((vote, choice)) => {
            let mut told = vote.counts();
            told["choice"] = choice.into();
            HttpResponse::Ok().json(told)
        }
        Err(error) => error.respond_to_script(&visitor),
    })
}

async fn take_ballot(
    visitor: &Visitor,
    request: &HttpRequest,
    name: &str,
    fields: &Fields,
) -> Result<(Vote, u32)> {
    check_access(visitor)?;
    let room = named(name)?;
    let token = guest::token(request);
    let voter = voter_of(visitor, token.as_ref()).ok_or(refused("choice", "vote_cookie"))?;
    let choice = read_choice(&fields.line("choice").unwrap_or_default())
        .map_err(|_| refused("choice", "required"))?;
    check_rate(visitor, request, token.as_ref())?;
    let name = room.rest().unwrap_or_default().to_owned();
    let (vote, _) = visitor
        .ask(move |app| Votes::of(app.store()).cast(&name, &voter, choice))
        .await?;
    Ok((vote, choice))
}

/// A ballot counts as a message in the rate limit, as on the wire.
fn check_rate(
    visitor: &Visitor,
    request: &HttpRequest,
    token: Option<&Secret<String>>,
) -> Result<()> {
    let app = visitor.app();
    let sender = match (visitor.identity(), app.auth().sender(request), token) {
        (Some(identity), _, _) => Sender::Account(&identity.name),
        (None, Some(address), Some(token)) => Sender::Stranger {
            address: rate_limit_key(address),
            name: token.expose(),
        },
        // Only tests without a connection have no address.
        (None, _, _) => return Ok(()),
    };
    app.rates()
        .message(sender, 0, Instant::now())
        .map_err(|retry_after| Error::TooOften { retry_after })
}

/// `POST /vote/{name}/question`: sets or replaces the question.
///
/// # Errors
/// Access denied, or errors that do not concern the form.
pub async fn set(
    visitor: Visitor,
    request: HttpRequest,
    path: web::Path<String>,
    Form(fields): Form,
) -> Result {
    check_access(&visitor)?;
    let room = named(&path)?;
    match set_question(&visitor, &request, &path, &fields, false).await {
        Ok(response) => Ok(response),
        Err(error) => {
            let refusal = error.refusal()?;
            let token = guest::token_or_new(&request);
            let show = Show {
                visitor: &visitor,
                request: &request,
                room: &room,
                token: &token,
            };
            show.page(&fields, Some(&refusal)).await
        }
    }
}

async fn set_question(
    visitor: &Visitor,
    request: &HttpRequest,
    name: &str,
    fields: &Fields,
    must_be_new: bool,
) -> Result {
    let question = question(fields)?;
    let token = guest::token_or_new(request);
    let voter = voter_of(visitor, Some(&token)).ok_or(Error::NotLoggedIn)?;
    let of = name.to_owned();
    visitor
        .ask(move |app| -> Result<_> {
            let votes = Votes::of(app.store());
            if must_be_new && votes.find(&of)?.is_some() {
                return Err(refused("name", "vote_name_taken").into());
            }
            Ok(votes.set(&of, question, &voter)?)
        })
        .await?;
    let mut response = render::redirect_saying(&address(name), &Flash::new("vote_set", name));
    if visitor.identity().is_none() {
        guest::keep_token(visitor, &token, &mut response);
    }
    Ok(response)
}

/// `POST /vote/{name}/close`: ends voting.
///
/// # Errors
/// Access denied, an unknown vote, a sender who is not its organiser or a database error.
pub async fn close(visitor: Visitor, request: HttpRequest, path: web::Path<String>) -> Result {
    set_open(visitor, request, path, false).await
}

/// `POST /vote/{name}/reopen`: resumes voting.
///
/// # Errors
/// Access denied, an unknown vote, a sender who is not its organiser or a database error.
pub async fn reopen(visitor: Visitor, request: HttpRequest, path: web::Path<String>) -> Result {
    set_open(visitor, request, path, true).await
}

async fn set_open(
    visitor: Visitor,
    request: HttpRequest,
    path: web::Path<String>,
    open: bool,
) -> Result {
    check_access(&visitor)?;
    let name = path.into_inner();
    let token = guest::token_or_new(&request);
    let voter = voter_of(&visitor, Some(&token)).ok_or(Error::NotLoggedIn)?;
    let to = address(&name);
    visitor
        .ask(move |app| Votes::of(app.store()).set_open(&name, open, &voter))
        .await?;
    Ok(render::redirect(&to))
}

/// The account, or else the browser with its token.
fn voter_of(visitor: &Visitor, token: Option<&Secret<String>>) -> Option<Voter> {
    match visitor.identity() {
        Some(identity) => Some(Voter::account(&identity.name)),
        None => token.map(|token| Voter::browser(token.expose())),
    }
}

/// The room of the vote `name`.
fn named(name: &str) -> Result<RoomName> {
    RoomName::parse(&format!("vote/{name}")).map_err(|_| Error::NoSuchAddress)
}

/// Reads a question and its options, one per line.
fn question(fields: &Fields) -> std::result::Result<Question, FieldErrors> {
    let text = fields.line("question").unwrap_or_default();
    let options: Vec<String> = match fields.get("options") {
        Some(Given::Text(lines)) => lines.lines().map(str::to_owned).collect(),
        Some(Given::List(list)) => list.clone(),
        Some(Given::Other) | None => Vec::new(),
    };
    Question::new(&text, options.iter().map(String::as_str)).map_err(|bad| {
        FieldErrors::one(FieldError {
            field: bad.field.to_owned(),
            code: bad.code,
            args: vec![("max", bad.most.to_string())],
            cause: None,
        })
    })
}

fn refused(field: &str, code: &'static str) -> FieldErrors {
    FieldErrors::one(FieldError {
        field: field.to_owned(),
        code,
        args: Vec::new(),
        cause: None,
    })
}

/// The address of the vote `name`.
fn address(name: &str) -> String {
    let encoded: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
    format!("/vote/{}", encoded.replace('+', "%20"))
}

fn wants_json(request: &HttpRequest) -> bool {
    let accept = request.headers().get(ACCEPT);
    accept.is_some_and(|accept| accept.as_bytes().starts_with(b"application/json"))
}
