//! A fleet of one test's own: orchestrators and nodes as processes that can be ended and started again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use testkit::api::Api;
use testkit::git_server::{GitServer, Repository};
use testkit::oracle::{Hand, World};
use testkit::process::{Role, kill_children_of};
use testkit::services::{Broker, Database};
use testkit::{eventually, steady_port};

/// The binary under test.
pub(crate) const LONGSHORE: &str = env!("CARGO_BIN_EXE_longshore");

/// How long everything may take to agree after a fault, on a busy machine of two cores.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a process is started, always the same way.
struct Member {
    program: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    role: Option<Role>,
}

/// A node that runs as one would elsewhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    /// Arguments of `nsenter` that lead to it.
    pub(crate) enter: Option<String>,
    /// Its broker's URL; the fleet's own when absent.
    pub(crate) broker: Option<String>,
    /// Its engine; the usual one when absent.
    pub(crate) engine: Option<String>,
    /// How its ports are reached.
    pub(crate) advertise: Option<String>,
    /// Its state directory; one in the fleet's own directory when absent.
    pub(crate) state_dir: Option<PathBuf>,
    /// More variables of its environment.
    pub(crate) environment: Vec<(String, String)>,
    /// More flags.
    pub(crate) flags: Vec<String>,
}

/// Orchestrators and nodes on a database and a broker.
pub(crate) struct Fleet {
    pub(crate) api: Api,
    pub(crate) git: GitServer,
    pub(crate) database: Database,
    pub(crate) broker: Broker,
    pub(crate) directory: tempfile::TempDir,
    /// How many dead letters the fault leaves.
    pub(crate) dead_letters: u64,
    members: BTreeMap<String, Member>,
    hands: Vec<Hand>,
    // Two fleets on one engine must not know each other's containers.
    prefix: String,
}

impl Fleet {
    /// On a database and a virtual host of its own, with nothing running yet.
    pub(crate) async fn new() -> Self {
        Self::on(Database::create(), Broker::create().await).await
    }

