//! Longshore: a self-hosted code-deployment platform whose live flow chart is carried by HTTP long
//! polling with one bounded queue per client.
//!
//! The modules, from the leaves up. A module may use only what its line names; a test enforces it.
//!
//! | module | what it is | may use |
//! |---|---|---|
//! | [`secret`] | `Secret<T>`, sealing at rest, random tokens | – |
//! | [`http`] | the text of requests: decoding, cookies, origins, canonical paths | – |
//! | [`names`] | names shown to people | – |
//! | [`sandbox`] | projects' commands, confined by the kernel | – |
//! | [`proxies`] | the client's address behind reverse proxies | – |
//! | [`pools`] | bounded pools of blocking threads, one per kind of thing waited for | – |
//! | [`limits`] | rate limits | proxies |
//! | [`settings`] | one TOML file, `LONGSHORE_*` variables, flags | proxies |
//! | [`i18n`] | the Chinese and English catalogues | – |
//! | [`hub`] | rooms, per-client bounded queues, cursors, replay, gaps | – |
//! | [`git`] | mirrors, fetch, refs, commits, checkout, archive | secret |
//! | [`ssh`] | connections, host keys, exec, transfer | secret |
//! | [`store`] | the diesel pool, the schema, one file per entity with its queries | secret |
//! | [`auth`] | passwords, login sessions, roles, CSRF, tokens | store, secret, proxies, http |
//! | [`chat`] | access rules of the chat rooms | hub, store, settings |
//! | [`vote`] | votes: questions, ballots, counts | store, secret, names |
//! | [`deploy`] | plan, state, worker, steps, recovery | git, ssh, store, hub, secret, pools, sandbox |
//! | [`transport`] | the wire: long and plain polling, event streams, sockets | hub, auth, proxies, secret, http |
//! | [`app`] | all shared handles, built once | all above but transport |
//! | [`metrics`] | the platform's metrics: now, the last minutes, Prometheus text | app and what it uses, transport |
//! | [`web`] | pages, forms, JSON API, errors to answers, assets | app and what it uses, transport (`/home`), metrics |
//! | [`cli`] | one file per subcommand | app and what it uses, server |
//! | [`server`] | the HTTP server: workers, routes, graceful shutdown | app and what it uses, web, transport, metrics |

pub mod app;
pub mod auth;
pub mod chat;
pub mod cli;
pub mod deploy;
pub mod git;
pub mod http;
pub mod hub;
pub mod i18n;
pub mod limits;
pub mod metrics;
pub mod names;
pub mod pools;
pub mod proxies;
pub mod sandbox;
pub mod secret;
pub mod server;
pub mod settings;
pub mod ssh;
pub mod store;
pub mod transport;
pub mod vote;
pub mod web;
