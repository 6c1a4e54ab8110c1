//! Which node a revision goes to: a pure function over what is known of nodes.

use shared::id::NodeId;
use shared::name::NodeName;
use shared::status::NodeStatus;

/// What is known of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Whether it takes work.
    pub status: NodeStatus,
    /// Why not.
    pub detail: Option<String>,
    /// It gets nothing new.
    pub cordoned: bool,
    /// What can be moved is being moved away from it.
    pub draining: bool,
    /// Its processors, in thousandths of a core.
    pub cpu_millis: u64,
    /// Its memory in bytes.
    pub memory_bytes: u64,
    /// Processors that its deployments declared.
    pub cpu_declared_millis: u64,
    /// Memory that its deployments declared.
    pub memory_declared_bytes: u64,
    /// Containers that run there, and revisions on their way there.
    pub running: u64,
}

/// What a revision asks of its node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// The user said: this one.
    pub pinned: Option<NodeName>,
    /// The deployment is there already, with its ports.
    pub current: Option<NodeId>,
    /// Its volumes are there too: it cannot leave.
    pub sticky: bool,
}

/// Where a revision goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// To this node.
    On(NodeId),
    /// Nowhere yet; why, for people.
    Wait(String),
}

impl Candidate {
    /// Whether it gets something new.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.status == NodeStatus::Ready && !self.cordoned && !self.draining
    }

    /// Whether it is worth waiting for: it is in trouble that passes, and nobody wants it empty.
    fn may_open(&self) -> bool {
        self.status == NodeStatus::NotReady && !self.cordoned && !self.draining
    }
}

/// Chooses a node: the pinned one, else the one that the deployment is on, else the open node with
/// the most free capacity.
///
/// A deployment leaves its node when that is lost, cordoned, draining or removed, unless it has volumes
/// there.
#[must_use]
pub fn place(wish: &Wish, nodes: &[Candidate]) -> Placement {
    if let Some(name) = &wish.pinned {
        return match nodes.iter().find(|node| node.name == *name) {
            Some(node) => open_or_wait(node, "it is pinned to it"),
            None => Placement::Wait(format!(
                "waiting for node {name}, which is not in the fleet; it is pinned to it"
            )),
        };
    }
    if let Some(current) = wish.current {
        match nodes.iter().find(|node| node.id == current) {
            Some(node) if wish.sticky => return open_or_wait(node, "its volumes are there"),
            Some(node) if node.is_open() || node.may_open() => {
                return open_or_wait(node, "its ports are there");
            }
            None if wish.sticky => {
                let why = "waiting for its node, which was removed; its volumes are there";
                return Placement::Wait(why.to_owned());
            }
            Some(_) | None => {}
        }
    }
    let open = nodes.iter().filter(|node| node.is_open());
    // Nothing is copied: this is asked for each deployment, over a thousand nodes.
    match open.min_by(|a, b| rank(a).cmp(&rank(b))) {
        Some(node) => Placement::On(node.id),
        None => Placement::Wait(nobody(nodes)),
    }
}

fn open_or_wait(node: &Candidate, why_this: &str) -> Placement {
    if node.is_open() {
        return Placement::On(node.id);
    }
    Placement::Wait(format!("waiting for node {}; {why_this}", standing(node)))
}

fn rank(node: &Candidate) -> (u64, u64, &NodeName) {
    (pressure(node), node.running, &node.name)
}

/// The larger of the declared shares of memory and processors, in steps of five percent: smaller
/// differences should not outweigh how much runs there.
fn pressure(node: &Candidate) -> u64 {
    let share = |declared: u64, has: u64| match (declared, has) {
        (0, _) | (_, 0) => 0,
        _ => u128::from(declared) * 20 / u128::from(has),
    };
    let memory = share(node.memory_declared_bytes, node.memory_bytes);
    let processors = share(node.cpu_declared_millis, node.cpu_millis);
    u64::try_from(memory.max(processors)).unwrap_or(u64::MAX)
}

fn nobody(nodes: &[Candidate]) -> String {
    if nodes.is_empty() {
        return "waiting for a node: none is known yet".to_owned();
    }
    let named: Vec<String> = nodes.iter().take(5).map(standing).collect();
    let more = nodes.len().saturating_sub(5);
    let more = if more > 0 {
        format!(", and {more} more")
    } else {
        String::new()
    };
    format!("waiting for a ready node: {}{more}", named.join(", "))
}

fn standing(node: &Candidate) -> String {
    let intent = if node.draining {
        ", draining"
    } else if node.cordoned {
        ", cordoned"
    } else {
        ""
    };
    match &node.detail {
        Some(detail) => format!("{} ({}{intent}: {detail})", node.name, node.status),
        None => format!("{} ({}{intent})", node.name, node.status),
    }
}

#[cfg(test)]
mod tests;
