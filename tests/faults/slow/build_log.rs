//! A build that says more than anybody wants to keep.

use crate::fleet::Fleet;
use crate::subscriber::{MEMORY_LIMIT, peak_memory};
use crate::table::Fault;
use serde_json::json;
use testkit::fixture::with_dockerfile;

/// The builder cuts a step at 1 MiB and at 100 KiB a second, so that 20 MB take twenty steps side by
/// side, each of which says 1 MB in lines of 100 bytes.
fn talkative(stamp: &str) -> String {
    let mut dockerfile = String::new();
    for stage in 0..20 {
        let say = format!(
            "yes $(head -c 99 /dev/zero | tr '\\0' x) | head -c 9000 > /lines; echo {stamp} {stage}; \
             for tick in $(seq 120); do cat /lines; sleep 0.1; done; echo {stage} > /said"
        );
        dockerfile.push_str(&format!("FROM busybox AS s{stage}\nRUN {say}\n"));
    }
    dockerfile.push_str(testkit::fixture::DOCKERFILE);
    let copies: String = (0..20)
        .map(|stage| format!("COPY --from=s{stage} /said /said-{stage}\n"))
        .collect();
    dockerfile.replace("EXPOSE", &format!("{copies}EXPOSE"))
}

#[tokio::test]
async fn twenty_megabytes_of_build_log() {
    let mut line = Fault::new("20 MB of build log");
    let mut fleet = Fleet::pair().await;
    let stamp = uuid::Uuid::new_v4().to_string();
    let repository = fleet
        .git
        .repository("app", &with_dockerfile(&talkative(&stamp)));
    let deployment = fleet.api.create_git("app", &repository.url).await;
    let id = deployment["id"].as_str().expect("an id").to_owned();
    let building = fleet.api.until_latest(&id, 1, "BUILDING").await;
    let revision = building["latestRevision"]["id"].as_str().expect("an id");
    let query = "subscription($id: ID!) { buildLog(revisionId: $id) { seq text } }";
    let mut lines = fleet.api.subscribe(query, json!({ "id": revision })).await;
    let (mut last, mut bytes, mut count) = (0, 0, 0_u64);
    while let Some(event) = lines.recv().await {
        let said = &event["data"]["buildLog"];
        let seq = said["seq"].as_i64().expect("a number");
        assert!(seq > last, "in order: {seq} after {last}");
        last = seq;
        bytes += said["text"].as_str().expect("text").len();
        count += 1;
    }
    line.is_over();
    println!("heard {count} lines with {bytes} bytes, the last one numbered {last}");
    assert!(
        bytes > 1 << 20,
        "a good part of it: {bytes} bytes in {count} lines"
    );
    fleet.api.until_latest(&id, 1, "RUNNING").await;
    for name in ["orchestrator", "node"] {
        let pid = fleet.role(name).as_ref().expect("it runs").pid();
        let peak = peak_memory(pid);
        println!("{name} held at most {peak} KiB");
        assert!(peak < MEMORY_LIMIT, "{name} held {peak} KiB");
    }
    fleet.settle().await;
    line.converged();
    fleet.clear().await;
}
