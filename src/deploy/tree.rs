//! The display of nodes: figures and colours of the tree in wire.md, and the messages that recolour
//! it. Pure.

use serde_json::{Value, json};

use super::plan::Step;
use super::said::Message;
use crate::store::NodeState;
use crate::store::nodes::Node;
use crate::store::releases::Release;

/// The figure of a step's node, with the names of the course's diagram.
pub fn figure(step: &str) -> &'static str {
    match step.parse() {
        Ok(Step::Start) => "Ellipse",
        Ok(Step::BeforeDownload | Step::AfterDownload | Step::BeforeDeploy | Step::AfterDeploy) => {
            "Diamond"
        }
        _ => "RoundedRectangle",
    }
}

/// The colours of the tree, by CSS name. The only list; pages use it too.
pub const NODE_COLORS: [(NodeState, &str); NodeState::ALL.len()] = {
    let mut colors = [(NodeState::Waiting, ""); NodeState::ALL.len()];
    let mut at = 0;
    while at < colors.len() {
        let state = NodeState::ALL[at];
        colors[at] = (state, color(state));
        at += 1;
    }
    colors
};

/// The colour of a node in this state, by CSS name.
pub const fn color(state: NodeState) -> &'static str {
    match state {
        NodeState::Waiting => "lightgray",
        NodeState::Running => "gold",
        NodeState::Succeeded => "lightgreen",
        NodeState::Failed => "red",
        NodeState::Cancelled => "orange",
        NodeState::Skipped => "silver",
        NodeState::Interrupted => "orchid",
    }
}

/// The data of a `node` message.
pub fn node_data(node: &Node) -> Value {
    json!({
        "key": node.key,
        "state": node.state,
        "color": color(node.state),
        "link_color": color(node.state),
        "link_text": node.progress,
        "version": node.version,
        "message": Message::read(&node.message).english(),
        "started_at": node.started_at,
        "finished_at": node.finished_at,
    })
}

/// The data of a `release` message.
pub fn release_data(release: &Release) -> Value {
    json!({
        "id": release.id,
        "project_id": release.project_id,
        "kind": release.kind,
        "state": release.state,
        "message": Message::read(&release.message).english(),
        "ref": release.revision,
        "commit": release.commit_id,
        "summary": release.summary,
        "version": release.version,
        "created_at": release.created_at,
        "started_at": release.started_at,
        "finished_at": release.finished_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_state_has_a_colour_of_its_own() {
        let colors: HashSet<_> = NodeState::ALL.iter().map(|state| color(*state)).collect();
        assert_eq!(colors.len(), NodeState::ALL.len());
    }
}
