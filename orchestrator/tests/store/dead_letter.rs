//! Dead letters as rows.

use crate::stage::Stage;
use orchestrator::query::Page;
use orchestrator::store::{DEAD_LETTERS_KEPT, NewDeadLetter};
use orchestrator::view::DeadLetterView;
use shared::message::BODY_LIMIT;

fn letter(message: &str, body: &[u8]) -> NewDeadLetter {
    NewDeadLetter {
        message: message.to_owned(),
        queue: "deployment".to_owned(),
        reason: "it is\0poison".to_owned(),
        sender: Some("node-account".to_owned()),
        deliveries: Some(1),
        died_at: None,
        body: body.to_vec(),
        may_return: false,
    }
}

fn well(message: &str) -> NewDeadLetter {
    NewDeadLetter {
        may_return: true,
        ..letter(message, b"well")
    }
}

async fn all(stage: &Stage) -> Vec<DeadLetterView> {
    let page = stage
        .queries
        .dead_letters_page(&Page::default())
        .await
        .unwrap();
    page.edges.into_iter().map(|edge| edge.node).collect()
}

both! {
    async fn each_is_recorded_once_and_read_back(stage: Stage) {
        let letters = [letter("a", b"{\"v\":1}"), letter("b", b"\xff\0"), letter("a", b"{\"v\":1}")];
        for _ in 0..2 {
            stage.store.dead_letters_record(&letters).await.unwrap();
        }
        let found = all(stage).await;
        assert_eq!(found.len(), 2);
        let (newest, oldest) = (&found[0], &found[1]);
        assert_eq!((newest.is_text, newest.size, oldest.is_text, oldest.size), (false, 2, true, 7));
        assert_eq!(oldest.reason, "it is\u{fffd}poison");
        assert_eq!((oldest.sender.as_deref(), oldest.deliveries, &oldest.node), (Some("node-account"), Some(1), &None));
        let bodies = stage.queries.dead_letter_bodies(&[newest.id, oldest.id]).await.unwrap();
        assert_eq!((&*bodies[&newest.id], &*bodies[&oldest.id]), ("/wA=", "{\"v\":1}"));
        for (id, body) in [(newest.id, &b"\xff\0"[..]), (oldest.id, b"{\"v\":1}")] {
            let kept = stage.store.dead_letter_message(id).await.unwrap().unwrap();
            assert_eq!((&*kept.queue, kept.body.as_deref()), ("deployment", Some(body)));
            assert!(stage.store.dead_letter_drop(id).await.unwrap());
            assert!(!stage.store.dead_letter_drop(id).await.unwrap());
            assert_eq!(stage.queries.dead_letter_by_id(id).await.unwrap(), None);
        }
    }

    async fn pages_follow_each_other(stage: Stage) {
        let letters: Vec<_> = (0..5).map(|number| letter(&number.to_string(), b"x")).collect();
        stage.store.dead_letters_record(&letters).await.unwrap();
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = stage.queries.dead_letters_page(&Page { first: Some(2), after }).await.unwrap();
            seen.extend(page.edges.iter().map(|edge| edge.node.id));
            if !page.has_next_page {
                break;
            }
            after = page.edges.last().map(|edge| edge.cursor.clone());
        }
        assert_eq!(seen.len(), 5);
        assert!(seen.is_sorted_by(|newer, older| newer > older));
    }

    async fn what_is_well_returns_once(stage: Stage) {
        let first = stage.store.dead_letters_record(&[well("a")]).await.unwrap();
        assert_eq!((first.returned, first.kept), (vec![0], vec![]));
        assert!(all(stage).await.is_empty());
        // The process ended before it was sent: the same delivery comes again.
        let again = stage.store.dead_letters_record(&[well("a")]).await.unwrap();
        assert_eq!((again.returned, again.kept), (vec![0], vec![]));
        // It died once more, as another message of the same words.
        let second = stage.store.dead_letters_record(&[well("b")]).await.unwrap();
        assert_eq!((second.returned, second.kept), (vec![], vec![0]));
        assert_eq!(all(stage).await.len(), 1);
        // A person who sends it again begins anew.
        let third = stage.store.dead_letters_record(&[well("c")]).await.unwrap();
        assert_eq!(third.returned, [0]);
    }

    async fn what_cannot_return_is_kept(stage: Stage) {
        stage.store.dead_letters_record(&[well("a")]).await.unwrap();
        stage.store.dead_letter_keep("a").await.unwrap();
        assert_eq!(all(stage).await.len(), 1);
    }

    async fn the_oldest_go_when_there_are_too_many(stage: Stage) {
        let letters: Vec<_> = (0..DEAD_LETTERS_KEPT + 3).map(|number| letter(&number.to_string(), b"x")).collect();
        let mut dropped = 0;
        for chunk in letters.chunks(500) {
            dropped += stage.store.dead_letters_record(chunk).await.unwrap().dropped;
        }
        assert_eq!(dropped, 3);
        let known = stage.store.dead_letters_record(&letters[..4]).await.unwrap();
        assert_eq!(known.kept, [0, 1, 2], "the first three were forgotten");
    }

    async fn of_what_is_too_large_the_beginning_is_kept(stage: Stage) {
        let mut body = vec![b'x'; BODY_LIMIT + 1];
        body[BODY_LIMIT] = b'y';
        stage.store.dead_letters_record(&[letter("a", &body)]).await.unwrap();
        let found = all(stage).await.remove(0);
        assert_eq!((found.is_whole, found.size), (false, BODY_LIMIT as u64 + 1));
        let kept = stage.store.dead_letter_message(found.id).await.unwrap().unwrap();
        assert_eq!(kept.body, None);
        let bodies = stage.queries.dead_letter_bodies(&[found.id]).await.unwrap();
        assert_eq!(bodies[&found.id].len(), BODY_LIMIT);
    }
}
