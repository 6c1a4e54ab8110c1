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
    /// The deployment is there already, with its ports and volumes.
    pub current: Option<NodeId>,
}

/// Where a revision goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// To this node.
    On(NodeId),
    /// Nowhere yet; why, for people.
    Wait(String),
}

/// Chooses a node: the pinned one, else the one that the deployment is on, else the ready node with
/// the most free capacity.
#[must_use]
pub fn place(wish: &Wish, nodes: &[Candidate]) -> Placement {
    if let Some(name) = &wish.pinned {
        return match nodes.iter().find(|node| node.name == *name) {
            Some(node) => ready_or_wait(node, "it is pinned to it"),
            None => Placement::Wait(format!(
                "waiting for node {name}, which has never been seen; it is pinned to it"
            )),
        };
    }
    if let Some(node) = wish
        .current
        .and_then(|id| nodes.iter().find(|node| node.id == id))
    {
        return ready_or_wait(node, "its ports and volumes are there");
    }
    let ready = nodes.iter().filter(|node| node.status == NodeStatus::Ready);
    // Nothing is copied: this is asked for each deployment, over a thousand nodes.
    match ready.min_by(|a, b| rank(a).cmp(&rank(b))) {
        Some(node) => Placement::On(node.id),
        None => Placement::Wait(nobody(nodes)),
    }
}

fn ready_or_wait(node: &Candidate, why_this: &str) -> Placement {
    if node.status == NodeStatus::Ready {
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
    match &node.detail {
        Some(detail) => format!("{} ({}: {detail})", node.name, node.status),
        None => format!("{} ({})", node.name, node.status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(name: &str, status: NodeStatus, running: u64) -> Candidate {
        Candidate {
            id: NodeId::new(),
            name: NodeName::parse(name).unwrap(),
            status,
            detail: (status != NodeStatus::Ready).then(|| "no engine".to_owned()),
            cpu_millis: 2000,
            memory_bytes: 8 << 30,
            cpu_declared_millis: 0,
            memory_declared_bytes: 0,
            running,
        }
    }

    fn check(wish: &Wish, nodes: &[Candidate], expected: Result<&str, &str>) {
        match (place(wish, nodes), expected) {
            (Placement::On(id), Ok(name)) => {
                assert_eq!(
                    nodes
                        .iter()
                        .find(|node| node.id == id)
                        .unwrap()
                        .name
                        .as_str(),
                    name
                );
            }
            (Placement::Wait(why), Err(says)) => assert!(why.contains(says), "{why}"),
            (placement, expected) => panic!("{placement:?}, not {expected:?}"),
        }
    }

    #[test]
    fn the_pinned_node_or_none() {
        let nodes = [
            node("a", NodeStatus::Ready, 9),
            node("b", NodeStatus::Ready, 0),
            node("c", NodeStatus::Lost, 0),
        ];
        let pinned = |name: &str| Wish {
            pinned: Some(NodeName::parse(name).unwrap()),
            current: None,
        };
        check(&pinned("a"), &nodes, Ok("a"));
        check(&pinned("c"), &nodes, Err("c (LOST: no engine)"));
        check(&pinned("d"), &nodes, Err("never been seen"));
    }

    #[test]
    fn a_deployment_stays_where_its_ports_are() {
        let nodes = [
            node("a", NodeStatus::Ready, 9),
            node("b", NodeStatus::Ready, 0),
            node("c", NodeStatus::NotReady, 0),
        ];
        check(
            &Wish {
                pinned: None,
                current: Some(nodes[0].id),
            },
            &nodes,
            Ok("a"),
        );
        check(
            &Wish {
                pinned: None,
                current: Some(nodes[2].id),
            },
            &nodes,
            Err("volumes are there"),
        );
        // Its node was removed from the fleet.
        check(
            &Wish {
                pinned: None,
                current: Some(NodeId::new()),
            },
            &nodes,
            Ok("b"),
        );
    }

    #[test]
    fn the_freest_ready_node() {
        let mut nodes = vec![
            node("a", NodeStatus::Ready, 3),
            node("b", NodeStatus::Ready, 2),
            node("c", NodeStatus::Lost, 0),
        ];
        check(&Wish::default(), &nodes, Ok("b"));
        nodes[1].memory_declared_bytes = 6 << 30;
        check(&Wish::default(), &nodes, Ok("a"));
        nodes[0].cpu_declared_millis = 1900;
        check(&Wish::default(), &nodes, Ok("b"));
    }

    #[test]
    fn without_a_ready_node_it_says_why_it_waits() {
        check(&Wish::default(), &[], Err("none is known"));
        check(
            &Wish::default(),
            &[node("a", NodeStatus::NotReady, 0)],
            Err("a (NOT_READY: no engine)"),
        );
        let many: Vec<_> = (0..7)
            .map(|index| node(&format!("n{index}"), NodeStatus::Lost, 0))
            .collect();
        check(&Wish::default(), &many, Err("and 2 more"));
    }

    proptest! {
        #[test]
        fn only_ready_nodes_are_chosen(standings in prop::collection::vec((0usize..3, 0u64..5, 0u64..4000), 0..8)) {
            let nodes: Vec<Candidate> = standings.iter().enumerate().map(|(index, (status, running, declared))| {
                let mut node = node(&format!("n{index}"), NodeStatus::ALL[*status], *running);
                node.cpu_declared_millis = *declared;
                node
            }).collect();
            match place(&Wish::default(), &nodes) {
                Placement::On(id) => prop_assert!(nodes.iter().any(|node| node.id == id && node.status == NodeStatus::Ready)),
                Placement::Wait(_) => prop_assert!(nodes.iter().all(|node| node.status != NodeStatus::Ready)),
            }
        }
    }
}
