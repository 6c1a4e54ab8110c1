//! Running containers.

use crate::support::{Fixture, ticks};
use futures::StreamExt;
use node::NodeSettings;
use node::docker::{
    ContainerState, EngineError, Health, HealthCommand, LogQuery, PublishedPort, VolumeMount,
    volume_name,
};
use node::log_sink::LogSink;
use node::probe::{ProbeFailure, Reach, probe_http, probe_tcp};
use node::runtime::local::LocalRuntime;
use node::runtime::{LogsFrom, Runtime as _};
use node::state_dir::StateDir;
use shared::name::ServiceName;
use shared::spec::ByteSize;
use shared::status::LogStream;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(2);

async fn answers(address: SocketAddr) {
    let mut last = None;
    for _ in ticks(Duration::from_secs(10)) {
        // An empty folder: 404 is an answer.
        match probe_http(address, "/", LIMIT).await {
            Ok(_) | Err(ProbeFailure::Status { .. }) => return,
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{address} never answered: {last:?}");
}

#[tokio::test]
async fn a_container_runs_stops_and_comes_back_at_its_address() {
    let fixture = Fixture::new().await;
    let order = fixture
        .container_order("web", "echo out; echo err >&2; exec httpd -f -p 8080")
        .await;
    let id = fixture.run(&order).await;
    fixture.engine.container_start(&id).await.unwrap();
    let container = fixture.engine.container(&id).await.unwrap().unwrap();
    assert_eq!(
        (container.state, container.owner),
        (ContainerState::Running, Some(order.owner.clone()))
    );
    assert_eq!(
        (&container.name, container.address),
        (&order.name, order.network.address)
    );
    assert!(container.started_at.is_some());
    let address = SocketAddr::from((container.address.unwrap(), 8080));
    answers(address).await;
    assert_eq!(probe_tcp(address, Reach::Direct, LIMIT).await, Ok(()));

    fixture
        .engine
        .container_stop(&id, Duration::from_secs(1))
        .await
        .unwrap();
    fixture
        .engine
        .container_stop(&id, Duration::from_secs(1))
        .await
        .unwrap();
    let stopped = fixture.engine.container(&id).await.unwrap().unwrap();
    assert_eq!(
        (stopped.state, stopped.address),
        (ContainerState::Exited, order.network.address)
    );

    fixture
        .engine
        .container_restart(&id, Duration::from_secs(1))
        .await
        .unwrap();
    answers(address).await;
    let listed = fixture
        .engine
        .containers(&fixture.node, Some(fixture.deployment))
        .await
        .unwrap();
    assert_eq!(listed, [(id.clone(), order.owner.clone())]);
    assert_eq!(fixture.engine.container_remove(&id).await, Ok(true));
    assert_eq!(fixture.engine.container_remove(&id).await, Ok(false));
    assert_eq!(fixture.engine.container(&id).await, Ok(None));
}

#[tokio::test]
async fn the_same_name_twice_is_a_conflict_and_a_missing_image_is_not_found() {
    let fixture = Fixture::new().await;
    let mut order = fixture.container_order("web", "true").await;
    fixture.engine.container_create(&order).await.unwrap();
    let again = fixture.engine.container_create(&order).await.unwrap_err();
    assert!(matches!(again, EngineError::Conflict { .. }), "{again:?}");
    order.name.push_str("-2");
    order.image = format!("longshore/{}:none", fixture.deployment);
    let missing = fixture.engine.container_create(&order).await.unwrap_err();
    assert!(
        matches!(missing, EngineError::NotFound { .. }),
        "{missing:?}"
    );
}

#[tokio::test]
async fn what_a_container_prints_comes_line_by_line() {
    let fixture = Fixture::new().await;
    let order = fixture.container_order("talk", "echo one; echo two >&2; printf '\\033[31mred\\n'; head -c 100000 /dev/zero | tr '\\0' x; echo; echo last; sleep 300").await;
    let id = fixture.run(&order).await;
    let query = LogQuery {
        tail: 100,
        since: None,
        follow: true,
    };
    let lines: Vec<_> = tokio::time::timeout(
        Duration::from_secs(20),
        fixture
            .engine
            .container_logs(&id, query)
            .map(Result::unwrap)
            .take(5)
            .collect(),
    )
    .await
    .unwrap();
    let texts: Vec<_> = lines
        .iter()
        .filter(|line| line.stream == LogStream::Stdout)
        .map(|line| line.text.as_str())
        .collect();
    assert_eq!((texts[0], texts[1], texts[3]), ("one", "red", "last"));
    assert!(texts[2].ends_with("(cut)") && texts[2].len() <= 8 * 1024);
    assert!(
        lines
            .iter()
            .any(|line| line.stream == LogStream::Stderr && line.text == "two")
    );
    assert_eq!(
        fixture.engine.last_log_lines(&id, 1).await.unwrap(),
        ["last"]
    );
}

#[tokio::test]
async fn a_container_that_keeps_ending_is_restarted_and_says_how_it_ended() {
    let fixture = Fixture::new().await;
    let id = fixture
        .run(&fixture.container_order("loop", "echo dying; exit 7").await)
        .await;
    let container = fixture
        .until(&id, |container| container.restarts >= 2)
        .await;
    assert_eq!(container.exit_code, 7);

    let mut hungry = fixture.container_order("hungry", "tail /dev/zero").await;
    hungry.resources.memory = Some(ByteSize(16 << 20));
    let id = fixture.run(&hungry).await;
    fixture
        .until(&id, |container| {
            container.restarts >= 1 && container.exit_code == 137
        })
        .await;
}

#[tokio::test]
async fn a_container_is_confined() {
    let fixture = Fixture::new().await;
    let id = fixture.run(&fixture.container_order("look", "cat /proc/self/status; ulimit -a; cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; sleep 60").await).await;
    let mut status = String::new();
    for _ in ticks(Duration::from_secs(10)) {
        status = fixture
            .engine
            .last_log_lines(&id, 200)
            .await
            .unwrap()
            .join("\n");
        if status.ends_with("512") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(
        (field("NoNewPrivs:"), field("Seccomp:")),
        ("1".to_owned(), "2".to_owned()),
        "{status}"
    );
    let bounding = u64::from_str_radix(&field("CapBnd:"), 16).unwrap();
    // NET_RAW, MKNOD, AUDIT_WRITE, SETFCAP and SYS_ADMIN are not there; NET_BIND_SERVICE is.
    for (capability, there) in [
        (13, false),
        (27, false),
        (29, false),
        (31, false),
        (21, false),
        (10, true),
    ] {
        assert_eq!(
            bounding >> capability & 1 == 1,
            there,
            "capability {capability}"
        );
    }
    assert!(status.ends_with("512"), "{status}");
}

#[tokio::test]
async fn a_health_command_is_run_by_the_engine() {
    let fixture = Fixture::new().await;
    let mut order = fixture.container_order("app", "touch /ok; sleep 300").await;
    let command = ["sh", "-c", "echo checked; rm /ok"]
        .map(str::to_owned)
        .to_vec();
    order.health = Some(HealthCommand {
        command,
        interval: Duration::from_millis(200),
        timeout: Duration::from_secs(5),
        retries: 1,
        start_period: Duration::ZERO,
    });
    let id = fixture.run(&order).await;
    fixture
        .until(&id, |container| container.health == Some(Health::Healthy))
        .await;
    let sick = fixture
        .until(&id, |container| {
            matches!(container.health, Some(Health::Unhealthy { .. }))
        })
        .await;
    let Some(Health::Unhealthy { output }) = sick.health else {
        unreachable!()
    };
    assert!(output.contains("checked"), "{output}");
}

#[tokio::test]
async fn a_published_port_is_reached_and_a_taken_one_is_named() {
    let fixture = Fixture::new().await;
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut order = fixture
        .container_order("web", "sleep 0.5; exec httpd -f -p 8080")
        .await;
    order.ports = vec![PublishedPort {
        host: port,
        container: 8080,
    }];
    let id = fixture.engine.container_create(&order).await.unwrap();
    let taken = fixture.engine.container_start(&id).await.unwrap_err();
    assert!(
        matches!(taken, EngineError::PortTaken { port: named, .. } if named == Some(port)),
        "{taken:?}"
    );
    drop(listener);
    fixture.engine.container_start(&id).await.unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // The engine's proxy takes connections before anybody listens behind it.
    let early = probe_tcp(address, Reach::Published, LIMIT).await;
    assert!(early.is_err(), "{early:?}");
    answers(address).await;
    assert_eq!(probe_tcp(address, Reach::Published, LIMIT).await, Ok(()));
    assert_eq!(
        fixture.engine.container(&id).await.unwrap().unwrap().ports,
        [(8080, port)]
    );
}

#[tokio::test]
async fn an_image_cannot_say_whose_its_container_is() {
    let fixture = Fixture::new().await;
    let dockerfile = "FROM busybox\nLABEL longshore.deployment=stolen longshore.node=stolen longshore.extra=x\nCMD sleep 300\n";
    let (log, _lines) = node::log_sink::LogSink::collecting();
    let cancel = tokio_util::sync::CancellationToken::new();
    let built = fixture
        .engine
        .build(
            &fixture.build_order(&[("Dockerfile", dockerfile)]),
            &log,
            &cancel,
        )
        .await
        .unwrap();
    let mut order = fixture.container_order("app", "").await;
    (order.image, order.command) = (built.id, None);
    let id = fixture.run(&order).await;
    let container = fixture.engine.container(&id).await.unwrap().unwrap();
    assert_eq!(container.owner, Some(order.owner));
    assert_eq!(
        fixture
            .engine
            .images_of(fixture.deployment)
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn a_volume_keeps_what_was_written() {
    let fixture = Fixture::new().await;
    let volume = volume_name(fixture.deployment, &ServiceName::parse("data").unwrap());
    for (service, script, read_only) in [
        ("one", "echo kept > /data/file", false),
        (
            "two",
            "cat /data/file; echo x > /data/y || echo read-only; sleep 60",
            true,
        ),
    ] {
        let mut order = fixture.container_order(service, script).await;
        order.volumes = vec![VolumeMount {
            volume: volume.clone(),
            path: "/data".to_owned(),
            read_only,
        }];
        let id = fixture.run(&order).await;
        if read_only {
            let mut lines = Vec::new();
            for _ in ticks(Duration::from_secs(10)) {
                lines = fixture.engine.last_log_lines(&id, 10).await.unwrap();
                if lines.iter().any(|line| line == "read-only") {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            for said in ["kept", "read-only"] {
                assert!(lines.iter().any(|line| line == said), "{lines:?}");
            }
        } else {
            fixture
                .until(&id, |container| container.restarts >= 1)
                .await;
            fixture
                .engine
                .container_stop(&id, Duration::ZERO)
                .await
                .unwrap();
        }
    }
}

#[tokio::test]
async fn the_engine_says_what_it_is() {
    let info = crate::support::engine().await.info().await.unwrap();
    assert!(
        !info.version.is_empty() && !info.api_version.is_empty(),
        "{info:?}"
    );
    assert!(info.cpus > 0 && info.memory_bytes > 1 << 20, "{info:?}");
    assert!(info.root_dir.is_absolute() && info.buildkit, "{info:?}");
}

#[tokio::test]
async fn a_log_is_read_on_from_its_last_line_over_a_stop() {
    let fixture = Fixture::new().await;
    let script = "echo x >> /n; echo \"start $(wc -l < /n)\"; exec sleep 300";
    let id = fixture
        .run(&fixture.container_order("again", script).await)
        .await;
    let state_dir = StateDir::open(&fixture.dir.path().join("state")).unwrap();
    let settings = NodeSettings::new(fixture.node.clone(), state_dir.path().to_owned());
    let runtime = LocalRuntime::new(&settings, &state_dir).unwrap();
    let printed = async |line: &str| {
        for _ in ticks(Duration::from_secs(20)) {
            if fixture.engine.last_log_lines(&id, 1).await.unwrap() == [line] {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("it never printed {line}");
    };
    printed("start 1").await;
    let (mut from, mut from_now_on) = (LogsFrom::Tail(10), LogsFrom::Tail(0));
    for (number, told) in [(1, 0), (2, 1), (3, 1)] {
        // Nobody reads when it prints.
        let line = format!("start {number}");
        if number > 1 {
            fixture.engine.container_start(&id).await.unwrap();
        }
        printed(&line).await;
        let cancel = CancellationToken::new();
        let (log, mut lines) = LogSink::collecting();
        let (other_log, mut other_lines) = LogSink::collecting();
        let stop = async {
            fixture
                .engine
                .container_stop(&id, Duration::from_secs(1))
                .await
                .unwrap();
        };
        let (one, other, ()) = tokio::join!(
            runtime.follow(&id, &mut from, &log, &cancel),
            runtime.follow(&id, &mut from_now_on, &other_log, &cancel),
            stop
        );
        one.unwrap();
        other.unwrap();
        assert_eq!(lines.texts(), std::slice::from_ref(&line));
        assert_eq!(other_lines.texts(), vec![line; told]);
    }
    // A try that fails leaves the place alone.
    let mut nowhere = LogsFrom::Tail(10);
    let (log, cancel) = (LogSink::nowhere(), CancellationToken::new());
    let failed = runtime.follow("no-such", &mut nowhere, &log, &cancel).await;
    assert!(failed.is_err() && nowhere == LogsFrom::Tail(10));
}
