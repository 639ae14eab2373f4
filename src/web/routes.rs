//! Every address of pages and API, each with and without a trailing slash.

use actix_web::guard::{Any, Get, Head};
use actix_web::web::{self, ServiceConfig};
use actix_web::{FromRequest, Handler, Resource, Responder, Route};

use super::api;
use super::error::{Error, Result};
use super::{assets, credentials, home, login, metrics, projects, releases, servers, votes, work};

/// A method and the path that answers to it, `{id}` and the like standing for a part of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The method.
    pub method: &'static str,
    /// The path, without a slash at its end.
    pub path: String,
}

/// Every endpoint of pages and API.
pub fn endpoints() -> Vec<Endpoint> {
    let mut listed = Vec::new();
    let _ = actix_web::App::new().configure(|config| listed = configure(config));
    listed
}

/// A handler and its method.
struct Answering {
    method: &'static str,
    route: Route,
}

/// Defines a function for each method that takes the handler.
macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident $method:literal $route:expr;)*) => {$(
        $(#[$doc])*
        fn $name<F, Args>(handler: F) -> Answering
        where
            F: Handler<Args>,
            Args: FromRequest + 'static,
            F::Output: Responder + 'static,
        {
            Answering {
                method: $method,
                route: $route.to(handler),
            }
        }
    )*};
}

methods! {
    /// `GET` and `HEAD`.
    get "GET" web::route().guard(Any(Get()).or(Head()));
    /// `GET` without `HEAD`.
    get_alone "GET" web::get();
    post "POST" web::post();
    put "PUT" web::put();
    delete "DELETE" web::delete();
}

/// Adds routes to the service and collects the list of endpoints.
struct Routes<'a> {
    config: &'a mut ServiceConfig,
    base: &'static str,
    listed: Vec<Endpoint>,
}

impl<'a> Routes<'a> {
    fn new(config: &'a mut ServiceConfig, base: &'static str) -> Self {
        Self {
            config,
            base,
            listed: Vec::new(),
        }
    }

    /// Adds routes at `path`, which has no trailing slash, and at the same path with one.
    fn at(&mut self, path: &str, routes: impl IntoIterator<Item = Answering>) -> &mut Self {
        let resource = web::resource([path.to_owned(), format!("{path}/")]);
        self.add(path, resource, routes)
    }

    /// Adds routes at exactly `path`.
    fn only(&mut self, path: &str, routes: impl IntoIterator<Item = Answering>) -> &mut Self {
        self.add(path, web::resource(path), routes)
    }

    fn add(
        &mut self,
        path: &str,
        mut resource: Resource,
        routes: impl IntoIterator<Item = Answering>,
    ) -> &mut Self {
        for Answering { method, route } in routes {
            resource = resource.route(route);
            let path = format!("{}{path}", self.base);
            self.listed.push(Endpoint { method, path });
        }
        self.config.service(resource);
        self
    }

    fn with(&mut self, more: impl FnOnce(&mut Self)) -> &mut Self {
        more(self);
        self
    }

    /// Adds routes below `base`; other paths below it are not found.
    fn scope(&mut self, base: &'static str, inside: fn(&mut Routes<'_>)) -> &mut Self {
        let mut listed = Vec::new();
        let scope = web::scope(base).configure(|config| {
            let mut routes = Routes::new(config, base);
            inside(&mut routes);
            listed = routes.listed;
            config.default_service(web::to(nothing_here));
        });
        self.listed.extend(listed);
        self.config.service(scope);
        self
    }
}

async fn nothing_here() -> Result {
    Err(Error::NoSuchAddress)
}

/// Adds all routes; returns the list of endpoints.
pub fn configure(config: &mut ServiceConfig) -> Vec<Endpoint> {
    let mut routes = Routes::new(config, "");
    routes
        .only("/assets/{path:.*}", [get(assets::show)])
        .at("/login", [get(login::show), post(login::log_in)])
        .at("/logout", [post(login::log_out)])
        // GET only: HEAD requests, sent by link previews, must not use a link up.
        .at("/enter/{link}", [get_alone(login::enter)])
        .at(
            "/setup/{link}",
            [get(login::show_setup), post(login::set_up)],
        )
        .at("/preferences", [post(login::prefer)])
        .at("/language", [post(login::prefer)])
        .at("/home", [get(home::show)])
        .at("/metrics", [get(metrics::text)])
        .at("/admin/push", [get(metrics::page)])
        .at("/chat/{name}", [get(home::room)])
        .with(of_votes)
        .with(pages)
        .scope("/api/v1", api_v1);
    let Routes { config, listed, .. } = routes;
    config.default_service(web::to(nothing_here));
    listed
}

fn of_votes(routes: &mut Routes<'_>) {
    routes
        .at("/vote", [get(votes::list), post(votes::open)])
        .at("/vote/{name}", [get(votes::show), post(votes::cast)])
        .at("/vote/{name}/question", [post(votes::set)])
        .at("/vote/{name}/close", [post(votes::close)])
        .at("/vote/{name}/reopen", [post(votes::reopen)]);
}

