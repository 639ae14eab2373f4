//! Real parts: `git daemon`, `git http-backend`, a private sshd, compared with git's command line.

mod faults;
mod files;
pub mod fixture;
mod http;
mod http_backend;
mod huge;
mod large;
mod mirror;
mod released;
mod rewritten;
mod shallow;
mod ssh;
mod sshd;
mod submodules;
mod sweep;
mod url;
mod world;
