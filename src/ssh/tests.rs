//! Tests on a real sshd: private, on a free loopback port, ended with the test.

mod exec;
mod exec_end;
mod login;
mod login_password;
pub(crate) mod sshd;
mod transfer;
