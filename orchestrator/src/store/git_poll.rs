//! Looking at repositories: who is due, and what a look found.

use super::column::{JsonText, Time, now};
use super::dispatch::deployments_lock;
use super::entity::{deployment, revision};
use super::ledger::standings_of;
use super::report::clean;
use super::revise::Making;
use super::sql::ROWS_AT_ONCE;
use super::{Store, StoreError, Tx};
use sea_orm::{ColumnTrait, EntityTrait, FromQueryResult, QueryFilter, Value};
use shared::id::{DeploymentId, RevisionId};
use shared::message::StatusEvent;
use shared::source::{CommitId, GitSource, Source};
use shared::status::{ApplicationStatus, DesiredState, RevisionCause};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use uuid::Uuid;

/// How much of an error is kept, in bytes.
const ERROR_LIMIT: usize = 2048;

/// A repository that is due for a look.
#[derive(Clone, Debug)]
pub struct DuePoll {
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// What to look at.
    pub source: GitSource,
    /// How long this look was waited for since one that failed; none after one that did not.
    pub waited_after_failure: Option<Duration>,
}

/// What a look at a repository found.
#[derive(Clone, Debug)]
pub struct PollOutcome {
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// What was looked at: what was found is only about this.
    pub source: GitSource,
    /// The commit that the ref names, or why that is not known, in the server's words.
    pub found: Result<CommitId, String>,
    /// When to look again.
    pub next_in: Duration,
}

/// What became of a batch of [`PollOutcome`]s.
#[derive(Clone, Debug, Default)]
pub struct PollsRecorded {
    /// The first steps of revisions that were made, and the last of those they replace.
    pub steps: Vec<StatusEvent>,
}

#[derive(FromQueryResult)]
struct Row {
    id: DeploymentId,
    source: JsonText<Source>,
    next_poll_at: Option<Time>,
    last_polled_at: Option<Time>,
    last_poll_error: Option<String>,
}

impl Row {
    fn waited_after_failure(&self) -> Option<Duration> {
        self.last_poll_error.as_ref()?;
        // Clocks of several orchestrators may differ: what is negative counts as nothing.
        Some(
            (self.next_poll_at? - self.last_polled_at?)
                .to_std()
                .unwrap_or_default(),
        )
    }
}

#[derive(FromQueryResult)]
struct Next {
    next: Option<Time>,
}

