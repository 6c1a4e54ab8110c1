//! Making deployments.

use crate::stage::{Stage, git_deployment};
use orchestrator::command::{NewImageSource, NewSource};
use orchestrator::store::{Created, NewDeployment};
use shared::message::ChangeEvent;
use shared::name::DeploymentName;
use shared::source::Source;
use shared::status::{ApplicationStatus, DesiredState, RevisionCause};

fn new(name: &str) -> NewDeployment {
    let image = shared::source::ImageSource {
        image: "nginx:1".parse().unwrap(),
        port: Some(80),
    };
    NewDeployment {
        name: DeploymentName::parse(name).unwrap(),
        source: Source::Image(image),
        labels: Default::default(),
        pinned_node: None,
        method: None,
    }
}

both! {
    async fn a_deployment_is_made_with_its_first_revision(stage: Stage) {
        let mut input = git_deployment("demo");
        input.labels = vec![("class".to_owned(), "shop".to_owned()), ("team".to_owned(), String::new())];
        let deployment = stage.commands.create(input).await.unwrap();
        assert_eq!(deployment.status.status, ApplicationStatus::Requested);
        assert_eq!(deployment.desired_state, DesiredState::Running);
        assert_eq!(deployment.url, None);
        assert!(deployment.git_watch.as_ref().unwrap().next_poll_at.is_some());
        let revision = stage.latest(deployment.id).await;
        assert_eq!((revision.number, revision.epoch, revision.cause), (1, 0, RevisionCause::Created));
        let history = stage.history(revision.id).await;
        assert_eq!((history.len(), history[0].seq, history[0].status), (1, 1, ApplicationStatus::Requested));
        assert_eq!(stage.recorded.try_recv().unwrap(), ChangeEvent::Status(history[0].clone()));
        let labels = stage.queries.labels_of(&[deployment.id]).await.unwrap();
        let keys: Vec<_> = labels[&deployment.id].iter().map(|label| label.key.as_str()).collect();
        assert_eq!(keys, ["class", "team"]);
        assert_eq!(stage.queries.deployment_by_name("demo").await.unwrap(), Some(deployment));
    }

    async fn a_name_is_taken_until_its_deployment_is_destroyed(stage: Stage) {
        let first = stage.create("demo").await;
        let error = stage.commands.create(git_deployment("demo")).await.unwrap_err();
        assert_eq!(error.code(), "CONFLICT");
        assert!(error.to_string().contains("`demo`") && error.to_string().contains(&first.id.to_string()), "{error}");
        stage.commands.destroy(first.id, false).await.unwrap();
        let second = stage.create("demo").await;
        assert_ne!(first.id, second.id);
        assert_eq!(stage.queries.deployment_by_name("demo").await.unwrap().unwrap().id, second.id);
    }

    async fn of_eight_that_want_one_name_at_once_one_gets_it(stage: Stage) {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let commands = stage.commands.clone();
            tasks.spawn(async move { commands.create(git_deployment("demo")).await });
        }
        let outcomes = tasks.join_all().await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        assert!(outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).all(|error| error.code() == "CONFLICT"));
    }

    async fn a_taken_name_does_not_spoil_the_batch(stage: Stage) {
        let taken = stage.create("b").await;
        let batch: Vec<_> = ["a", "b", "c", "a"].map(new).into();
        let created = stage.store.deployments_create(&batch).await.unwrap();
        let Created::Made { id: a, .. } = &created[0] else { panic!("{created:?}") };
        assert!(matches!(&created[1], Created::NameTaken { by: Some(id) } if *id == taken.id));
        assert!(matches!(&created[2], Created::Made { .. }));
        assert!(matches!(&created[3], Created::NameTaken { by: Some(id) } if id == a));
        let none = stage.store.deployments_create(&batch).await.unwrap();
        assert!(none.iter().all(|created| matches!(created, Created::NameTaken { by: Some(_) })));
        assert!(stage.store.deployments_create(&[]).await.unwrap().is_empty());
    }

    async fn more_than_one_statement_can_carry(stage: Stage) {
        let batch: Vec<_> = (0..700).map(|n| new(&format!("app-{n}"))).collect();
        let created = stage.store.deployments_create(&batch).await.unwrap();
        assert!(created.iter().all(|created| matches!(created, Created::Made { .. })));
    }

    async fn bad_input_is_refused_with_its_field_and_leaves_nothing(stage: Stage) {
        stage.node("n1").await;
        let long = "x".repeat(64);
        let mut cases: Vec<_> = ["", " ", "Upper", "a.b", "-a", &long].map(|name| ("name", git_deployment(name))).into();
        let mut no_source = git_deployment("demo");
        no_source.source = NewSource::default();
        cases.push(("source", no_source));
        let mut two_sources = git_deployment("demo");
        two_sources.source.image = Some(NewImageSource { reference: "nginx".to_owned(), port: None });
        cases.push(("source", two_sources));
        for url in ["hello", "file:///srv/a.git", "ext::sh -c x", "-x", "https://h/a\nb", "https://u:hunter2@h/a"] {
            let mut input = git_deployment("demo");
            input.source.git.as_mut().unwrap().url = url.to_owned();
            cases.push(("git.url", input));
        }
        let mut unknown_node = git_deployment("demo");
        unknown_node.node = Some("n2".to_owned());
        cases.push(("node", unknown_node));
        for (expected, input) in cases {
            let shown = format!("{input:?}");
            let error = stage.commands.create(input).await.unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
            match error {
                orchestrator::CommandError::InvalidInput { field, .. } => assert_eq!(field, expected, "{shown}"),
                other => panic!("{shown}: {other:?}"),
            }
        }
        assert!(stage.queries.deployments_page(&Default::default(), &Default::default()).await.unwrap().edges.is_empty());
    }

    async fn a_node_that_is_named_must_be_there_and_is_told_which_are(stage: Stage) {
        stage.node("n1").await;
        let mut input = git_deployment("demo");
        input.node = Some("n1".to_owned());
        assert_eq!(stage.commands.create(input.clone()).await.unwrap().pinned_node.unwrap().as_str(), "n1");
        (input.name, input.node) = ("demo2".to_owned(), Some("n9".to_owned()));
        assert!(stage.commands.create(input).await.unwrap_err().to_string().contains("there are n1"));
    }

    async fn a_source_that_cannot_move_is_not_watched(stage: Stage) {
        let mut pinned = git_deployment("pinned");
        pinned.source.git.as_mut().unwrap().git_ref = Some("a".repeat(40));
        let mut never = git_deployment("never");
        never.source.git.as_mut().unwrap().poll_seconds = Some(0);
        for input in [pinned, never] {
            let deployment = stage.commands.create(input).await.unwrap();
            assert_eq!(deployment.git_watch.unwrap().next_poll_at, None);
        }
        let mut image = git_deployment("image");
        image.source = NewSource { git: None, image: Some(NewImageSource { reference: "nginx:1".to_owned(), port: Some(80) }) };
        assert_eq!(stage.commands.create(image).await.unwrap().git_watch, None);
    }
}
