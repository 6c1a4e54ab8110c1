//! The loop on both databases, with servers that do as they are told.

use super::look::{Look, LookError, Target};
use super::*;
use crate::event::RecordedEvents;
use crate::store::{Created, NewDeployment, NewRevision};
use crate::view::{DeploymentView, RevisionView};
use crate::{Commands, Queries};
use async_trait::async_trait;
use shared::git::FetchPolicy;
use shared::id::DeploymentId;
use shared::name::DeploymentName;
use shared::source::{GitRef, GitSource, GitUrl, Source};
use shared::status::{ApplicationStatus, DesiredState, RevisionCause};
use std::collections::BTreeMap;
use std::sync::Mutex;
use testkit::services::Database;
use tokio::task::JoinHandle;

/// A server for everything.
#[derive(Default)]
struct Servers {
    /// What refs stand for, by URL; others do not answer.
    refs: Mutex<HashMap<String, Result<CommitId, LookError>>>,
    asked: Mutex<Vec<Target>>,
}

impl Servers {
    fn set(&self, url: &str, found: Result<CommitId, &str>) {
        let found = found.map_err(|detail| LookError::Refused {
            detail: detail.to_owned(),
        });
        self.refs.lock().unwrap().insert(url.to_owned(), found);
    }

    fn asked(&self, url: &str) -> usize {
        self.asked
            .lock()
            .unwrap()
            .iter()
            .filter(|target| target.url.as_str() == url)
            .count()
    }
}

#[async_trait]
impl Look for Servers {
    async fn look(&self, target: &Target) -> Result<CommitId, LookError> {
        self.asked.lock().unwrap().push(target.clone());
        let found = self.refs.lock().unwrap().get(target.url.as_str()).cloned();
        match found {
            Some(found) => found,
            None => std::future::pending().await,
        }
    }
}

/// A database, and what looks at it.
struct World {
    store: Store,
    queries: Queries,
    servers: Arc<Servers>,
    _recorded: RecordedEvents,
    events: EventSink,
    stop: CancellationToken,
    _place: Place,
}

enum Place {
    Directory(#[expect(dead_code, reason = "kept until the test ends")] tempfile::TempDir),
    Postgres(#[expect(dead_code, reason = "kept until the test ends")] Database),
}

impl World {
    async fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("test.db").display());
        Self::on(&url, Place::Directory(directory)).await
    }

    async fn postgres() -> Self {
        let database = Database::create();
        let url = database.url.clone();
        Self::on(&url, Place::Postgres(database)).await
    }

    async fn on(url: &str, place: Place) -> Self {
        let stop = CancellationToken::new();
        let store = Store::open(&url.to_owned().into(), &stop).await.unwrap();
        let (events, recorded) = EventSink::channel();
        let queries = Queries::new(store.clone());
        Self {
            store,
            queries,
            servers: Arc::default(),
            _recorded: recorded,
            events,
            stop,
            _place: place,
        }
    }

    /// An orchestrator's watcher of its own.
    fn watch(&self) -> (Arc<Wake>, JoinHandle<()>) {
        let wake = Arc::new(Wake::default());
        let look = Arc::clone(&self.servers) as Arc<dyn Look>;
        let watcher = Watcher::looking(
            look,
            self.store.clone(),
            self.events.clone(),
            Arc::clone(&wake),
        );
        (wake, tokio::spawn(watcher.run(self.stop.clone())))
    }

    async fn deployment(&self, name: &str, url: &str) -> DeploymentId {
        let source = GitSource {
            url: GitUrl::parse(url).unwrap(),
            git_ref: Some(GitRef::parse("main").unwrap()),
            subdir: None,
            poll_seconds: 60,
        };
        let new = NewDeployment {
            name: DeploymentName::parse(name).unwrap(),
            source: Source::GitApp(source),
            labels: BTreeMap::new(),
            pinned_node: None,
            method: None,
        };
        match self
            .store
            .deployments_create(&[new])
            .await
            .unwrap()
            .remove(0)
        {
            Created::Made { id, .. } => id,
            taken @ Created::NameTaken { .. } => panic!("{taken:?}"),
        }
    }

