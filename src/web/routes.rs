//! Every address of pages and API, each with and without a trailing slash.

use actix_web::guard::{Any, Get, Head};
use actix_web::web::{self, ServiceConfig, delete, post, put};
use actix_web::{Resource, Route};

use super::api;
use super::error::{Error, Result};
use super::{assets, credentials, home, login, metrics, projects, releases, servers, votes, work};

/// A resource at `path`, given without a trailing slash.
fn at(path: &str) -> Resource {
    web::resource([path.to_owned(), format!("{path}/")])
}

/// A route for GET and HEAD.
fn get() -> Route {
    web::route().guard(Any(Get()).or(Head()))
}

async fn nothing_here() -> Result {
    Err(Error::NoSuchAddress)
}

/// Adds all routes.
pub fn configure(config: &mut ServiceConfig) {
    config
        .service(web::resource("/assets/{path:.*}").route(get().to(assets::show)))
        .service(
            at("/login")
                .route(get().to(login::show))
                .route(post().to(login::log_in)),
        )
        .service(at("/logout").route(post().to(login::log_out)))
        // GET only: HEAD requests, sent by link previews, must not use a link up.
        .service(at("/enter/{link}").route(web::get().to(login::enter)))
        .service(
            at("/setup/{link}")
                .route(get().to(login::show_setup))
                .route(post().to(login::set_up)),
        )
        .service(at("/preferences").route(post().to(login::prefer)))
        .service(at("/language").route(post().to(login::prefer)))
        .service(at("/home").route(get().to(home::show)))
        .service(at("/metrics").route(get().to(metrics::text)))
        .service(at("/admin/push").route(get().to(metrics::page)))
        .service(at("/chat/{name}").route(get().to(home::room)))
        .configure(of_votes)
        .configure(pages)
        .service(web::scope("/api/v1").configure(api_v1))
        .default_service(web::to(nothing_here));
}

fn of_votes(config: &mut ServiceConfig) {
    config
        .service(
            at("/vote")
                .route(get().to(votes::list))
                .route(post().to(votes::open)),
        )
        .service(
            at("/vote/{name}")
                .route(get().to(votes::show))
                .route(post().to(votes::cast)),
        )
        .service(at("/vote/{name}/question").route(post().to(votes::set)))
        .service(at("/vote/{name}/close").route(post().to(votes::close)))
        .service(at("/vote/{name}/reopen").route(post().to(votes::reopen)));
}

fn pages(config: &mut ServiceConfig) {
    config
        .service(web::resource("/").route(get().to(releases::list)))
        .service(
            at("/releases")
                .route(get().to(releases::list))
                .route(post().to(releases::create)),
        )
        .service(at("/releases/new").route(get().to(releases::new)))
        .service(at("/releases/{id}").route(get().to(releases::show)))
        .service(at("/releases/{id}/cancel").route(post().to(releases::cancel)))
        .service(at("/releases/{id}/rollback").route(post().to(releases::roll_back)))
        .service(at("/releases/{id}/again").route(post().to(releases::again)))
        .service(at("/audit").route(get().to(work::audit_list)))
        .service(
            at("/servers/known_hosts")
                .route(get().to(work::known_hosts))
                .route(post().to(work::import)),
        )
        .service(
            at("/servers/{id}/work")
                .route(get().to(work::show))
                .route(post().to(work::run)),
        )
        .configure(|config| {
            entity(config, "/servers")
                .list(get().to(servers::list), post().to(servers::create))
                .form(get().to(servers::new), post().to(servers::create))
                .one(|| [get().to(servers::edit), post().to(servers::update)])
                .delete(get().to(servers::ask_delete), post().to(servers::delete))
                .check(post().to(servers::check), post().to(servers::accept_key));
        })
        .configure(|config| {
            entity(config, "/projects")
                .list(get().to(projects::list), post().to(projects::create))
                .form(get().to(projects::new), post().to(projects::create))
                .one(|| [get().to(projects::edit), post().to(projects::update)])
                .delete(get().to(projects::ask_delete), post().to(projects::delete))
                .check(post().to(projects::check), post().to(projects::accept_key));
        })
        .configure(|config| {
            entity(config, "/credentials")
                .list(get().to(credentials::list), post().to(credentials::create))
                .form(get().to(credentials::new), post().to(credentials::create))
                .one(|| [get().to(credentials::edit), post().to(credentials::update)])
                .delete(
                    get().to(credentials::ask_delete),
                    post().to(credentials::delete),
                );
        });
}