    pub(crate) async fn on(database: Database, broker: Broker) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        // The table lists what dies of its own accord, so the name says whose it is.
        let name = directory
            .path()
            .file_name()
            .expect("a name")
            .to_string_lossy();
        let prefix = name.trim_start_matches(".tmp").to_lowercase();
        Self {
            api: Api::new("http://127.0.0.1:1"),
            git: GitServer::start().await,
            database,
            broker,
            directory,
            dead_letters: 0,
            members: BTreeMap::new(),
            hands: Vec::new(),
            prefix: format!("f{prefix}"),
        }
    }

    /// One orchestrator and one node, ready.
    pub(crate) async fn pair() -> Self {
        let mut fleet = Self::new().await;
        fleet.orchestrator("orchestrator", "").await;
        fleet.node("node", "").await;
        fleet
    }

    /// The name of a node as the fleet knows it.
    pub(crate) fn node_name(&self, short: &str) -> String {
        format!("{}-{short}", self.prefix)
    }

    /// Starts an orchestrator, with these faults, and waits until it answers; from now on requests
    /// go to it.
    pub(crate) async fn orchestrator(&mut self, name: &str, faults: &str) {
        let listen = format!("127.0.0.1:{}", steady_port());
        self.api = Api::new(&format!("http://{listen}"));
        let arguments = [
            "orchestrator",
            "--database-url",
            &self.database.url,
            "--amqp-url",
            &self.broker.url,
            "--listen",
            &listen,
            "--allow-hosts",
            "127.0.0.1",
        ];
        let member = Member {
            program: LONGSHORE.to_owned(),
            arguments: arguments.map(str::to_owned).to_vec(),
            environment: Vec::new(),
            role: None,
        };
        self.members.insert(name.to_owned(), member);
        self.start(name, faults);
        self.api.until_ready().await;
    }

    /// Starts a node, with these faults, and waits until it is ready.
    pub(crate) async fn node(&mut self, name: &str, faults: &str) {
        self.node_at(name, faults, Place::default()).await;
        self.until_ready(name).await;
    }

    /// Starts a node somewhere else.
    pub(crate) async fn node_at(&mut self, name: &str, faults: &str, place: Place) {
        let state_dir = place
            .state_dir
            .unwrap_or_else(|| self.directory.path().join(name));
        let advertise = place.advertise.unwrap_or_else(|| "127.0.0.1".to_owned());
        let full = self.node_name(name);
        let broker = place.broker.unwrap_or_else(|| self.broker.url.clone());
        let mut arguments: Vec<String> = Vec::new();
        let program = match &place.enter {
            Some(enter) => {
                arguments.extend([enter.clone(), LONGSHORE.to_owned()]);
                "nsenter".to_owned()
            }
            None => LONGSHORE.to_owned(),
        };
        arguments.extend(["node", "--name", &full, "--amqp-url", &broker].map(str::to_owned));
        let state = state_dir.to_str().expect("UTF-8");
        arguments.extend(["--state-dir", state, "--advertise", &advertise].map(str::to_owned));
        arguments.extend(["--allow-hosts", "127.0.0.1,10.77.0.0/16"].map(str::to_owned));
        // Nothing here has a connection worth waiting for, nor a reason to end slowly.
        arguments.extend(["--drain", "1s", "--stop-grace", "2s"].map(str::to_owned));
        if let Some(engine) = &place.engine {
            arguments.extend(["--docker-host".to_owned(), engine.clone()]);
        }
        arguments.extend(place.flags);
        let member = Member {
            program,
            arguments,
            environment: place.environment,
            role: None,
        };
        self.members.insert(name.to_owned(), member);
        self.hands.push(Hand {
            name: full,
            state_dir,
            engine: place.engine,
            advertise: Some(advertise),
        });
        self.start(name, faults);
    }

    pub(crate) async fn until_ready(&self, node: &str) {
        self.api.until_node(&self.node_name(node), "READY").await;
    }

    /// Starts a process again, with these faults.
    pub(crate) fn start(&mut self, name: &str, faults: &str) {
        let log = self.log_of(name);
        let member = self.members.get_mut(name).expect("a member");
        let mut environment: Vec<(&str, &str)> = member
            .environment
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        if !faults.is_empty() {
            environment.push(("FAILPOINTS", faults));
        }
        let role = Role::start_in(&member.program, &log, &member.arguments, &environment);
        member.role = Some(role);
    }

    /// kill -9.
    pub(crate) async fn kill(&mut self, name: &str) {
        let role = self.role(name).take().expect("it runs");
        role.kill().await;
    }

    /// Waits until a process has ended at its fault, and makes sure that it was that.
    pub(crate) async fn dies(&mut self, name: &str) {
        use std::os::unix::process::ExitStatusExt as _;
        let mut role = self.role(name).take().expect("it runs");
        let status = role.end().await;
        assert_eq!(
            status.signal(),
            Some(6),
            "{name} ends at its fault: {status}"
        );
    }

    /// The running process.
    pub(crate) fn role(&mut self, name: &str) -> &mut Option<Role> {
        &mut self.members.get_mut(name).expect("a member").role
    }

    fn log_of(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.log"))
    }

    /// Asks for a deployment, whatever becomes of the answer.
    pub(crate) async fn request(&self, name: &str, repository: &Repository, poll: u32) {
        let query =
            "mutation($input: CreateDeploymentInput!) { createDeployment(input: $input) { id } }";
        let git = serde_json::json!({ "url": repository.url, "pollSeconds": poll });
        let input = serde_json::json!({ "input": { "name": name, "git": git } });
        // A server that ends in the middle gives none.
        if let Ok(answer) = self.api.try_ask(query, input).await {
            assert!(answer.errors.is_empty(), "{answer:?}");
        }
    }

    /// Asks for a verb on a deployment, whatever becomes of the answer.
    pub(crate) async fn ask_for(&self, mutation: &str, id: &str) {
        let query = format!("mutation($id: ID!) {{ {mutation}(id: $id) {{ id }} }}");
        // A server that ends in the middle gives none.
        if let Ok(answer) = self
            .api
            .try_ask(&query, serde_json::json!({ "id": id }))
            .await
        {
            assert!(answer.errors.is_empty(), "{answer:?}");
        }
    }

    /// The id of a deployment, once there is one of this name.
    pub(crate) async fn id_of(&self, name: &str) -> String {
        let query = "query($name: String!) { deployment(name: $name) { id } }";
        eventually(&format!("there is a deployment {name}"), || async {
            let variables = serde_json::json!({ "name": name });
            let answer = self.api.try_ask(query, variables).await.ok()?;
            answer.data["deployment"]["id"].as_str().map(str::to_owned)
        })
        .await
    }

    /// Waits until everything agrees.
    pub(crate) async fn settle(&self) {
        self.world().settle(PATIENCE).await;
    }

    pub(crate) fn world(&self) -> World<'_> {
        World {
            database: &self.database,
            broker: &self.broker,
            nodes: &self.hands,
            dead_letters: self.dead_letters,
        }
    }

    /// Destroys what is there, and makes sure that nothing is left of it.
    pub(crate) async fn clear(&self) {
        self.api.destroy_all().await;
        self.settle().await;
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // The nodes first: they would start their forwarders again.
        self.members.clear();
        kill_children_of(self.directory.path());
        if std::thread::panicking() {
            // What is on an engine of the test's own goes with that.
            for hand in self.hands.iter().filter(|hand| hand.engine.is_none()) {
                testkit::docker::remove_made_by(&hand.name);
            }
        }
    }
}
