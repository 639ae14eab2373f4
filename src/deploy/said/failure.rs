//! Texts of failed steps and refused requests.

use std::time::Duration;

use super::Said;
use super::refusal::Refusal;
use crate::deploy::error::{DeployError, StepError};
use crate::deploy::health::{Earlier, TryEnd, Unhealthy, WayBack};
use crate::deploy::placement::{Clash, Neighbour};
use crate::secret::VaultError;
use crate::ssh::Exit;
use crate::store::StoreError;

impl From<&StepError> for Said {
    fn from(error: &StepError) -> Self {
        let said = |key| Self::new(key, error);
        let within = |key, limit: &Duration| said(key).arg("seconds", limit.as_secs());
        match error {
            StepError::Stopped => said("failure.stopped"),
            StepError::Git(error) => error.into(),
            StepError::Ssh(error) => error.into(),
            StepError::Store(error) => error.into(),
            StepError::Vault(error) => error.into(),
            StepError::Deploy(error) => error.into(),
            StepError::Refused(refusal) => refusal.into(),
            StepError::Command(exit) => said("failure.command").said("exit", exit),
            StepError::Unhealthy(unhealthy) => unhealthy.into(),
            StepError::SentBack { cause, way } => said("failure.sent_back")
                .said("cause", &**cause)
                .said("way", way),
            StepError::CommandTimedOut(limit) => within("failure.command_timed_out", limit),
            StepError::StepTimedOut(limit) => within("failure.step_timed_out", limit),
            StepError::File { path, cause } => said("failure.file")
                .arg("path", path.display())
                .arg("cause", cause),
            StepError::LinkOutside { path, target } => said("failure.link_outside")
                .arg("path", path.display())
                .arg("target", target.display()),
            StepError::Start(cause) => said("failure.start").arg("cause", cause),
            StepError::Account(name) => said("failure.account").arg("name", name),
        }
    }
}

impl From<&DeployError> for Said {
    fn from(error: &DeployError) -> Self {
        match error {
            DeployError::Store(error) => error.into(),
            DeployError::Git(error) => error.into(),
            DeployError::Fetch(error) => error.as_ref().into(),
            DeployError::Ssh(error) => error.into(),
            DeployError::Vault(error) => error.into(),
            DeployError::File { path, cause } => Self::new("failure.file", error)
                .arg("path", path.display())
                .arg("cause", cause),
            DeployError::Shared(clash) => clash.into(),
            // Answers to requests; no release ends with them.
            other => Self::new("failure.other", other).arg("cause", other),
        }
    }
}

impl From<&Clash> for Said {
    fn from(clash: &Clash) -> Self {
        let said = |key| {
            Self::new(key, clash)
                .arg("server", &clash.server)
                .arg("folder", &clash.folder)
        };
        match &clash.neighbour {
            Neighbour::Project(title) => said("failure.clash.project").arg("title", title),
            Neighbour::Server => said("failure.clash.server"),
            Neighbour::Platform => said("failure.clash.platform"),
        }
    }
}

impl From<&Unhealthy> for Said {
    fn from(unhealthy: &Unhealthy) -> Self {
        let key = match unhealthy.output.as_str() {
            "" => "failure.unhealthy_silent",
            _ => "failure.unhealthy",
        };
        let said = Self::new(key, unhealthy)
            .arg("steady", unhealthy.times.steady)
            .arg("seconds", unhealthy.times.seconds)
            .said("end", &unhealthy.end);
        match unhealthy.output.as_str() {
            "" => said,
            output => said.arg("output", output),
        }
    }
}

impl From<&TryEnd> for Said {
    fn from(end: &TryEnd) -> Self {
        match end {
            TryEnd::Exit(exit) => Self::new("failure.try_ended", end).said("exit", exit),
            TryEnd::Late => Self::new("failure.try_late", end),
        }
    }
}

impl From<&WayBack> for Said {
    fn from(way: &WayBack) -> Self {
        let back = |key: &str, earlier: &Earlier| match earlier {
            Earlier::Release(release) => Self::new(key, way).arg("release", release),
            Earlier::Path(path) => Self::new(&format!("{key}_path"), way).arg("path", path),
        };
        match way {
            WayBack::Gone(earlier) => back("failure.back.gone", earlier),
            WayBack::NotRestarted(earlier, why) => {
                back("failure.back.not_restarted", earlier).said("cause", &**why)
            }
            WayBack::NotGone(earlier, why) => {
                back("failure.back.not_gone", earlier).said("cause", &**why)
            }
            WayBack::Nowhere => Self::new("failure.back.nowhere", way),
        }
    }
}

impl From<&Exit> for Said {
    fn from(exit: &Exit) -> Self {
        let said = |key| Self::new(key, exit);
        match (exit.code, &exit.signal) {
            (Some(code), None) => said("failure.exit.code").arg("code", code),
            (Some(code), Some(signal)) => said("failure.exit.code_signal")
                .arg("code", code)
                .arg("signal", signal),
            (None, Some(signal)) => said("failure.exit.signal").arg("signal", signal),
            (None, None) => said("failure.exit.unknown"),
        }
    }
}

impl From<&Refusal> for Said {
    fn from(refusal: &Refusal) -> Self {
        let key = format!("failure.target.{}", refusal.word());
        let said = Self::new(&key, refusal);
        refusal
            .details()
            .fold(said, |said, (name, value)| said.arg(name, value))
    }
}

impl From<&StoreError> for Said {
    fn from(error: &StoreError) -> Self {
        let said = |key| Self::new(key, error);
        match error {
            StoreError::NotFound { what, id } => {
                let entity = Self::new(&format!("failure.entity.{what}"), what);
                said("failure.not_found").said("what", entity).arg("id", id)
            }
            StoreError::Database(cause) => said("failure.database").arg("cause", cause),
            StoreError::Pool(cause) => said("failure.database").arg("cause", cause),
            // Answers to requests, or faults at the platform's start.
            other => said("failure.other").arg("cause", other),
        }
    }
}

impl From<&VaultError> for Said {
    fn from(error: &VaultError) -> Self {
        match error {
            VaultError::Unreadable => Self::new("failure.secret", error),
            // Faults at the platform's start.
            other => Self::new("failure.other", other).arg("cause", other),
        }
    }
}
