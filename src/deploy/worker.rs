//! Walks one release's plan from its claim to its end.

use super::build_cache;
use super::error::DeployError;
use super::plan::{Step, key};
use super::platform::{self, Made};
use super::removal;
use super::rollout;
use super::run::{Run, StopReason};
use super::said::Message;
use super::state;
use crate::store::nodes::Node;
use crate::store::releases::ReleaseChange;
use crate::store::{NodeState, ReleaseKind, ReleaseState, StoreError};

/// The number of failed nodes that a release's message names.
const CAUSES: usize = 5;

/// Runs a claimed release. A failed step is in the release's state; only the database's faults are
/// errors.
pub(super) fn walk(run: Run) -> Result<(), DeployError> {
    let result = act(&run);
    if let Err(error) = removal::remove_all(&run.work) {
        tracing::warn!(release = %run.release.id, %error, "work folder not removed");
    }
    if let Err(error) = build_cache::evict(&run.options.caches, run.options.cache_bytes)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "build caches not looked through");
    }
    let Run {
        recorder,
        logs,
        stop,
        ..
    } = run;
    // The last lines of the logs come before the release's end, so that a client that waits for the
    // end has them.
    drop(logs);
    let (running_to, waiting_to) = match stop.reason() {
        Some(StopReason::Cancelled) => (
            (NodeState::Cancelled, Message::default()),
            NodeState::Cancelled,
        ),
        Some(StopReason::Interrupted) => (
            (NodeState::Interrupted, Message::platform_stopped()),
            NodeState::Skipped,
        ),
        None => (
            (NodeState::Failed, Message::platform_failed()),
            NodeState::Skipped,
        ),
    };
    let running_to = (running_to.0, &running_to.1);
    recorder.end(running_to, waiting_to, |nodes| ending(nodes, stop.reason()))?;
    Ok(result?)
}

/// The end of a release without a worker, with the reason `why`. Its nodes decide if all of them got
/// through.
pub(super) fn abandoned(nodes: &[Node], why: &Message) -> ReleaseChange {
    let mut change = ending(nodes, Some(StopReason::Interrupted));
    let is_silent = change.message.as_ref().is_none_or(String::is_empty);
    if change.state == Some(ReleaseState::Interrupted) && is_silent {
        change.message = Some(why.stored());
    }
    change
}

/// The end of a release whose nodes have all ended.
pub(super) fn ending(nodes: &[Node], stopped: Option<StopReason>) -> ReleaseChange {
    let outcome = state::outcome(nodes);
    let state = match stopped {
        // The stop came too late: everything was done.
        _ if outcome == ReleaseState::Succeeded => outcome,
        Some(StopReason::Cancelled) => ReleaseState::Cancelled,
        Some(StopReason::Interrupted) => ReleaseState::Interrupted,
        None => outcome,
    };
    ReleaseChange {
        state: Some(state),
        message: Some(state::explanation(nodes, CAUSES).stored()),
        ..ReleaseChange::default()
    }
}

fn act(run: &Run) -> Result<(), StoreError> {
    match run.release.kind {
        ReleaseKind::Deploy => {
            let mut made = Made::default();
            if platform_chain(run, &run.spec.platform_steps(), &mut made)? {
                rollout::roll_out(run, made.shipment.as_ref())?;
            }
        }
        ReleaseKind::Rollback => {
            if platform_chain(run, &[Step::Start], &mut Made::default())? {
                rollout::roll_out(run, None)?;
            }
        }
    }
    Ok(())
}

/// Walks the platform's chain. True if the servers' steps may run.
fn platform_chain(run: &Run, steps: &[Step], made: &mut Made) -> Result<bool, StoreError> {
    for &step in steps {
        let done = run.step(&key(step, None), |frame| {
            platform::act(run, step, frame, made)
        })?;
        if !done {
            return Ok(false);
        }
    }
    Ok(true)
}
