//! Legal changes of state, and the outcome of a release from its nodes' states. Pure.

use super::said::{Causes, Message};
use crate::store::nodes::Node;
use crate::store::{NodeState, ReleaseState};

/// True if a node may change from `from` to `to`. An ended node stays ended.
pub fn node_may(from: NodeState, to: NodeState) -> bool {
    use NodeState as S;
    match from {
        S::Waiting => matches!(to, S::Running | S::Skipped | S::Cancelled),
        S::Running => matches!(to, S::Succeeded | S::Failed | S::Cancelled | S::Interrupted),
        S::Succeeded | S::Failed | S::Cancelled | S::Skipped | S::Interrupted => false,
    }
}

/// True if a release may change from `from` to `to`.
pub fn release_may(from: ReleaseState, to: ReleaseState) -> bool {
    use ReleaseState as S;
    match from {
        S::Queued => matches!(to, S::Running | S::Cancelled | S::Interrupted),
        S::Running => !to.is_active(),
        S::Succeeded | S::Partial | S::Failed | S::Cancelled | S::Interrupted => false,
    }
}

/// The outcome of a release whose nodes have all ended by themselves.
pub fn outcome(nodes: &[Node]) -> ReleaseState {
    let ends: Vec<&Node> = nodes
        .iter()
        .filter(|node| node.server_id.is_some())
        .filter(|node| {
            let is_parent = |other: &&Node| other.parent.as_deref() == Some(node.key.as_str());
            !nodes.iter().any(|other| is_parent(&other))
        })
        .collect();
    let reached = ends
        .iter()
        .filter(|node| node.state == NodeState::Succeeded)
        .count();
    match reached {
        0 => ReleaseState::Failed,
        all if all == ends.len() => ReleaseState::Succeeded,
        _ => ReleaseState::Partial,
    }
}

/// The reason why a release is not `succeeded`: server, step and cause of each node that did not
/// succeed, at most `most` causes.
pub fn explanation(nodes: &[Node], most: usize) -> Message {
    let mut failed = nodes
        .iter()
        .filter(|node| {
            matches!(
                node.state,
                NodeState::Failed | NodeState::Interrupted | NodeState::Cancelled
            ) && !node.message.is_empty()
        })
        .peekable();
    if failed.peek().is_none() {
        return Message::default();
    }
    let mut causes = Causes::default();
    for node in failed {
        let server = node.server_name.as_deref();
        causes.add(server, &node.step, Message::read(&node.message), most);
    }
    Message::Causes(causes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{ReleaseId, ServerId};
    use proptest::prelude::*;

    fn node(key: &str, parent: &str, server: Option<i64>, state: NodeState) -> Node {
        Node {
            release_id: ReleaseId(1),
            key: key.into(),
            parent: (!parent.is_empty()).then(|| parent.into()),
            position: 0,
            step: key.split('-').next().unwrap().into(),
            server_id: server.map(ServerId),
            server_name: server.map(|id| format!("web-{id}")),
            state,
            message: "exit code 1".into(),
            progress: String::new(),
            version: 1,
            started_at: None,
            finished_at: None,
        }
    }

    #[test]
    fn the_last_node_of_each_server_decides() {
        use NodeState::{Failed, Skipped, Succeeded};
        let nodes = |first, second| {
            vec![
                node("zip", "", None, Succeeded),
                node("upload-1", "zip", Some(1), Succeeded),
                node("restart-1", "upload-1", Some(1), first),
                node("upload-2", "zip", Some(2), Succeeded),
                node("restart-2", "upload-2", Some(2), second),
            ]
        };
        assert_eq!(
            outcome(&nodes(Succeeded, Succeeded)),
            ReleaseState::Succeeded
        );
        assert_eq!(outcome(&nodes(Succeeded, Failed)), ReleaseState::Partial);
        assert_eq!(outcome(&nodes(Failed, Skipped)), ReleaseState::Failed);
        assert_eq!(
            explanation(&nodes(Succeeded, Failed), 5).english(),
            "web-2: restart: exit code 1"
        );
        let mut failed = nodes(Failed, Failed);
        let explained = |nodes: &[Node], most| explanation(nodes, most).english();
        assert_eq!(explained(&failed, 5), "web-1, web-2: restart: exit code 1");
        assert_eq!(explained(&failed, 1), "web-1 (+1): restart: exit code 1");
        failed[2].message = "exit code 2".into();
        assert_eq!(
            explained(&failed, 5),
            "web-1: restart: exit code 2; web-2: restart: exit code 1"
        );
        assert_eq!(
            explained(&failed, 1),
            "web-1: restart: exit code 2; and 1 more"
        );
    }

    fn any_node_state() -> impl Strategy<Value = NodeState> {
        proptest::sample::select(NodeState::ALL)
    }

    fn any_release_state() -> impl Strategy<Value = ReleaseState> {
        proptest::sample::select(ReleaseState::ALL)
    }

    proptest! {
        #[test]
        fn no_walk_leaves_an_end_or_repeats_a_state(steps in proptest::collection::vec(any_node_state(), 1..40)) {
            let mut state = NodeState::Waiting;
            let mut seen = vec![state];
            for to in steps {
                if node_may(state, to) {
                    state = to;
                    prop_assert!(!seen.contains(&state));
                    seen.push(state);
                }
            }
            prop_assert!(seen.len() <= 3);
        }

        #[test]
        fn a_release_ends_once(steps in proptest::collection::vec(any_release_state(), 1..40)) {
            let mut state = ReleaseState::Queued;
            let mut ends = 0;
            for to in steps {
                if release_may(state, to) {
                    prop_assert!(state.is_active());
                    state = to;
                    ends += usize::from(!to.is_active());
                }
            }
            prop_assert!(ends <= 1);
        }
    }
}