impl Store {
    /// Claims up to `limit` repositories that are due, for as long as `lease`. Only deployments that
    /// should run are watched.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn git_polls_due(
        &self,
        limit: u64,
        lease: Duration,
    ) -> Result<(Uuid, Vec<DuePoll>), StoreError> {
        let token = Uuid::new_v4();
        let tx = self.write().await?;
        let rows: Vec<Row> = tx
            .sql(
                "WITH due AS MATERIALIZED (SELECT d.id FROM deployments d WHERE d.next_poll_at IS NOT NULL AND d.desired_state = 'RUNNING' \
                 AND d.next_poll_at <= ",
            )
            .now()
            .push(" AND (d.poll_claimed_until IS NULL OR d.poll_claimed_until < ")
            .now()
            .push(") ORDER BY d.next_poll_at LIMIT ")
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .locked_or_skipped("d")
            .push(") UPDATE deployments SET poll_claim_token = ")
            .bind(token)
            .push(", poll_claimed_until = ")
            .later(lease)
            .push(" WHERE id IN (SELECT id FROM due) RETURNING id, source, next_poll_at, last_polled_at, last_poll_error")
            .all(&*tx)
            .await?;
        tx.commit().await?;
        let due = rows.into_iter().filter_map(|row| {
            let waited_after_failure = row.waited_after_failure();
            let Source::GitApp(source) = row.source.0 else {
                return None;
            };
            Some(DuePoll {
                deployment_id: row.id,
                source,
                waited_after_failure,
            })
        });
        Ok((token, due.collect()))
    }

    /// Makes claims hold for another `lease` from now on. One that lapsed, and that nobody else has
    /// taken, holds again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn git_polls_hold(&self, tokens: &[Uuid], lease: Duration) -> Result<(), StoreError> {
        if tokens.is_empty() {
            return Ok(());
        }
        let tx = self.write().await?;
        tx.sql("UPDATE deployments SET poll_claimed_until = ")
            .later(lease)
            .push(" WHERE next_poll_at IS NOT NULL AND poll_claim_token")
            .one_of(tokens.iter().copied())
            .run(&*tx)
            .await?;
        tx.commit().await
    }

    /// When the next repository is due; none when none is watched. One that is claimed is due when
    /// that claim lapses.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn git_poll_next(&self) -> Result<Option<Time>, StoreError> {
        let next: Vec<Next> = self
            .sql(
                "SELECT MIN(CASE WHEN poll_claimed_until > next_poll_at THEN poll_claimed_until ELSE next_poll_at END) AS next \
                 FROM deployments WHERE next_poll_at IS NOT NULL AND desired_state = 'RUNNING'",
            )
            .all(self.reader())
            .await?;
        Ok(next.into_iter().find_map(|row| row.next))
    }

    /// Records what looks found. A commit that neither was seen before nor is what the newest
    /// revision is about becomes a new revision. Outcomes whose claim was lost, or whose deployment
    /// points elsewhere meanwhile, are left out.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was recorded, and the repositories are due again after the lease.
    pub async fn git_polls_record(
        &self,
        token: Uuid,
        outcomes: &[PollOutcome],
    ) -> Result<PollsRecorded, StoreError> {
        let tx = self.write().await?;
        let deployments =
            deployments_lock(&tx, outcomes.iter().map(|outcome| outcome.deployment_id)).await?;
        let latest = latest_revisions(&tx, deployments.values()).await?;
        let left = left_by_rollback(&tx, outcomes, &latest).await?;
        let mut looked = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            let Some(deployment) = deployments.get(&outcome.deployment_id) else {
                continue;
            };
            if deployment.poll_claim_token != Some(token) || !is_about(outcome, deployment) {
                continue;
            }
            let newest = deployment.latest_revision_id.and_then(|id| latest.get(&id));
            let is_left = left.contains(&deployment.id);
            let meaning = outcome
                .found
                .as_ref()
                .map(|commit| (commit, decide(deployment, newest, is_left, commit)));
            looked.push(Looked {
                deployment,
                outcome,
                meaning,
            });
        }
        let at = now();
        for chunk in looked.chunks(ROWS_AT_ONCE) {
            record(&tx, chunk, at).await?;
        }
        let moving = looked
            .iter()
            .filter(|looked| matches!(looked.meaning, Ok((_, Decision::Deploy))));
        // Locked for all of them here, by id: each by itself below would be in any order.
        standings_of(&tx, moving.map(|looked| looked.deployment.id)).await?;
        let mut recorded = PollsRecorded::default();
        for Looked {
            deployment,
            meaning,
            ..
        } in looked
        {
            if let Ok((commit, Decision::Deploy)) = meaning {
                let making =
                    Making::of(deployment, RevisionCause::NewCommit).at_commit(commit.clone());
                recorded
                    .steps
                    .extend(making.save(&tx, self.incarnation()).await?.steps);
            }
        }
        tx.commit().await?;
        Ok(recorded)
    }
}

/// One outcome, and what it means for its deployment.
struct Looked<'a> {
    deployment: &'a deployment::Model,
    outcome: &'a PollOutcome,
    meaning: Result<(&'a CommitId, Decision), &'a String>,
}

/// Whether the deployment still follows what was looked at.
fn is_about(outcome: &PollOutcome, deployment: &deployment::Model) -> bool {
    let Source::GitApp(git) = &deployment.source.0 else {
        return false;
    };
    git.url == outcome.source.url && git.git_ref == outcome.source.git_ref
}

/// What a found commit means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    /// It is to be a revision.
    Deploy,
    /// It is known.
    Known,
    /// Not to be decided now: a later look finds it again.
    Undecided,
}

