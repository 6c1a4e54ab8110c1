//! New revisions of deployments: asked for, found by a watcher, or going back to an earlier one.

use super::acting::{Acted, Acting};
use super::column::{JsonText, Time, now};
use super::create::{requested_revision, watching};
use super::dispatch::deployments_lock;
use super::entity::{deployment, revision};
use super::ledger::{Standing, standings_of};
use super::{Store, StoreError, Tx};
use crate::error::CommandError;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
};
use shared::id::{DeploymentId, StoreIncarnation};
use shared::source::{CommitId, GitRef, Source};
use shared::status::{ApplicationStatus, DesiredState, RevisionCause};

/// A revision to be made.
#[derive(Clone, Debug)]
pub struct NewRevision {
    /// Of which deployment.
    pub deployment_id: DeploymentId,
    /// What for.
    pub cause: RevisionCause,
    /// The deployment's Git ref from now on; as before when absent.
    pub git_ref: Option<GitRef>,
}

/// Which revision to go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollbackTo {
    /// The last one before the present that was RUNNING.
    LastGood,
    /// The one of this number.
    Number(i32),
}

impl Store {
    /// Makes a revision. An older one that is on its way is superseded: at once when no node has it,
    /// else its node is asked to give it up first.
    ///
    /// # Errors
    /// `NOT_FOUND`; `INVALID_INPUT` for a ref of a source that has none; `CONFLICT` when the
    /// deployment is or is being destroyed; `UNAVAILABLE`.
    pub async fn revision_request(&self, new: &NewRevision) -> Result<Acted, CommandError> {
        let tx = self.write().await?;
        let deployment = living(&tx, new.deployment_id).await?;
        let mut making = Making::of(&deployment, new.cause);
        if let Some(git_ref) = &new.git_ref {
            making.point_at(git_ref)?;
        }
        let acted = making.save(&tx, self.incarnation()).await?;
        tx.commit().await?;
        Ok(acted)
    }

    /// Makes a revision of what an earlier one ran.
    ///
    /// # Errors
    /// `NOT_FOUND`; `CONFLICT` when there is nothing to go back to or the deployment is or is being
    /// destroyed; `UNAVAILABLE`.
    pub async fn revision_rollback(
        &self,
        id: DeploymentId,
        to: RollbackTo,
    ) -> Result<Acted, CommandError> {
        let tx = self.write().await?;
        let deployment = living(&tx, id).await?;
        let target = rollback_target(&tx, &deployment, to).await?;
        let mut making = Making::of(&deployment, RevisionCause::Rollback);
        making.repeat(&target)?;
        let acted = making.save(&tx, self.incarnation()).await?;
        tx.commit().await?;
        Ok(acted)
    }
}

/// Locks a deployment that is neither destroyed nor about to be.
pub(super) async fn living(
    tx: &Tx<'_>,
    id: DeploymentId,
) -> Result<deployment::Model, CommandError> {
    let deployment = deployments_lock(tx, [id])
        .await?
        .remove(&id)
        .ok_or_else(|| CommandError::not_found("deployment", id))?;
    match (deployment.desired_state, &deployment.live_name) {
        (DesiredState::Destroyed, Some(_)) => Err(CommandError::conflict(format!(
            "`{}` is being destroyed: its name is free once nothing of it is left",
            deployment.name
        ))),
        (DesiredState::Destroyed, None) => Err(CommandError::conflict(format!(
            "`{}` is already destroyed",
            deployment.name
        ))),
        _ => Ok(deployment),
    }
}

/// The revision that is gone back to; it got as far as a known commit or digest.
async fn rollback_target(
    tx: &Tx<'_>,
    deployment: &deployment::Model,
    to: RollbackTo,
) -> Result<revision::Model, CommandError> {
    let revisions =
        revision::Entity::find().filter(revision::Column::DeploymentId.eq(deployment.id));
    match to {
        RollbackTo::Number(number) => {
            let found = revisions
                .filter(revision::Column::Number.eq(number))
                .one(&**tx)
                .await
                .map_err(StoreError::from)?;
            let target = found.ok_or_else(|| {
                CommandError::not_found("revision", format!("{number} of {}", deployment.name))
            })?;
            if target.source_version.is_none() {
                let what = format!(
                    "revision {number} of `{}` never got as far as a version: there is nothing to go back to",
                    deployment.name
                );
                return Err(CommandError::conflict(what));
            }
            Ok(target)
        }
        RollbackTo::LastGood => {
            let active = match deployment.active_revision_id {
                Some(id) => revision::Entity::find_by_id(id)
                    .one(&**tx)
                    .await
                    .map_err(StoreError::from)?,
                None => None,
            };
            // What serves is left, with the version that it is of: a move or a redeploy may have made
            // several revisions of one. When nothing serves, the newest that ever did is what to go
            // back to.
            let active = active.filter(|active| !active.status.is_final());
            let mut earlier = revisions
                .filter(revision::Column::WasRunning.eq(true))
                .filter(revision::Column::SourceVersion.is_not_null());
            if let Some(active) = active {
                earlier = earlier.filter(revision::Column::Number.lt(active.number));
                if let Some(version) = active.source_version {
                    earlier = earlier.filter(revision::Column::SourceVersion.ne(version));
                }
            }
            let found = earlier
                .order_by_desc(revision::Column::Number)
                .one(&**tx)
                .await
                .map_err(StoreError::from)?;
            found.ok_or_else(|| {
                CommandError::conflict(format!(
                    "`{}` has no earlier revision of another version that was RUNNING",
                    deployment.name
                ))
            })
        }
    }
}

