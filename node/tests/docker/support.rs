//! A deployment to try things on.

use node::docker::{
    BuildOrder, ContainerOrder, Engine, Network, NetworkOrder, NetworkPlace, Owner, container_name,
};
use shared::id::DeploymentId;
use shared::name::{DeploymentName, NodeName, ServiceName};
use shared::spec::Resources;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// The image that containers of tests are made from.
pub(crate) const IMAGE: &str = "busybox";

/// A deployment on a node of its own; everything of it is removed at the end.
pub(crate) struct Fixture {
    pub(crate) engine: Engine,
    pub(crate) deployment: DeploymentId,
    pub(crate) node: NodeName,
    pub(crate) dir: tempfile::TempDir,
}

/// The engine; a test without one fails.
pub(crate) async fn engine() -> Engine {
    let engine = Engine::new(None).unwrap();
    if let Err(error) = engine.ping().await {
        panic!("these tests need a Docker Engine (`scripts/services.sh` starts one): {error}");
    }
    assert!(
        engine.image(IMAGE).await.unwrap().is_some(),
        "these tests need the image {IMAGE} (`scripts/base-images.sh` makes it)"
    );
    engine
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let deployment = DeploymentId::new();
        let tail = &deployment.0.simple().to_string()[20..];
        Self {
            engine: engine().await,
            deployment,
            node: NodeName::parse(&format!("test-{tail}")).unwrap(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn owner(&self, service: &str) -> Owner {
        Owner {
            deployment: self.deployment,
            service: ServiceName::parse(service).unwrap(),
            revision: 1,
            epoch: 1,
            node: self.node.clone(),
            store: None,
        }
    }

    pub(crate) fn network_order(&self) -> NetworkOrder {
        NetworkOrder {
            deployment: self.deployment,
            node: self.node.clone(),
            pool: "10.233.0.0/16".parse().unwrap(),
        }
    }

    pub(crate) async fn network(&self) -> Network {
        self.engine
            .network_ensure(&self.network_order())
            .await
            .unwrap()
    }

    /// A build context of these files, and the order to build it.
    pub(crate) fn build_order(&self, files: &[(&str, &str)]) -> BuildOrder {
        let tar = self.dir.path().join("context.tar");
        write_tar(&tar, files);
        BuildOrder {
            deployment: self.deployment,
            node: self.node.clone(),
            context_tar: tar,
            dockerfile: "Dockerfile".to_owned(),
            tag: node::docker::image_tag(self.deployment, "0123456789abcdef"),
            time_limit: Duration::from_secs(60),
            memory_limit: None,
        }
    }

    /// A container of the test image that runs a shell script.
    pub(crate) async fn container_order(&self, service: &str, script: &str) -> ContainerOrder {
        let network = self.network().await;
        let owner = self.owner(service);
        ContainerOrder {
            name: container_name(&DeploymentName::parse("test").unwrap(), &owner),
            network: NetworkPlace {
                network: network.name.clone(),
                alias: owner.service.clone(),
                address: Some(self.engine.free_address(&network).await.unwrap()),
            },
            owner,
            image: IMAGE.to_owned(),
            command: Some(["sh", "-c", script].map(str::to_owned).to_vec()),
            env: BTreeMap::new(),
            labels: BTreeMap::new(),
            volumes: Vec::new(),
            resources: Resources::default(),
            health: None,
            ports: Vec::new(),
            init: false,
            stop_grace: Duration::from_secs(1),
        }
    }

    pub(crate) async fn run(&self, order: &ContainerOrder) -> String {
        let id = self.engine.container_create(order).await.unwrap();
        self.engine.container_start(&id).await.unwrap();
        id
    }

    /// Looks at a container until it is as wanted.
    pub(crate) async fn until(
        &self,
        id: &str,
        wanted: impl Fn(&node::docker::Container) -> bool,
    ) -> node::docker::Container {
        let mut last = None;
        for _ in ticks(Duration::from_secs(20)) {
            let container = self.engine.container(id).await.unwrap().unwrap();
            if wanted(&container) {
                return container;
            }
            last = Some(container);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the container never got there: {last:?}");
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let (engine, deployment, node) = (self.engine.clone(), self.deployment, self.node.clone());
        // A runtime of its own: the test's may be the one that is going down.
        let purging = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(engine.purge_deployment(deployment, &node, true))
        });
        match purging.join() {
            Ok(Ok(_)) => {}
            other => eprintln!(
                "something of deployment {} may be left: {other:?}",
                self.deployment
            ),
        }
    }
}

/// Something to count until a deadline is over.
pub(crate) fn ticks(limit: Duration) -> impl Iterator<Item = ()> {
    let end = Instant::now() + limit;
    std::iter::from_fn(move || (Instant::now() < end).then_some(()))
}

/// A tar as the node writes its build contexts.
pub(crate) fn write_tar(path: &Path, files: &[(&str, &str)]) {
    let mut tar = tar::Builder::new(std::fs::File::create(path).unwrap());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    tar.finish().unwrap();
}

/// Whether a process of this host has `word` on its command line.
pub(crate) fn process_with(word: &str) -> bool {
    let entries = std::fs::read_dir("/proc").unwrap();
    entries.flatten().any(|entry| {
        let own = entry.file_name().to_string_lossy() == std::process::id().to_string();
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        !own && String::from_utf8_lossy(&line).contains(word)
    })
}