    /// The newest revision fetched this commit and stands here.
    async fn fetched(&self, id: DeploymentId, commit: &CommitId, status: ApplicationStatus) {
        let update = self
            .store
            .sql("UPDATE revisions SET source_version = ")
            .bind(commit.to_string());
        let update = update.push(", status = ").bind(status).push(" WHERE id = ");
        let latest = self.view(id).await.latest_revision_id.unwrap();
        assert_eq!(
            update.bind(latest).run(self.store.reader()).await.unwrap(),
            1
        );
    }

    /// Makes a repository due now, as time would.
    async fn due(&self, id: DeploymentId) {
        let update = self
            .store
            .sql("UPDATE deployments SET next_poll_at = ")
            .earlier(Duration::from_secs(1));
        assert_eq!(
            update
                .push(" WHERE id = ")
                .bind(id)
                .run(self.store.reader())
                .await
                .unwrap(),
            1
        );
    }

    async fn view(&self, id: DeploymentId) -> DeploymentView {
        self.queries.deployment_by_id(id).await.unwrap().unwrap()
    }

    async fn latest(&self, id: DeploymentId) -> RevisionView {
        let latest = self.view(id).await.latest_revision_id.unwrap();
        self.queries
            .revisions_by_ids(&[latest])
            .await
            .unwrap()
            .remove(&latest)
            .unwrap()
    }

    /// Lets the watchers look at a repository that is due now, and waits until the look is recorded.
    async fn look_at(&self, id: DeploymentId, wakes: &[&Wake]) -> DeploymentView {
        let before = self.view(id).await.git_watch.unwrap().last_polled_at;
        self.due(id).await;
        wakes.iter().for_each(|wake| wake.watcher.notify_one());
        testkit::eventually("the look is recorded", || async {
            let view = self.view(id).await;
            (view.git_watch.as_ref().unwrap().last_polled_at != before).then_some(view)
        })
        .await
    }
}

fn commit(digit: char) -> CommitId {
    CommitId::parse(&digit.to_string().repeat(40)).unwrap()
}

const URL: &str = "https://git.example/a.git";

/// A test on both databases.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test] async fn $name() { super::$name(super::World::sqlite().await).await; })+
        }
        mod postgres {
            $(#[tokio::test] async fn $name() { super::$name(super::World::postgres().await).await; })+
        }
    };
}

on_both!(
    a_new_commit_is_one_revision_however_many_watch,
    a_commit_that_is_known_is_none,
    a_revision_that_has_not_fetched_yet_is_waited_for,
    what_is_stopped_is_not_looked_at,
    an_error_is_shown_slows_down_and_is_cleared,
    a_server_that_hangs_does_not_hold_up_others,
    those_that_share_a_ref_share_the_look,
    a_commit_ref_is_never_looked_at,
    a_claim_is_one_orchestrators,
);

async fn a_new_commit_is_one_revision_however_many_watch(world: World) {
    let id = world.deployment("a", URL).await;
    world
        .fetched(id, &commit('1'), ApplicationStatus::Running)
        .await;
    world.servers.set(URL, Ok(commit('2')));
    let (one, _running) = world.watch();
    let (two, _running_too) = world.watch();

    let view = world.look_at(id, &[&one, &two]).await;
    let watch = view.git_watch.unwrap();
    assert_eq!(watch.last_seen_commit, Some(commit('2').to_string()));
    assert_eq!(watch.last_poll_error, None);
    assert!(watch.next_poll_at > watch.last_polled_at);
    assert_eq!(world.servers.asked(URL), 1);
    let latest = world.latest(id).await;
    assert_eq!(
        (latest.number, latest.cause, latest.status),
        (2, RevisionCause::NewCommit, ApplicationStatus::Requested)
    );
    // Whoever places revisions goes on at once.
    tokio::select! {
        () = one.dispatcher.notified() => {}
        () = two.dispatcher.notified() => {}
    }

    // Another commit while that one is on its way: it takes over.
    world.servers.set(URL, Ok(commit('3')));
    world.look_at(id, &[&one, &two]).await;
    let newest = world.latest(id).await;
    assert_eq!(
        (newest.number, newest.status),
        (3, ApplicationStatus::Requested)
    );
    let older = world
        .queries
        .revisions_by_ids(&[latest.id])
        .await
        .unwrap()
        .remove(&latest.id)
        .unwrap();
    assert_eq!(older.status, ApplicationStatus::Superseded);
}

