//! Looking at repositories: who is due, and what a look found.

use super::column::{JsonText, Time, now};
use super::entity::{deployment, revision};
use super::revise::Making;
use super::{Store, StoreError, Tx};
use super::dispatch::deployments_lock;
use super::report::clean;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, FromQueryResult, QueryFilter, QuerySelect};
use shared::id::{DeploymentId, RevisionId};
use shared::message::StatusEvent;
use shared::source::{CommitId, GitSource, Source};
use shared::status::{ApplicationStatus, DesiredState, RevisionCause};
use std::collections::HashMap;
use std::time::Duration;
use uuid::Uuid;

/// How soon a ref is looked at again while the newest revision has not said yet what it fetched.
const UNDECIDED: Duration = Duration::from_secs(5);
/// How much of an error is kept, in bytes.
const ERROR_LIMIT: usize = 2048;

/// A repository that is due for a look.
#[derive(Clone, Debug)]
pub struct DuePoll {
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// What to look at.
    pub source: GitSource,
    /// The commit that the ref named last time.
    pub last_seen_commit: Option<CommitId>,
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
    last_seen_commit: Option<String>,
}

impl Store {
    /// Claims up to `limit` repositories that are due, for as long as `lease`. Only deployments that
    /// should run are watched.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn git_polls_due(&self, limit: u64, lease: Duration) -> Result<(Uuid, Vec<DuePoll>), StoreError> {
        let token = Uuid::new_v4();
        let tx = self.write().await?;
        let claim = tx.sql("UPDATE deployments SET poll_claim_token = ").bind(token).push(", poll_claimed_until = ").later(lease);
        let rows: Vec<Row> = claim
            .push(
                " WHERE id IN (SELECT d.id FROM deployments d WHERE d.next_poll_at IS NOT NULL AND d.desired_state = 'RUNNING' \
                 AND d.next_poll_at <= ",
            )
            .now()
            .push(" AND (d.poll_claimed_until IS NULL OR d.poll_claimed_until < ")
            .now()
            .push(") ORDER BY d.next_poll_at LIMIT ")
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .locked_or_skipped("d")
            .push(") RETURNING id, source, last_seen_commit")
            .all(&*tx)
            .await?;
        tx.commit().await?;
        let due = rows.into_iter().filter_map(|row| {
            let Source::GitApp(source) = row.source.0 else { return None };
            let last_seen_commit = row.last_seen_commit.and_then(|commit| CommitId::parse(&commit).ok());
            Some(DuePoll { deployment_id: row.id, source, last_seen_commit })
        });
        Ok((token, due.collect()))
    }

    /// When the next repository is due; none when none is watched.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn git_poll_next(&self) -> Result<Option<Time>, StoreError> {
        let next: Option<Option<Time>> = deployment::Entity::find()
            .select_only()
            .column_as(deployment::Column::NextPollAt.min(), "next")
            .filter(deployment::Column::NextPollAt.is_not_null())
            .filter(deployment::Column::DesiredState.eq(DesiredState::Running))
            .into_tuple()
            .one(self.reader())
            .await?;
        Ok(next.flatten())
    }

    /// Records what looks found. A commit that neither was seen before nor is what the newest
    /// revision is about becomes a new revision. Outcomes whose claim was lost, or whose deployment
    /// points elsewhere meanwhile, are left out.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was recorded, and the repositories are due again after the lease.
    pub async fn git_polls_record(&self, token: Uuid, outcomes: &[PollOutcome]) -> Result<PollsRecorded, StoreError> {
        let tx = self.write().await?;
        let deployments = deployments_lock(&tx, outcomes.iter().map(|outcome| outcome.deployment_id)).await?;
        let latest = latest_revisions(&tx, deployments.values()).await?;
        let mut recorded = PollsRecorded::default();
        for outcome in outcomes {
            let Some(deployment) = deployments.get(&outcome.deployment_id) else { continue };
            let about_this = matches!(&deployment.source.0, Source::GitApp(git) if git.url == outcome.source.url && git.git_ref == outcome.source.git_ref);
            if deployment.poll_claim_token != Some(token) || !about_this {
                continue;
            }
            let newest = deployment.latest_revision_id.and_then(|id| latest.get(&id));
            let decision = outcome.found.as_ref().map(|commit| (commit, decide(deployment, newest, commit)));
            record(&tx, deployment, outcome, &decision).await?;
            if let Ok((commit, Decision::Deploy)) = decision {
                if deployment.desired_state == DesiredState::Running {
                    let making = Making::of(deployment, RevisionCause::NewCommit).at_commit(commit.clone());
                    recorded.steps.extend(making.save(&tx, self.incarnation()).await?);
                }
            }
        }
        tx.commit().await?;
        Ok(recorded)
    }
}

/// What a found commit means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    /// It is to be a revision.
    Deploy,
    /// It is known.
    Known,
    /// The newest revision may turn out to be about it: look again soon.
    Undecided,
}

fn decide(deployment: &deployment::Model, newest: Option<&revision::Model>, found: &CommitId) -> Decision {
    if deployment.last_seen_commit.as_deref() == Some(found.as_str()) {
        return Decision::Known;
    }
    let Some(newest) = newest else { return Decision::Deploy };
    match newest.source_version.as_deref().or(newest.wanted_commit.as_deref()) {
        Some(version) if version == found.as_str() => Decision::Known,
        // Nothing was seen of this ref before, and somebody chose an older commit on purpose.
        Some(_) if newest.cause == RevisionCause::Rollback && deployment.last_seen_commit.is_none() => Decision::Known,
        Some(_) => Decision::Deploy,
        None if newest.status.is_open() => Decision::Undecided,
        // Given up before it fetched anything, by somebody who did not want it.
        None if newest.status == ApplicationStatus::Cancelled => Decision::Known,
        None => Decision::Deploy,
    }
}

async fn record(
    tx: &Tx<'_>,
    deployment: &deployment::Model,
    outcome: &PollOutcome,
    decision: &Result<(&CommitId, Decision), &String>,
) -> Result<(), StoreError> {
    let at = now();
    let mut changed = deployment::ActiveModel {
        id: Set(deployment.id),
        last_polled_at: Set(Some(at)),
        next_poll_at: Set(Some(at + outcome.next_in)),
        poll_claim_token: Set(None),
        poll_claimed_until: Set(None),
        ..Default::default()
    };
    match decision {
        Ok((_, Decision::Undecided)) => {
            changed.next_poll_at = Set(Some(at + outcome.next_in.min(UNDECIDED)));
            changed.last_poll_error = Set(None);
        }
        Ok((commit, _)) => {
            changed.last_seen_commit = Set(Some(commit.to_string()));
            changed.last_poll_error = Set(None);
        }
        Err(error) => changed.last_poll_error = Set(Some(clean(error, ERROR_LIMIT))),
    }
    deployment::Entity::update(changed).exec(&**tx).await?;
    Ok(())
}

async fn latest_revisions(
    tx: &Tx<'_>,
    deployments: impl Iterator<Item = &deployment::Model>,
) -> Result<HashMap<RevisionId, revision::Model>, StoreError> {
    let ids = deployments.filter_map(|deployment| deployment.latest_revision_id);
    let rows = revision::Entity::find().filter(revision::Column::Id.is_in(ids)).all(&**tx).await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}
