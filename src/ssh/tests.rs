//! Tests on a real sshd: private, on a free loopback port, ended with the test.

mod account;
mod agent;
mod exec;
mod exec_end;
mod jump;
mod kinds;
mod login;
mod login_password;
mod parallel_upload;
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

use std::time::Duration;

use crate::ssh::Timeouts;

/// Time-outs for servers on a busy machine.
const PATIENT: Timeouts = Timeouts {
    connect: Duration::from_secs(60),
    idle: Duration::from_secs(30),
};
