//! Tests on a real sshd: private, on a free loopback port, ended with the test.

mod account;
mod agent;
mod exec;
mod exec_end;
mod jump;
mod kinds;
mod lanes;
mod login;
mod login_password;
mod pool;
mod proxy;
mod sftp;
mod shells;
mod signatures;
mod silence;
pub(crate) mod sshd;
mod transfer;
mod tree;
mod two_proofs;
