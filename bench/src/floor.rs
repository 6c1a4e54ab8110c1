//! The floor: the same steps by hand, with nothing around them. Clone with git, build with
//! BuildKit through the Engine's API and a warm cache, create, start, first answer.

use crate::table::Samples;
use anyhow::{Context, Result};
use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig, PortBinding};
use bollard::query_parameters::{
    BuildImageOptionsBuilder, BuilderVersion, CreateContainerOptions, ListContainersOptionsBuilder,
    ListImagesOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder,
    StartContainerOptions,
};
use futures::StreamExt;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

/// Does one deployment by hand.
pub(crate) struct Floor {
    docker: Docker,
    tag: String,
    container: Option<String>,
    /// How long each step took, by its name, in their order.
    pub(crate) steps: [(&'static str, Samples); 5],
}

/// What the engine has of a deployment.
#[derive(Debug, PartialEq)]
struct Left {
    containers: usize,
    images: BTreeSet<String>,
}

impl Floor {
    pub(crate) async fn new() -> Result<Self> {
        let docker = Docker::connect_with_defaults()?.negotiate_version().await?;
        Ok(Self {
            docker,
            tag: format!("longshore-bench-floor:{}", uuid::Uuid::new_v4().simple()),
            container: None,
            steps: ["fetch", "build", "create", "start", "answer"]
                .map(|name| (name, Samples::default())),
        })
    }

    /// From nothing fetched to the first answer that says `expected`.
    pub(crate) async fn deploy(&mut self, url: &str, expected: &str) -> Result<Duration> {
        self.remove_container().await?;
        let port = testkit::free_port();
        let started = Instant::now();
        let folder = tempfile::tempdir()?;
        clone(url, folder.path()).await?;
        let fetched = started.elapsed();
        self.build(folder.path()).await?;
        let built = started.elapsed();
        let id = self.create(port).await?;
        let created = started.elapsed();
        self.docker
            .start_container(&id, None::<StartContainerOptions>)
            .await?;
        let running = started.elapsed();
        self.container = Some(id);
        until_answer(&format!("http://127.0.0.1:{port}/"), expected).await?;
        let ends = [fetched, built, created, running, started.elapsed()];
        let mut begin = Duration::ZERO;
        for ((_, samples), end) in self.steps.iter_mut().zip(ends) {
            samples.push(end - begin);
            begin = end;
        }
        Ok(begin)
    }

    /// Forgets what was measured.
    pub(crate) fn forget(&mut self) {
        for (_, samples) in &mut self.steps {
            *samples = Samples::default();
        }
    }

    async fn build(&self, tree: &Path) -> Result<()> {
        let mut archive = tar::Builder::new(Vec::new());
        archive.follow_symlinks(false);
        for entry in std::fs::read_dir(tree)? {
            let path = entry?.path();
            let name = path.file_name().context("a name")?.to_owned();
            if name != ".git" {
                archive.append_path_with_name(&path, name)?;
            }
        }
        let options = BuildImageOptionsBuilder::default()
            .dockerfile("Dockerfile")
            .t(&self.tag)
            .rm(true)
            .version(BuilderVersion::BuilderBuildKit)
            .session(&uuid::Uuid::new_v4().to_string())
            .build();
        let body = bollard::body_full(archive.into_inner()?.into());
        let mut events = self.docker.build_image(options, None, Some(body));
        while let Some(event) = events.next().await {
            event?;
        }
        Ok(())
    }

    async fn create(&self, port: u16) -> Result<String> {
        let binding = PortBinding {
            host_ip: Some("127.0.0.1".to_owned()),
            host_port: Some(port.to_string()),
        };
        let host_config = HostConfig {
            port_bindings: Some(HashMap::from([(
                "8000/tcp".to_owned(),
                Some(vec![binding]),
            )])),
            ..HostConfig::default()
        };
        let body = ContainerCreateBody {
            image: Some(self.tag.clone()),
            exposed_ports: Some(vec!["8000/tcp".to_owned()]),
            host_config: Some(host_config),
            ..ContainerCreateBody::default()
        };
        Ok(self
            .docker
            .create_container(None::<CreateContainerOptions>, body)
            .await?
            .id)
    }

    async fn remove_container(&mut self) -> Result<()> {
        if let Some(id) = self.container.take() {
            let options = RemoveContainerOptionsBuilder::default()
                .force(true)
                .v(true)
                .build();
            self.docker.remove_container(&id, Some(options)).await?;
        }
        Ok(())
    }

    /// Waits until the engine has nothing left to do for the last deployment: its predecessor's
    /// container and image are gone. Whoever is measured next would wait for that too.
    pub(crate) async fn until_retired(&self, deployment: &str) -> Result<()> {
        let patience = Instant::now() + Duration::from_secs(60);
        let mut before = None;
        loop {
            let now = self.what_is_of(deployment).await?;
            if now.containers == 1 && before.as_ref() == Some(&now) {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < patience, "the old revision stays: {now:?}");
            before = Some(now);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn what_is_of(&self, deployment: &str) -> Result<Left> {
        let labels = vec![format!("longshore.deployment={deployment}")];
        let containers = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&HashMap::from([("label", labels)]))
            .build();
        let names = vec![format!("longshore/{deployment}")];
        let images = ListImagesOptionsBuilder::default()
            .filters(&HashMap::from([("reference", names)]))
            .build();
        let images = self.docker.list_images(Some(images)).await?;
        Ok(Left {
            containers: self.docker.list_containers(Some(containers)).await?.len(),
            images: images.into_iter().map(|image| image.id).collect(),
        })
    }

    /// Removes what the floor made.
    pub(crate) async fn clean_up(mut self) -> Result<()> {
        self.remove_container().await?;
        let options = RemoveImageOptionsBuilder::default().force(true).build();
        self.docker
            .remove_image(&self.tag, Some(options), None)
            .await?;
        Ok(())
    }
}

/// With the git program: libgit2 waits for acknowledgements that the kernel delays, which nobody who
/// does it by hand would.
async fn clone(url: &str, into: &Path) -> Result<()> {
    let status = tokio::process::Command::new("git")
        .args(["clone", "--quiet", "--depth", "1", "--", url])
        .arg(into)
        .env("GIT_TERMINAL_PROMPT", "0")
        .status()
        .await?;
    anyhow::ensure!(status.success(), "git clone of {url}: {status}");
    Ok(())
}

/// The pause between two questions: often enough to see an answer soon, seldom enough that asking
/// takes nothing from what is measured.
const ASK_EVERY: Duration = Duration::from_millis(4);

/// Asks until the answer is there.
pub(crate) async fn until_answer(url: &str, expected: &str) -> Result<()> {
    let client = testkit::client(Duration::from_secs(2));
    let patience = Instant::now() + Duration::from_secs(60);
    while Instant::now() < patience {
        if testkit::ask(&client, url)
            .await
            .is_some_and(|body| body.contains(expected))
        {
            return Ok(());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
    anyhow::bail!("{url} did not answer {expected:?}")
}
