//! Reading: pages, filters, batches.

use crate::stage::{Stage, git_deployment, good_way, report};
use orchestrator::query::{DeploymentFilter, LabelFilter, Page};
use shared::id::{DeploymentId, NodeId, RevisionId};
use shared::status::ApplicationStatus as S;

fn page(first: i32, after: Option<&str>) -> Page {
    Page {
        first: Some(first),
        after: after.map(str::to_owned),
    }
}

impl Stage {
    async fn names(&self, filter: DeploymentFilter) -> Vec<String> {
        let page = self
            .queries
            .deployments_page(&filter, &Page::default())
            .await
            .unwrap();
        page.edges
            .into_iter()
            .map(|edge| edge.node.name.to_string())
            .collect()
    }
}

both! {
    async fn what_runs_is_never_seen_without_its_revision(stage: Stage) {
        let node = stage.node("n1").await;
        for round in 0..10 {
            let id = stage.create(&format!("app-{round}")).await.id;
            let writing = stage.run_latest(id, &node);
            let reading = async {
                loop {
                    let seen = stage.deployment(id).await;
                    if seen.status.status == S::Running {
                        break seen;
                    }
                }
            };
            let (revision, seen) = tokio::join!(writing, reading);
            assert_eq!(seen.active_revision_id, Some(revision));
        }
    }

    async fn pages_follow_each_other_without_gap_or_repeat(stage: Stage) {
        for n in 0..7 {
            stage.create(&format!("app-{n}")).await;
        }
        let (mut after, mut names) = (None, Vec::new());
        loop {
            let found = stage.queries.deployments_page(&Default::default(), &page(3, after.as_deref())).await.unwrap();
            names.extend(found.edges.iter().map(|edge| edge.node.name.to_string()));
            after = found.edges.last().map(|edge| edge.cursor.clone());
            if !found.has_next_page {
                break;
            }
        }
        assert_eq!(names, (0..7).map(|n| format!("app-{n}")).collect::<Vec<_>>());
        let id = stage.queries.deployment_by_name("app-0").await.unwrap().unwrap().id;
        for _ in 0..4 {
            stage.commands.redeploy(id, None).await.unwrap();
        }
        let newest = stage.queries.revisions_page(id, &page(2, None)).await.unwrap();
        let older = stage.queries.revisions_page(id, &page(9, Some(&newest.edges[1].cursor))).await.unwrap();
        let numbers: Vec<_> = newest.edges.iter().chain(&older.edges).map(|edge| edge.node.number).collect();
        assert_eq!((numbers, newest.has_next_page, older.has_next_page), (vec![5, 4, 3, 2, 1], true, false));
        let crossed = page(3, Some(&newest.edges[0].cursor));
        assert_eq!(stage.queries.deployments_page(&Default::default(), &crossed).await.unwrap_err().code(), "INVALID_INPUT");
        assert_eq!(stage.queries.revisions_page(id, &page(0, None)).await.unwrap_err().code(), "INVALID_INPUT");
    }

    async fn filters_narrow(stage: Stage) {
        let node = stage.node("n1").await;
        let mut shop = git_deployment("shop-1");
        shop.labels = vec![("class".to_owned(), "shop".to_owned()), ("tier".to_owned(), "1".to_owned())];
        stage.commands.create(shop).await.unwrap();
        stage.dispatch_all(&node).await;
        let mut pinned = git_deployment("shop_2");
        (pinned.node, pinned.name) = (Some("n1".to_owned()), "shop-2".to_owned());
        pinned.labels = vec![("class".to_owned(), "shop".to_owned())];
        stage.commands.create(pinned).await.unwrap();
        let gone = stage.create("blog").await;
        stage.create("wiki").await;
        stage.commands.destroy(gone.id, false).await.unwrap();

        let labels = |pairs: &[(&str, Option<&str>)]| DeploymentFilter {
            labels: pairs.iter().map(|(key, value)| LabelFilter { key: (*key).to_owned(), value: value.map(str::to_owned) }).collect(),
            ..Default::default()
        };
        assert_eq!(stage.names(Default::default()).await, ["shop-1", "shop-2", "wiki"]);
        assert_eq!(stage.names(labels(&[("class", Some("shop"))])).await, ["shop-1", "shop-2"]);
        assert_eq!(stage.names(labels(&[("class", None), ("tier", Some("1"))])).await, ["shop-1"]);
        assert!(stage.names(labels(&[("class", Some("blog"))])).await.is_empty());
        let prefix = |prefix: &str| DeploymentFilter { name_prefix: Some(prefix.to_owned()), ..Default::default() };
        assert_eq!(stage.names(prefix("shop-")).await, ["shop-1", "shop-2"]);
        for trick in ["%", "shop_", "\\", "'; DROP TABLE nodes"] {
            assert!(stage.names(prefix(trick)).await.is_empty(), "{trick}");
        }
        let on = DeploymentFilter { node: Some("n1".to_owned()), ..Default::default() };
        assert_eq!(stage.names(on).await, ["shop-1", "shop-2"]);
        let all = DeploymentFilter { include_destroyed: true, ..Default::default() };
        assert_eq!(stage.names(all.clone()).await.len(), 4);
        let standing = |status| DeploymentFilter { statuses: vec![status], ..all.clone() };
        assert_eq!(stage.names(standing(S::Destroyed)).await, ["blog"]);
        assert_eq!(stage.names(standing(S::Initialized)).await, ["shop-1"]);
        assert_eq!(stage.names(standing(S::Requested)).await, ["shop-2", "wiki"]);
        let many = labels(&[("class", None); 17]);
        assert_eq!(stage.queries.deployments_page(&many, &Page::default()).await.unwrap_err().code(), "INVALID_INPUT");
    }

    async fn the_status_filter_agrees_with_the_derived_status(stage: Stage) {
        let node = stage.node("n1").await;
        // Every status of an active revision, beside every status of a newer one.
        let pairs: Vec<(S, S)> = S::ALL.iter().flat_map(|active| S::ALL.iter().map(|latest| (*active, *latest))).collect();
        for (index, _) in pairs.iter().enumerate() {
            stage.create(&format!("app-{index}")).await;
        }
        stage.dispatch_all(&node).await;
        let reports: Vec<_> = stage.published().await.iter().flat_map(|work| good_way(work, &node)).collect();
        stage.store.reports_apply(&reports).await.unwrap();
        let mut updates = String::new();
        for (index, (active, latest)) in pairs.iter().enumerate() {
            let id = stage.queries.deployment_by_name(&format!("app-{index}")).await.unwrap().unwrap().id;
            stage.commands.redeploy(id, None).await.unwrap();
            let of = format!("deployment_id = (SELECT id FROM deployments WHERE name = 'app-{index}')");
            updates.push_str(&format!("UPDATE revisions SET status = '{active}' WHERE number = 1 AND {of};"));
            updates.push_str(&format!("UPDATE revisions SET status = '{latest}' WHERE number = 2 AND {of};"));
        }
        stage.tamper(&updates).await;
        let mut shown = 0;
        for status in S::ALL {
            let filter = DeploymentFilter { statuses: vec![*status], include_destroyed: true, ..Default::default() };
            let mut after = None;
            loop {
                let found = stage.queries.deployments_page(&filter, &page(200, after.as_deref())).await.unwrap();
                for edge in &found.edges {
                    assert_eq!(edge.node.status.status, *status, "{}", edge.node.name);
                }
                shown += found.edges.len();
                after = found.edges.last().map(|edge| edge.cursor.clone());
                if !found.has_next_page {
                    break;
                }
            }
        }
        assert_eq!(shown, S::ALL.len() * S::ALL.len(), "each has exactly one status");
    }

    async fn what_is_unknown_is_absent(stage: Stage) {
        assert_eq!(stage.queries.deployment_by_id(DeploymentId::new()).await.unwrap(), None);
        assert_eq!(stage.queries.deployment_by_name("nobody").await.unwrap(), None);
        assert_eq!(stage.queries.revision_by_id(RevisionId::new()).await.unwrap(), None);
        assert_eq!(stage.queries.node_by_id(NodeId::new()).await.unwrap(), None);
        assert_eq!(stage.queries.node_by_name("nobody").await.unwrap(), None);
        assert!(stage.queries.events_of(&[]).await.unwrap().is_empty());
        assert!(stage.queries.deployments_by_ids(&[]).await.unwrap().is_empty());
        assert!(stage.queries.ports_of(&[DeploymentId::new()]).await.unwrap().is_empty());
    }

    async fn belongings_are_read_for_many_at_once(stage: Stage) {
        let node = stage.node("n1").await;
        let mut ids = Vec::new();
        for n in 0..5 {
            ids.push(stage.running(&format!("app-{n}"), &node).await.0);
        }
        let work = {
            stage.create("failing").await;
            stage.dispatch_all(&node).await;
            stage.published().await.remove(0)
        };
        let mut reports = good_way(&work, &node);
        reports.truncate(2);
        reports.push(report(&work, &node, 3, S::Failed));
        stage.store.reports_apply(&reports).await.unwrap();
        ids.push(work.deployment_id);
        assert_eq!(stage.queries.ports_of(&ids).await.unwrap().len(), 5);
        assert_eq!(stage.queries.services_of(&ids).await.unwrap().len(), 5);
        assert_eq!(stage.queries.deployments_by_ids(&ids).await.unwrap().len(), 6);
        assert_eq!(stage.queries.nodes_by_ids(&[node.id, node.id]).await.unwrap().len(), 1);
    }

    async fn the_same_page_of_many(stage: Stage) {
        let (many, one) = (stage.create("many").await.id, stage.create("one").await.id);
        for _ in 0..4 {
            stage.commands.redeploy(many, None).await.unwrap();
        }
        let ids = [many, one, DeploymentId::new()];
        let pages = stage.queries.revisions_pages(&ids, &page(2, None)).await.unwrap();
        let numbers = |id: DeploymentId| pages[&id].edges.iter().map(|edge| edge.node.number).collect::<Vec<_>>();
        assert_eq!((pages.len(), numbers(many), numbers(one)), (2, vec![5, 4], vec![1]));
        assert!(pages[&many].has_next_page && !pages[&one].has_next_page);
        let after = pages[&many].edges[1].cursor.as_str();
        let rest = stage.queries.revisions_pages(&ids, &page(3, Some(after))).await.unwrap();
        assert_eq!(rest[&many].edges.iter().map(|edge| edge.node.number).collect::<Vec<_>>(), [3, 2, 1]);
        assert!(!rest[&many].has_next_page);
        assert_eq!(stage.queries.revisions_pages(&ids, &page(0, None)).await.unwrap_err().code(), "INVALID_INPUT");
    }
}