/// The pages of an entity; their paths are the same for each entity.
struct Entity<'a> {
    config: &'a mut ServiceConfig,
    base: &'static str,
}

fn entity<'a>(config: &'a mut ServiceConfig, base: &'static str) -> Entity<'a> {
    Entity { config, base }
}

impl Entity<'_> {
    fn add(self, end: &str, routes: impl IntoIterator<Item = Route>) -> Self {
        let resource = at(&format!("{}{end}", self.base));
        let resource = routes.into_iter().fold(resource, Resource::route);
        self.config.service(resource);
        self
    }

    fn list(self, show: Route, create: Route) -> Self {
        self.add("", [show, create])
    }

    fn form(self, show: Route, create: Route) -> Self {
        self.add("/new", [show, create])
    }

    fn one(self, routes: fn() -> [Route; 2]) -> Self {
        self.add("/{id}", routes()).add("/{id}/edit", routes())
    }

    fn delete(self, ask: Route, delete: Route) -> Self {
        self.add("/{id}/delete", [ask, delete])
    }

    fn check(self, check: Route, accept: Route) -> Self {
        self.add("/{id}/check", [check])
            .add("/{id}/host_key", [accept])
    }
}

fn api_v1(config: &mut ServiceConfig) {
    use super::metrics;
    use api::{by_hand, credentials, projects, releases, servers};
    config
        .service(at("/servers/{id}/exec").route(post().to(by_hand::exec)))
        .service(
            at("/servers/{id}/file")
                .route(web::get().to(by_hand::read_file))
                .route(put().to(by_hand::write_file)),
        )
        .service(
            at("/servers/{id}/tree")
                .route(web::get().to(by_hand::read_tree))
                .route(put().to(by_hand::write_tree)),
        )
        .service(at("/known_hosts").route(post().to(by_hand::import_known_hosts)))
        .service(at("/audit").route(get().to(by_hand::audit)))
        .service(
            at("/servers")
                .route(get().to(servers::list))
                .route(post().to(servers::create)),
        )
        .service(
            at("/servers/{id}")
                .route(get().to(servers::show))
                .route(put().to(servers::update))
                .route(delete().to(servers::delete)),
        )
        .service(at("/servers/{id}/check").route(post().to(servers::check)))
        .service(at("/servers/{id}/host_key").route(post().to(servers::accept_key)))
        .service(
            at("/projects")
                .route(get().to(projects::list))
                .route(post().to(projects::create)),
        )
        .service(
            at("/projects/{id}")
                .route(get().to(projects::show))
                .route(put().to(projects::update))
                .route(delete().to(projects::delete)),
        )
        .service(at("/projects/{id}/refs").route(get().to(projects::refs)))
        .service(at("/projects/{id}/commits").route(get().to(projects::commits)))
        .service(at("/projects/{id}/check").route(post().to(projects::check)))
        .service(at("/projects/{id}/host_key").route(post().to(projects::accept_key)))
        .service(
            at("/credentials")
                .route(get().to(credentials::list))
                .route(post().to(credentials::create)),
        )
        .service(
            at("/credentials/{id}")
                .route(get().to(credentials::show))
                .route(put().to(credentials::update))
                .route(delete().to(credentials::delete)),
        )
        .service(
            at("/releases")
                .route(get().to(releases::list))
                .route(post().to(releases::create)),
        )
        .service(at("/releases/{id}").route(get().to(releases::show)))
        .service(at("/releases/{id}/cancel").route(post().to(releases::cancel)))
        .service(at("/releases/{id}/rollback").route(post().to(releases::roll_back)))
        .service(at("/releases/{id}/tree").route(get().to(releases::tree)))
        .service(at("/push").route(get().to(metrics::live)))
        .service(at("/releases/{id}/nodes/{key}/log").route(get().to(releases::log)))
        .default_service(web::to(nothing_here));
}
