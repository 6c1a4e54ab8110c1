//! Build logs.

use crate::stage::Stage;
use chrono::Utc;
use orchestrator::store::{BuildLogLine, BuildLogPosition};
use shared::id::{RevisionId, StreamId};
use shared::message::{LogLine, LogSubject};
use shared::status::LogStream;

fn line(revision_id: RevisionId, epoch: i32, seq: i64, text: &str) -> LogLine {
    LogLine {
        subject: LogSubject::Build { revision_id, epoch },
        source: None,
        seq,
        at: Utc::now(),
        stream: LogStream::Stdout,
        text: text.to_owned(),
    }
}

impl Stage {
    async fn log(&self, revision_id: RevisionId) -> Vec<BuildLogLine> {
        self.store
            .build_log_page(revision_id, BuildLogPosition::default(), 200_000)
            .await
            .unwrap()
    }

    /// A revision that a node works on.
    async fn building(&self) -> RevisionId {
        let node = self.node("n1").await;
        let deployment = self.create("demo").await;
        self.dispatch_all(&node).await;
        deployment.latest_revision_id.unwrap()
    }
}

both! {
    async fn lines_are_stored_once_and_read_in_order(stage: Stage) {
        let id = stage.building().await;
        stage.store.build_log_append(&[line(id, 1, 2, "b"), line(id, 1, 1, "a"), line(id, 1, 2, "b")]).await.unwrap();
        let second = stage.second_store().await;
        let lines = [line(id, 1, 1, "a"), line(id, 1, 3, "c\0")];
        let (one, other) = tokio::join!(stage.store.build_log_append(&lines), second.build_log_append(&lines));
        one.and(other).unwrap();
        let texts: Vec<_> = stage.log(id).await.into_iter().map(|line| line.text).collect();
        assert_eq!(texts, ["a", "b", "c\u{fffd}"]);
        let page = stage.store.build_log_page(id, BuildLogPosition { epoch: 1, seq: 1 }, 1).await.unwrap();
        assert_eq!(page[0].position, BuildLogPosition { epoch: 1, seq: 2 });
        let state = stage.store.build_log_states(id).await.unwrap();
        assert_eq!((state.len(), state[0].lines, state[0].ended_at_line, state[0].cut), (1, 3, None, false));
        stage.store.build_log_end(&[(id, 1, 3)]).await.unwrap();
        assert_eq!(stage.store.build_log_states(id).await.unwrap()[0].ended_at_line, Some(3));
    }

    async fn what_is_nobodys_is_not_stored(stage: Stage) {
        let id = stage.building().await;
        let mut service = line(id, 1, 1, "x");
        service.subject = LogSubject::Service(StreamId::new());
        let lines = [line(RevisionId::new(), 1, 1, "x"), line(id, 0, 1, "x"), line(id, 2, 1, "x"), line(id, 1, 0, "x"), service];
        stage.store.build_log_append(&lines).await.unwrap();
        stage.store.build_log_end(&[(RevisionId::new(), 1, 1), (id, 9, 1)]).await.unwrap();
        assert!(stage.log(id).await.is_empty());
    }

    async fn a_log_is_cut_at_its_limit_with_a_mark(stage: Stage) {
        let id = stage.building().await;
        let long = "x".repeat(8 * 1024);
        for batch in 0..5 {
            let lines: Vec<_> = (1..=500).map(|n| line(id, 1, batch * 500 + n, &long)).collect();
            stage.store.build_log_append(&lines).await.unwrap();
        }
        let log = stage.log(id).await;
        assert_eq!(log.len(), 2049, "16 MiB of 8 KiB lines, and the mark");
        assert_eq!(log[2048].stream, LogStream::System);
        assert!(log[2048].text.contains("cut here"));
        assert!(stage.store.build_log_states(id).await.unwrap()[0].cut);
    }

    async fn attempts_follow_each_other(stage: Stage) {
        let id = stage.building().await;
        stage.tamper("UPDATE revisions SET epoch = 2").await;
        stage.store.build_log_append(&[line(id, 2, 1, "again"), line(id, 1, 7, "first")]).await.unwrap();
        let texts: Vec<_> = stage.log(id).await.into_iter().map(|line| line.text).collect();
        assert_eq!(texts, ["first", "again"]);
        let after = stage.store.build_log_page(id, BuildLogPosition { epoch: 1, seq: 7 }, 10).await.unwrap();
        assert_eq!(after.len(), 1);
    }
}
