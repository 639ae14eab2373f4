//! Texts of SSH failures.

use std::io;
use std::time::Duration;

use super::reason::reason;
use super::{Arg, Said};
use crate::deploy::error::StepError;
use crate::ssh::{Cause, Phase, ProxyFault, SshError};

impl From<&SshError> for Said {
    fn from(error: &SshError) -> Self {
        Self::new("failure.ssh.at", error)
            .arg("address", &error.address)
            .said("cause", &error.cause)
    }
}

impl From<&Cause> for Said {
    fn from(cause: &Cause) -> Self {
        let said = |key| Self::new(key, cause);
        match cause {
            Cause::Unresolved { reason: why } => {
                said("failure.ssh.unresolved").with("reason", reason(why))
            }
            Cause::Unreachable { reason: why } => {
                said("failure.ssh.unreachable").with("reason", reason(why))
            }
            Cause::TimedOut { phase, after } => said("failure.ssh.timed_out")
                .arg("seconds", seconds(*after))
                .said("phase", *phase),
            Cause::Handshake { reason: why } => {
                said("failure.ssh.handshake").with("reason", reason(why))
            }
            Cause::TurnedAway => said("failure.ssh.turned_away"),
            Cause::NoWayOn { to, reason: why } => said("failure.ssh.no_way_on")
                .arg("to", to)
                .with("reason", reason(why)),
            Cause::Proxy { proxy, fault } => said("failure.ssh.proxy")
                .arg("proxy", proxy)
                .said("fault", fault),
            Cause::UnknownHostKey { offered } => {
                said("failure.ssh.unknown_host_key").arg("offered", offered)
            }
            Cause::HostKeyChanged { pinned, offered } => said("failure.ssh.host_key_changed")
                .arg("pinned", pinned)
                .arg("offered", offered),
            Cause::AuthenticationFailed {
                user,
                tried,
                accepted,
            } => said("failure.ssh.login")
                .arg("user", user)
                .with("tried", reason(tried))
                .arg("accepted", accepted),
            Cause::MoreProof {
                user,
                taken,
                missing,
                wanted,
            } => said("failure.ssh.more_proof")
                .arg("user", user)
                .with("taken", reason(taken))
                .with("missing", reason(missing))
                .arg("wanted", wanted),
            Cause::NextProofRefused {
                user,
                taken,
                refused,
            } => said("failure.ssh.next_proof")
                .arg("user", user)
                .with("taken", reason(taken))
                .with("refused", reason(refused)),
            Cause::PasswordExpired { user } => {
                said("failure.ssh.password_expired").arg("user", user)
            }
            Cause::PassphraseMissing => said("failure.ssh.passphrase_missing"),
            Cause::PassphraseWrong => said("failure.ssh.passphrase_wrong"),
            Cause::KeyNotUnderstood { reason: why } => {
                said("failure.ssh.key").with("reason", reason(why))
            }
            Cause::KeyUnreadable { path, cause } => said("failure.ssh.key_unreadable")
                .arg("path", path.display())
                .arg("cause", cause),
            Cause::KeyFolder { path } => said("failure.ssh.key_folder").arg("path", path.display()),
            Cause::AgentOff => said("failure.ssh.agent_off"),
            Cause::Agent { reason: why } => said("failure.ssh.agent").with("reason", reason(why)),
            Cause::Refused { what, reason: why } => said("failure.ssh.refused")
                .with("what", reason(what))
                .with("reason", reason(why)),
            Cause::NoShell => said("failure.ssh.no_shell"),
            Cause::LoginEnded { ended, said: words } => said(match words.as_str() {
                "" => "failure.ssh.login_ended",
                _ => "failure.ssh.login_ended_said",
            })
            .said("ended", ended)
            .arg("said", words),
            Cause::LoginSilent { after, said: words } => said(match words.as_str() {
                "" => "failure.ssh.login_silent",
                _ => "failure.ssh.login_silent_said",
            })
            .arg("seconds", seconds(*after))
            .arg("said", words),
            Cause::CommandTimedOut { limit, killed } => said(match killed {
                true => "failure.ssh.command_timed_out",
                false => "failure.ssh.command_timed_out_runs",
            })
            .arg("seconds", seconds(*limit)),
            Cause::Cancelled { killed } => said(match killed {
                true => "failure.cancelled",
                false => "failure.ssh.cancelled_runs",
            }),
            Cause::Input { cause } => said("failure.ssh.input").with("cause", input(cause)),
            Cause::Output { cause } => said("failure.ssh.output").arg("cause", cause),
            Cause::RemoteFile { path, reason: why } => said("failure.ssh.remote_file")
                .arg("path", path)
                .with("reason", reason(why)),
            Cause::LocalFile { path, cause } => said("failure.file")
                .arg("path", path.display())
                .arg("cause", cause),
            Cause::DiskFull { path } => said("failure.ssh.disk_full").arg("path", path),
            Cause::ConnectionLost { reason: why } => {
                said("failure.ssh.connection_lost").with("reason", reason(why))
            }
        }
    }
}

impl From<&ProxyFault> for Said {
    fn from(fault: &ProxyFault) -> Self {
        let said = |key| Self::new(key, fault);
        match fault {
            ProxyFault::Unresolved { reason: why } => {
                said("failure.proxy.unresolved").with("reason", reason(why))
            }
            ProxyFault::Unreachable { reason: why } => {
                said("failure.proxy.unreachable").with("reason", reason(why))
            }
            ProxyFault::HungUp => said("failure.proxy.hung_up"),
            ProxyFault::Garbage => said("failure.proxy.garbage"),
            ProxyFault::LoginNeeded => said("failure.proxy.login_needed"),
            ProxyFault::LoginRefused => said("failure.proxy.login_refused"),
            ProxyFault::Refused { reason: why } => {
                said("failure.proxy.refused").with("reason", reason(why))
            }
            ProxyFault::Start { reason: why } => {
                said("failure.proxy.start").with("reason", reason(why))
            }
            ProxyFault::Ended { ended, said: words } => said("failure.proxy.ended")
                .said("ended", ended)
                .arg("said", words),
        }
    }
}

impl From<Phase> for Said {
    fn from(phase: Phase) -> Self {
        let key = match phase {
            Phase::Lookup => "failure.phase.lookup",
            Phase::Connect => "failure.phase.connect",
            Phase::Handshake => "failure.phase.handshake",
            Phase::Jump => "failure.phase.jump",
            Phase::Proxy => "failure.phase.proxy",
            Phase::Slot => "failure.phase.turn",
            Phase::Authentication => "failure.phase.authentication",
            Phase::Start => "failure.phase.start",
            Phase::Transfer => "failure.phase.transfer",
        };
        Self::new(key, phase)
    }
}

/// The cause of a failed upload: the text of the step's error if its reader failed with one.
fn input(cause: &io::Error) -> Arg {
    match cause
        .get_ref()
        .and_then(|cause| cause.downcast_ref::<StepError>())
    {
        Some(error) => Arg::Said(error.into()),
        None => Arg::Text(cause.to_string()),
    }
}

/// Seconds rounded to a tenth, as in the error's own text.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}