async fn a_commit_that_is_known_is_none(world: World) {
    for (name, status) in [
        ("running", ApplicationStatus::Running),
        ("failed", ApplicationStatus::Failed),
    ] {
        let url = format!("https://git.example/{name}.git");
        let id = world.deployment(name, &url).await;
        world.fetched(id, &commit('1'), status).await;
        world.servers.set(&url, Ok(commit('1')));
        let (wake, _running) = world.watch();
        for _ in 0..3 {
            world.look_at(id, &[&wake]).await;
        }
        assert_eq!(world.servers.asked(&url), 3);
        assert_eq!(world.latest(id).await.number, 1, "{name}");
    }
}

async fn a_revision_that_has_not_fetched_yet_is_waited_for(world: World) {
    let id = world.deployment("a", URL).await;
    world.servers.set(URL, Ok(commit('2')));
    let (wake, _running) = world.watch();
    let view = world.look_at(id, &[&wake]).await;
    assert_eq!(
        view.git_watch.unwrap().last_seen_commit,
        None,
        "nothing is decided"
    );
    assert_eq!(world.latest(id).await.number, 1);
    // It fetched what was there before.
    world
        .fetched(id, &commit('1'), ApplicationStatus::Building)
        .await;
    world.look_at(id, &[&wake]).await;
    assert_eq!(world.latest(id).await.number, 2);
}

async fn what_is_stopped_is_not_looked_at(world: World) {
    let id = world.deployment("a", URL).await;
    world
        .fetched(id, &commit('1'), ApplicationStatus::Running)
        .await;
    world.servers.set(URL, Ok(commit('2')));
    world.due(id).await;
    // Stopped while it is being looked at: the commit is not forgotten.
    let (token, mut due) = world.store.git_polls_due(1, LEASE).await.unwrap();
    let stop = world
        .store
        .sql("UPDATE deployments SET desired_state = ")
        .bind(DesiredState::Stopped);
    stop.run(world.store.reader()).await.unwrap();
    let found = outcome(due.remove(0), &Ok(commit('2')));
    world.store.git_polls_record(token, &[found]).await.unwrap();
    assert_eq!(
        world.view(id).await.git_watch.unwrap().last_seen_commit,
        None
    );
    assert_eq!(world.latest(id).await.number, 1);

    world.due(id).await;
    assert!(
        world
            .store
            .git_polls_due(1, LEASE)
            .await
            .unwrap()
            .1
            .is_empty()
    );
    assert_eq!(world.store.git_poll_next().await.unwrap(), None);
    // Started again, by a new revision of what was there before.
    let again = NewRevision {
        deployment_id: id,
        cause: RevisionCause::Redeploy,
        git_ref: None,
    };
    world.store.revision_request(&again).await.unwrap();
    world
        .fetched(id, &commit('1'), ApplicationStatus::Running)
        .await;
    let (wake, _running) = world.watch();
    world.look_at(id, &[&wake]).await;
    assert_eq!(world.latest(id).await.number, 3);
}

async fn an_error_is_shown_slows_down_and_is_cleared(world: World) {
    let id = world.deployment("a", URL).await;
    world
        .fetched(id, &commit('1'), ApplicationStatus::Running)
        .await;
    world.servers.set(
        URL,
        Err("the repository has no branch or tag `main`; it has: trunk"),
    );
    let (wake, _running) = world.watch();
    let mut waits = Vec::new();
    for _ in 0..2 {
        let watch = world.look_at(id, &[&wake]).await.git_watch.unwrap();
        assert!(watch.last_poll_error.unwrap().contains("it has: trunk"));
        waits.push((watch.next_poll_at.unwrap() - watch.last_polled_at.unwrap()).num_seconds());
        // Time passes: the next look is due, and how long it was waited for stays known.
        let earlier =
            chrono::Utc::now() - watch.next_poll_at.unwrap() - chrono::Duration::seconds(1);
        let past = watch.last_polled_at.unwrap() + earlier;
        let update = world
            .store
            .sql("UPDATE deployments SET last_polled_at = ")
            .bind(past);
        update.run(world.store.reader()).await.unwrap();
    }
    assert!((53..=67).contains(&waits[0]), "{waits:?}");
    assert_eq!(world.latest(id).await.number, 1);

    world.servers.set(URL, Ok(commit('1')));
    let watch = world.look_at(id, &[&wake]).await.git_watch.unwrap();
    assert_eq!(watch.last_poll_error, None);
    assert_eq!(watch.last_seen_commit, Some(commit('1').to_string()));
}