/// A revision being made, and what it changes of its deployment.
pub(super) struct Making<'a> {
    deployment: &'a deployment::Model,
    cause: RevisionCause,
    /// The deployment's source from now on.
    source: Source,
    /// The revision's own source, where that is another.
    repeated: Option<Source>,
    commit: Option<CommitId>,
    points_elsewhere: bool,
}

impl<'a> Making<'a> {
    pub(super) fn of(deployment: &'a deployment::Model, cause: RevisionCause) -> Self {
        let source = deployment.source.0.clone();
        Self {
            deployment,
            cause,
            source,
            repeated: None,
            commit: None,
            points_elsewhere: false,
        }
    }

    /// Of this very commit.
    pub(super) fn at_commit(mut self, commit: CommitId) -> Self {
        self.commit = Some(commit);
        self
    }

    /// From this ref on.
    fn point_at(&mut self, git_ref: &GitRef) -> Result<(), CommandError> {
        let Source::GitApp(git) = &mut self.source else {
            return Err(CommandError::invalid(
                "ref",
                format_args!(
                    "`{}` has no Git source, so it has no ref",
                    self.deployment.name
                ),
            ));
        };
        self.points_elsewhere = git.git_ref.as_ref() != Some(git_ref);
        git.git_ref = Some(git_ref.clone());
        Ok(())
    }

    /// Of what `target` ran.
    fn repeat(&mut self, target: &revision::Model) -> Result<(), StoreError> {
        let (source, commit) = repeated(target)?;
        self.commit = commit;
        self.repeated = Some(source);
        Ok(())
    }

    pub(super) async fn save(
        self,
        tx: &Tx<'_>,
        store: StoreIncarnation,
    ) -> Result<Acted, StoreError> {
        let at = now();
        let number = self.deployment.latest_number + 1;
        let mut acting = Acting::new(store, self.deployment);
        acting.follows_another = self.points_elsewhere;
        for mut open in open_revisions(tx, self.deployment.id).await? {
            acting.ask(
                &mut open,
                ApplicationStatus::Superseded,
                &format!("revision {number} was asked for"),
            );
        }
        let source = self.repeated.as_ref().unwrap_or(&self.source);
        let row = requested_revision(
            self.deployment.id,
            number,
            self.cause,
            source,
            self.deployment.method,
            self.commit.as_ref(),
            at,
        );
        revision::Entity::insert(row.clone().into_active_model())
            .exec_without_returning(&**tx)
            .await?;
        acting.ledger.first_step(&row);
        deployment::Entity::update(self.changed(&row, at))
            .exec(&**tx)
            .await?;
        acting.save(tx).await
    }

    /// The deployment's row from now on.
    fn changed(&self, row: &revision::Model, at: Time) -> deployment::ActiveModel {
        let mut changed = deployment::ActiveModel {
            id: Set(self.deployment.id),
            latest_revision_id: Set(Some(row.id)),
            latest_number: Set(row.number),
            desired_state: Set(DesiredState::Running),
            updated_at: Set(at),
            ..Default::default()
        };
        if self.points_elsewhere {
            let (poll_seconds, next_poll_at) = watching(&self.source, at);
            changed.source = Set(JsonText(self.source.clone()));
            changed.poll_seconds = Set(poll_seconds);
            changed.next_poll_at = Set(next_poll_at);
            changed.last_seen_commit = Set(None);
            changed.last_poll_error = Set(None);
        }
        changed
    }
}

/// What a revision is made from that is of the very version of `target`, which got as far as one.
///
/// # Errors
/// [`StoreError::Inconsistent`] when the version is none.
pub(super) fn repeated(target: &revision::Model) -> Result<(Source, Option<CommitId>), StoreError> {
    let version = target.source_version.as_deref().unwrap_or_default();
    let lost = |error: shared::source::SourceTextError| StoreError::Inconsistent {
        what: format!(
            "revision {} has a version that does not parse: {error}",
            target.id
        ),
    };
    target.source.0.clone().pinned(version).map_err(lost)
}

/// Locks the revisions of a deployment that are on their way for the first time; one that serves and
/// is being restarted is replaced like any other that serves.
async fn open_revisions(tx: &Tx<'_>, id: DeploymentId) -> Result<Vec<Standing>, StoreError> {
    let rows = standings_of(tx, [id]).await?;
    Ok(rows
        .into_iter()
        .filter(|standing| standing.status.is_open() && !standing.is_restarting())
        .collect())
}