fn pages(routes: &mut Routes<'_>) {
    routes
        .only("/", [get(releases::list)])
        .at("/releases", [get(releases::list), post(releases::create)])
        .at("/releases/new", [get(releases::new)])
        .at("/releases/{id}", [get(releases::show)])
        .at("/releases/{id}/cancel", [post(releases::cancel)])
        .at("/releases/{id}/rollback", [post(releases::roll_back)])
        .at("/releases/{id}/again", [post(releases::again)])
        .at("/audit", [get(work::audit_list)])
        .at(
            "/servers/known_hosts",
            [get(work::known_hosts), post(work::import)],
        )
        .at("/servers/{id}/work", [get(work::show), post(work::run)])
        .with(|routes| {
            Entity {
                routes,
                base: "/servers",
            }
            .list(get(servers::list), post(servers::create))
            .form(get(servers::new), post(servers::create))
            .one(|| [get(servers::edit), post(servers::update)])
            .delete(get(servers::ask_delete), post(servers::delete))
            .check(post(servers::check), post(servers::accept_key));
        })
        .with(|routes| {
            Entity {
                routes,
                base: "/projects",
            }
            .list(get(projects::list), post(projects::create))
            .form(get(projects::new), post(projects::create))
            .one(|| [get(projects::edit), post(projects::update)])
            .delete(get(projects::ask_delete), post(projects::delete))
            .check(post(projects::check), post(projects::accept_key));
        })
        .with(|routes| {
            Entity {
                routes,
                base: "/credentials",
            }
            .list(get(credentials::list), post(credentials::create))
            .form(get(credentials::new), post(credentials::create))
            .one(|| [get(credentials::edit), post(credentials::update)])
            .delete(get(credentials::ask_delete), post(credentials::delete));
        });
}

/// The pages of an entity; their paths are the same for each entity.
struct Entity<'a, 'b> {
    routes: &'a mut Routes<'b>,
    base: &'static str,
}

impl Entity<'_, '_> {
    fn add(self, end: &str, routes: impl IntoIterator<Item = Answering>) -> Self {
        self.routes.at(&format!("{}{end}", self.base), routes);
        self
    }

    fn list(self, show: Answering, create: Answering) -> Self {
        self.add("", [show, create])
    }

    fn form(self, show: Answering, create: Answering) -> Self {
        self.add("/new", [show, create])
    }

    fn one(self, routes: fn() -> [Answering; 2]) -> Self {
        self.add("/{id}", routes()).add("/{id}/edit", routes())
    }

    fn delete(self, ask: Answering, delete: Answering) -> Self {
        self.add("/{id}/delete", [ask, delete])
    }

    fn check(self, check: Answering, accept: Answering) -> Self {
        self.add("/{id}/check", [check])
            .add("/{id}/host_key", [accept])
    }
}

fn api_v1(routes: &mut Routes<'_>) {
    use super::metrics;
    use api::{by_hand, credentials, projects, releases, servers};
    routes
        .at("/servers/{id}/exec", [post(by_hand::exec)])
        .at(
            "/servers/{id}/file",
            [get_alone(by_hand::read_file), put(by_hand::write_file)],
        )
        .at(
            "/servers/{id}/tree",
            [get_alone(by_hand::read_tree), put(by_hand::write_tree)],
        )
        .at("/known_hosts", [post(by_hand::import_known_hosts)])
        .at("/audit", [get(by_hand::audit)])
        .at("/servers", [get(servers::list), post(servers::create)])
        .at(
            "/servers/{id}",
            [
                get(servers::show),
                put(servers::update),
                delete(servers::delete),
            ],
        )
        .at("/servers/{id}/check", [post(servers::check)])
        .at("/servers/{id}/host_key", [post(servers::accept_key)])
        .at("/projects", [get(projects::list), post(projects::create)])
        .at(
            "/projects/{id}",
            [
                get(projects::show),
                put(projects::update),
                delete(projects::delete),
            ],
        )
        .at("/projects/{id}/refs", [get(projects::refs)])
        .at("/projects/{id}/commits", [get(projects::commits)])
        .at("/projects/{id}/check", [post(projects::check)])
        .at("/projects/{id}/host_key", [post(projects::accept_key)])
        .at(
            "/credentials",
            [get(credentials::list), post(credentials::create)],
        )
        .at(
            "/credentials/{id}",
            [
                get(credentials::show),
                put(credentials::update),
                delete(credentials::delete),
            ],
        )
        .at("/releases", [get(releases::list), post(releases::create)])
        .at("/releases/{id}", [get(releases::show)])
        .at("/releases/{id}/cancel", [post(releases::cancel)])
        .at("/releases/{id}/rollback", [post(releases::roll_back)])
        .at("/releases/{id}/tree", [get(releases::tree)])
        .at("/push", [get(metrics::live)])
        .at("/releases/{id}/nodes/{key}/log", [get(releases::log)]);
}
