use super::*;
use proptest::prelude::*;

fn node(name: &str, status: NodeStatus, running: u64) -> Candidate {
    Candidate {
        id: NodeId::new(),
        name: NodeName::parse(name).unwrap(),
        status,
        detail: (status != NodeStatus::Ready).then(|| "no engine".to_owned()),
        cordoned: false,
        draining: false,
        cpu_millis: 2000,
        memory_bytes: 8 << 30,
        cpu_declared_millis: 0,
        memory_declared_bytes: 0,
        running,
    }
}

fn cordoned(name: &str, running: u64) -> Candidate {
    Candidate {
        cordoned: true,
        ..node(name, NodeStatus::Ready, running)
    }
}

fn draining(name: &str, running: u64) -> Candidate {
    Candidate {
        draining: true,
        ..cordoned(name, running)
    }
}

fn pinned(name: &str) -> Wish {
    Wish {
        pinned: Some(NodeName::parse(name).unwrap()),
        ..Wish::default()
    }
}

fn on(node: &Candidate, sticky: bool) -> Wish {
    Wish {
        current: Some(node.id),
        sticky,
        ..Wish::default()
    }
}

#[track_caller]
fn check(wish: &Wish, nodes: &[Candidate], expected: Result<&str, &str>) {
    match (place(wish, nodes), expected) {
        (Placement::On(id), Ok(name)) => {
            let chosen = nodes.iter().find(|node| node.id == id).unwrap();
            assert_eq!(chosen.name.as_str(), name);
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
        cordoned("d", 0),
        draining("e", 0),
    ];
    check(&pinned("a"), &nodes, Ok("a"));
    check(&pinned("c"), &nodes, Err("c (LOST: no engine)"));
    check(
        &pinned("d"),
        &nodes,
        Err("d (READY, cordoned); it is pinned"),
    );
    check(&pinned("e"), &nodes, Err("e (READY, draining)"));
    check(&pinned("f"), &nodes, Err("not in the fleet"));
}

#[test]
fn a_deployment_stays_where_its_ports_are_while_that_makes_sense() {
    let nodes = [
        node("a", NodeStatus::Ready, 9),
        node("b", NodeStatus::Ready, 0),
        node("c", NodeStatus::NotReady, 0),
        node("d", NodeStatus::Lost, 0),
        cordoned("e", 0),
        draining("f", 0),
    ];
    let removed = node("g", NodeStatus::Ready, 0);
    let not_ready_cordoned = Candidate {
        cordoned: true,
        ..nodes[2].clone()
    };
    // Where it is, where it goes, and where with volumes.
    type Goes = Result<&'static str, &'static str>;
    let table: [(&Candidate, Goes, Goes); 6] = [
        (&nodes[0], Ok("a"), Ok("a")),
        (
            &nodes[2],
            Err("c (NOT_READY: no engine); its ports are there"),
            Err("volumes are there"),
        ),
        (
            &nodes[3],
            Ok("b"),
            Err("d (LOST: no engine); its volumes are there"),
        ),
        (&nodes[4], Ok("b"), Err("e (READY, cordoned); its volumes")),
        (&nodes[5], Ok("b"), Err("f (READY, draining); its volumes")),
        (
            &removed,
            Ok("b"),
            Err("which was removed; its volumes are there"),
        ),
    ];
    for (current, movable, sticky) in table {
        check(&on(current, false), &nodes, movable);
        check(&on(current, true), &nodes, sticky);
    }
    let mut others = nodes.to_vec();
    others[2] = not_ready_cordoned;
    check(&on(&others[2], false), &others, Ok("b"));
}

#[test]
fn the_freest_open_node() {
    let mut nodes = vec![
        node("a", NodeStatus::Ready, 3),
        node("b", NodeStatus::Ready, 2),
        node("c", NodeStatus::Lost, 0),
        cordoned("d", 0),
    ];
    check(&Wish::default(), &nodes, Ok("b"));
    nodes[1].memory_declared_bytes = 6 << 30;
    check(&Wish::default(), &nodes, Ok("a"));
    nodes[0].cpu_declared_millis = 1900;
    check(&Wish::default(), &nodes, Ok("b"));
}

#[test]
fn without_an_open_node_it_says_why_it_waits() {
    check(&Wish::default(), &[], Err("none is known"));
    check(
        &Wish::default(),
        &[node("a", NodeStatus::NotReady, 0), cordoned("b", 0)],
        Err("a (NOT_READY: no engine), b (READY, cordoned)"),
    );
    let many: Vec<_> = (0..7)
        .map(|index| node(&format!("n{index}"), NodeStatus::Lost, 0))
        .collect();
    check(&Wish::default(), &many, Err("and 2 more"));
}

fn any_node() -> impl Strategy<Value = Candidate> {
    let standings = (0usize..3, any::<bool>(), any::<bool>(), 0u64..5, 0u64..4000);
    standings.prop_map(|(status, is_cordoned, is_draining, running, declared)| {
        let mut node = node("n", NodeStatus::ALL[status], running);
        node.cordoned = is_cordoned || is_draining;
        node.draining = is_draining;
        node.cpu_declared_millis = declared;
        node
    })
}

fn any_fleet() -> impl Strategy<Value = Vec<Candidate>> {
    prop::collection::vec(any_node(), 0..8).prop_map(|mut nodes| {
        for (index, node) in nodes.iter_mut().enumerate() {
            node.name = NodeName::parse(&format!("n{index}")).unwrap();
        }
        nodes
    })
}

proptest! {
    #[test]
    fn only_open_nodes_are_chosen(nodes in any_fleet()) {
        match place(&Wish::default(), &nodes) {
            Placement::On(id) => prop_assert!(nodes.iter().any(|node| node.id == id && node.is_open())),
            Placement::Wait(_) => prop_assert!(!nodes.iter().any(Candidate::is_open)),
        }
    }

    #[test]
    fn what_has_volumes_or_is_pinned_goes_to_its_node_or_nowhere(nodes in any_fleet(), which in any::<prop::sample::Index>(), is_pinned in any::<bool>()) {
        prop_assume!(!nodes.is_empty());
        let home = &nodes[which.index(nodes.len())];
        let wish = if is_pinned { pinned(home.name.as_str()) } else { on(home, true) };
        match place(&wish, &nodes) {
            Placement::On(id) => prop_assert!(id == home.id && home.is_open()),
            Placement::Wait(_) => prop_assert!(!home.is_open()),
        }
    }

    #[test]
    fn what_can_move_waits_for_its_node_only_while_that_may_open(nodes in any_fleet(), which in any::<prop::sample::Index>()) {
        prop_assume!(!nodes.is_empty());
        let home = &nodes[which.index(nodes.len())];
        match place(&on(home, false), &nodes) {
            Placement::On(id) if id == home.id => prop_assert!(home.is_open()),
            Placement::On(_) => prop_assert!(!home.is_open() && !home.may_open()),
            Placement::Wait(_) => prop_assert!(home.may_open() || !nodes.iter().any(Candidate::is_open)),
        }
    }
}
