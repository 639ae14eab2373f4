//! Real parts: `git daemon`, `git http-backend`, a private sshd, compared with git's command line.

mod faults;
mod files;
mod fixture;
mod http;
mod http_backend;
mod mirror;
mod ssh;
mod sshd;
mod url;