async fn a_server_that_hangs_does_not_hold_up_others(world: World) {
    let hung = world.deployment("hung", "https://hung.example/a.git").await;
    let id = world.deployment("a", URL).await;
    world
        .fetched(id, &commit('1'), ApplicationStatus::Running)
        .await;
    world.servers.set(URL, Ok(commit('2')));
    world.due(hung).await;
    let (wake, running) = world.watch();
    for _ in 0..3 {
        world.look_at(id, &[&wake]).await;
    }
    assert_eq!(world.latest(id).await.number, 2);
    assert_eq!(
        world.servers.asked("https://hung.example/a.git"),
        1,
        "it is claimed"
    );
    assert_eq!(
        world.view(hung).await.git_watch.unwrap().last_polled_at,
        None
    );
    // Stopping waits for nobody.
    world.stop.cancel();
    running.await.unwrap();
}

async fn those_that_share_a_ref_share_the_look(world: World) {
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        let id = world.deployment(name, URL).await;
        world
            .fetched(id, &commit('1'), ApplicationStatus::Running)
            .await;
        world.due(id).await;
        ids.push(id);
    }
    world.servers.set(URL, Ok(commit('2')));
    let (_wake, _running) = world.watch();
    for id in ids {
        testkit::eventually("a new revision", || async {
            (world.latest(id).await.number == 2).then_some(())
        })
        .await;
    }
    assert_eq!(world.servers.asked(URL), 1);
}

async fn a_commit_ref_is_never_looked_at(world: World) {
    let (events, _recorded) = EventSink::channel();
    let git = crate::settings::Settings::new(String::new().into()).git_policy();
    let commands = Commands::new(world.store.clone(), git, events, Arc::default());
    let source = crate::command::NewGitSource {
        url: URL.to_owned(),
        git_ref: Some("1".repeat(40)),
        ..Default::default()
    };
    let source = crate::command::NewSource {
        git: Some(source),
        image: None,
    };
    let new = crate::command::CreateDeployment {
        name: "a".to_owned(),
        source,
        ..Default::default()
    };
    let view = commands.create(new).await.unwrap();
    assert_eq!(view.git_watch.unwrap().next_poll_at, None);
    assert_eq!(world.store.git_poll_next().await.unwrap(), None);
}

async fn a_claim_is_one_orchestrators(world: World) {
    let id = world.deployment("a", URL).await;
    world.due(id).await;
    let (token, due) = world.store.git_polls_due(10, Duration::ZERO).await.unwrap();
    assert_eq!(due.len(), 1);
    // It lapsed: somebody else claims it, and what comes late is left out.
    let (_, again) = world.store.git_polls_due(10, LEASE).await.unwrap();
    assert_eq!(again.len(), 1);
    assert!(
        world
            .store
            .git_polls_due(10, LEASE)
            .await
            .unwrap()
            .1
            .is_empty()
    );
    let late = outcome(
        due.into_iter().next().unwrap(),
        &Err(LookError::Timeout { seconds: 1 }),
    );
    world.store.git_polls_record(token, &[late]).await.unwrap();
    assert_eq!(
        world.view(id).await.git_watch.unwrap().last_poll_error,
        None
    );
    let next = world.store.git_poll_next().await.unwrap().unwrap();
    assert!(next > chrono::Utc::now(), "due when the claim lapses");
}

/// The default of the settings lets nothing through that a fleet would not.
#[test]
fn settings_begin_closed() {
    let settings = Settings::new(String::new().into());
    assert_eq!(settings.fetch_policy, FetchPolicy::default());
    assert!(!settings.fetch_policy.guard.allow_loopback && !settings.fetch_policy.file_allowed);
}
