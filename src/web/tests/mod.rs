//! The room as a whole, in process: every test has its own application on a fresh data folder, and
//! a browser or script that talks to it. No release runs, since the engine is not started.

use std::collections::BTreeMap;

use actix_web::cookie::Cookie;
use actix_web::http::header::{self, HeaderMap};
use actix_web::http::{Method, StatusCode};
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use serde_json::{Value, json};

use crate::app::App;
use crate::auth::{SECURE_SESSION_COOKIE, SESSION_COOKIE};
use crate::secret::Secret;
use crate::settings::{ChatAccess, Settings};
use crate::store::Role;

mod api;
mod guard;
mod login;
mod pages;
mod releases;
mod said;
mod ssh;

const HOST: &str = "longshore.test";
const ORIGIN: &str = "https://longshore.test";
const PASSWORD: &str = "correct horse";

/// An application of its own.
struct TestApp {
    _folder: tempfile::TempDir,
    app: App,
}

impl TestApp {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// An application with changed settings.
    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            chat: ChatAccess::Open,
            public_urls: vec![
                "https://deploy.example".into(),
                "https://longshore.test".into(),
            ],
            ..Settings::default()
        };
        change(&mut settings);
        let folder = tempfile::tempdir().unwrap();
        let app = App::open(settings, &folder.path().join("data")).unwrap();
        Self {
            _folder: folder,
            app,
        }
    }

    /// The application with the admin `ann`, the deployer `dan` and the viewer `vic`.
    fn with_people() -> Self {
        Self::new().and_people()
    }

    fn and_people(self) -> Self {
        let test = self;
        for (name, role) in [
            ("ann", Role::Admin),
            ("dan", Role::Deployer),
            ("vic", Role::Viewer),
        ] {
            let password = Secret::new(PASSWORD.to_owned());
            test.app.auth().add_user(name, &password, role).unwrap();
        }
        test
    }

    async fn send(&self, request: TestRequest) -> Answer {
        let app = actix_web::App::new()
            .app_data(actix_web::web::Data::new(self.app.clone()))
            .configure(crate::web::configure);
        let service = init_service(app).await;
        let request = request.insert_header((header::HOST, HOST)).to_request();
        let response = call_service(&service, request).await;
        let status = response.status();
        let headers = response.headers().clone();
        let cookies = response
            .response()
            .cookies()
            .map(Cookie::into_owned)
            .collect();
        let body = read_body(response).await;
        Answer {
            status,
            headers,
            cookies,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(TestRequest::get().uri(path)).await
    }

    /// A script with an API token of `user`.
    fn script(&self, user: &str) -> Script<'_> {
        let token = self.app.auth().create_token(user).unwrap();
        Script {
            test: self,
            token: token.expose().clone(),
        }
    }

    /// A browser without a login.
    fn browser(&self) -> Browser<'_> {
        Browser {
            test: self,
            cookies: BTreeMap::new(),
            csrf: String::new(),
        }
    }

    /// A browser in which `user` is logged in.
    async fn browser_of(&self, user: &str) -> Browser<'_> {
        let mut browser = self.browser();
        let link = self.app.auth().login_link(user).unwrap();
        let entered = browser.get(&crate::auth::login_path(&link)).await;
        assert_eq!(entered.status, StatusCode::SEE_OTHER);
        let page = browser.get("/servers").await;
        browser.csrf = page.csrf();
        browser
    }
}

/// A response.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    cookies: Vec<Cookie<'static>>,
    body: String,
}

impl Answer {
    #[track_caller]
    fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/json");
        serde_json::from_str(&self.body).unwrap()
    }

    /// The code and field of an error.
    #[track_caller]
    fn error(&self) -> (String, Option<String>) {
        let json = self.json();
        assert!(
            json["message"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        );
        let code = json["code"].as_str().unwrap().to_owned();
        let field = json["field"].as_str().filter(|field| !field.is_empty());
        (code, field.map(str::to_owned))
    }

    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map(|value| value.to_str().unwrap())
            .unwrap_or_default()
    }

    fn cookie(&self, name: &str) -> Option<&Cookie<'static>> {
        self.cookies.iter().find(|cookie| cookie.name() == name)
    }

    /// The form's CSRF token.
    fn csrf(&self) -> String {
        let start = self.body.find("name=\"csrf\" value=\"").unwrap() + 19;
        self.body[start..].split('"').next().unwrap().to_owned()
    }
}

/// A script with an API token.
struct Script<'a> {
    test: &'a TestApp,
    token: String,
}

impl Script<'_> {
    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let mut request = TestRequest::with_uri(&format!("/api/v1/{path}"))
            .method(method)
            .insert_header(("Authorization", format!("Bearer {}", self.token)));
        if let Some(body) = body {
            request = request.set_json(body);
        }
        self.test.send(request).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(body)).await
    }

    async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PUT, path, Some(body)).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    /// Adds a local server and returns its id.
    async fn server(&self, hostname: &str) -> String {
        let server = json!({"hostname": hostname, "kind": "local", "root": "/tmp"});
        let added = self.post("servers", server).await.expect(201).json();
        added["id"].as_str().unwrap().to_owned()
    }

    /// Adds a project on a server of its own and returns its id.
    async fn project(&self, title: &str) -> String {
        let server = self.server(&format!("server of {title}")).await;
        let project = json!({
            "title": title, "repo": "https://git.example/shop.git", "env": "test",
            "path": "/srv/shop", "server_ids": [server],
        });
        let added = self.post("projects", project).await.expect(201).json();
        added["id"].as_str().unwrap().to_owned()
    }
}

/// A browser: keeps cookies, sends the origin of its forms and fills in their token.
struct Browser<'a> {
    test: &'a TestApp,
    cookies: BTreeMap<String, String>,
    csrf: String,
}

impl Browser<'_> {
    fn request(&self, method: Method, path: &str) -> TestRequest {
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let request = TestRequest::with_uri(path).method(method);
        if cookies.is_empty() {
            request
        } else {
            request.insert_header((header::COOKIE, cookies.join("; ")))
        }
    }

    async fn send(&mut self, request: TestRequest) -> Answer {
        let answer = self.test.send(request).await;
        for cookie in &answer.cookies {
            if cookie.max_age().is_some_and(|age| age.is_zero()) {
                self.cookies.remove(cookie.name());
            } else {
                let value = cookie.value().to_owned();
                self.cookies.insert(cookie.name().to_owned(), value);
            }
        }
        answer
    }

    async fn get(&mut self, path: &str) -> Answer {
        let request = self.request(Method::GET, path);
        self.send(request).await
    }

    async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let mut fields = fields.to_vec();
        let csrf = self.csrf.clone();
        fields.push(("csrf", &csrf));
        let request = self
            .request(Method::POST, path)
            .insert_header((header::ORIGIN, ORIGIN))
            .set_form(fields);
        self.send(request).await
    }

    fn session(&self) -> Option<&String> {
        self.cookies.get(SECURE_SESSION_COOKIE)
    }
}