/// `is_left`: the newest revision went back from what was found.
fn decide(
    deployment: &deployment::Model,
    newest: Option<&revision::Model>,
    is_left: bool,
    found: &CommitId,
) -> Decision {
    // Stopped while its repository was being looked at: the commit is for when it is started again.
    if deployment.desired_state != DesiredState::Running {
        return Decision::Undecided;
    }
    if deployment.last_seen_commit.as_deref() == Some(found.as_str()) {
        return Decision::Known;
    }
    let Some(newest) = newest else {
        return Decision::Deploy;
    };
    match newest
        .source_version
        .as_deref()
        .or(newest.wanted_commit.as_deref())
    {
        // Also when it failed: the same commit is not tried for ever.
        Some(version) if version == found.as_str() => Decision::Known,
        // Somebody chose an older commit on purpose: it was left, or nothing was seen of this ref before.
        Some(_)
            if newest.cause == RevisionCause::Rollback
                && (is_left || deployment.last_seen_commit.is_none()) =>
        {
            Decision::Known
        }
        Some(_) => Decision::Deploy,
        // It may turn out to be about this very commit.
        None if newest.status.is_open() => Decision::Undecided,
        // Given up before it fetched anything, by somebody who did not want it.
        None if newest.status == ApplicationStatus::Cancelled => Decision::Known,
        None => Decision::Deploy,
    }
}

#[derive(FromQueryResult)]
struct Left {
    deployment_id: DeploymentId,
}

/// The deployments whose newest revision went back behind what was found now: that was left on
/// purpose, also when no look had seen it before somebody deployed it by hand.
async fn left_by_rollback(
    tx: &Tx<'_>,
    outcomes: &[PollOutcome],
    latest: &HashMap<RevisionId, revision::Model>,
) -> Result<HashSet<DeploymentId>, StoreError> {
    let newest: HashMap<DeploymentId, &revision::Model> = latest
        .values()
        .filter(|newest| newest.cause == RevisionCause::Rollback)
        .map(|newest| (newest.deployment_id, newest))
        .collect();
    let rows = outcomes.iter().filter_map(|outcome| -> Option<[Value; 4]> {
        let newest = newest.get(&outcome.deployment_id)?;
        let found = outcome.found.as_ref().ok()?;
        let version = newest.wanted_commit.as_deref()?;
        Some([
            newest.deployment_id.into(),
            newest.number.into(),
            version.into(),
            found.as_str().into(),
        ])
    });
    let rows: Vec<_> = rows.collect();
    let mut left = HashSet::new();
    for chunk in rows.chunks(ROWS_AT_ONCE) {
        let found: Vec<Left> = tx
            .sql("SELECT DISTINCT o.deployment_id FROM ")
            .rows(chunk.iter().cloned())
            .push(" JOIN revisions o ON o.deployment_id = v.column1 AND o.number < v.column2")
            .push(" AND COALESCE(o.source_version, o.wanted_commit) = v.column4 AND o.number > COALESCE(")
            .push("(SELECT MAX(g.number) FROM revisions g WHERE g.deployment_id = v.column1")
            .push(" AND g.number < v.column2 AND g.source_version = v.column3), 0)")
            .all(&**tx)
            .await?;
        left.extend(found.into_iter().map(|it| it.deployment_id));
    }
    Ok(left)
}

async fn record(tx: &Tx<'_>, looked: &[Looked<'_>], at: Time) -> Result<(), StoreError> {
    if looked.is_empty() {
        return Ok(());
    }
    let rows = looked.iter().map(|looked| -> [Value; 4] {
        let seen = match looked.meaning {
            Ok((commit, Decision::Deploy | Decision::Known)) => Some(commit.to_string()),
            Ok((_, Decision::Undecided)) | Err(_) => None,
        };
        let error = looked.meaning.err().map(|error| clean(error, ERROR_LIMIT));
        [
            looked.deployment.id.into(),
            (at + looked.outcome.next_in).into(),
            seen.into(),
            error.into(),
        ]
    });
    tx.sql("UPDATE deployments SET last_polled_at = ")
        .bind(at)
        .push(
            ", next_poll_at = v.column2, last_seen_commit = COALESCE(v.column3, last_seen_commit), last_poll_error = v.column4, \
             poll_claim_token = NULL, poll_claimed_until = NULL FROM ",
        )
        .rows(rows)
        .push(" WHERE deployments.id = v.column1")
        .run(&**tx)
        .await?;
    Ok(())
}

async fn latest_revisions(
    tx: &Tx<'_>,
    deployments: impl Iterator<Item = &deployment::Model>,
) -> Result<HashMap<RevisionId, revision::Model>, StoreError> {
    let ids = deployments.filter_map(|deployment| deployment.latest_revision_id);
    let rows = revision::Entity::find()
        .filter(revision::Column::Id.is_in(ids))
        .all(&**tx)
        .await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}
