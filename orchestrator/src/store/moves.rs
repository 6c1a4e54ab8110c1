//! Deployments whose node is lost or being drained: said so, and made again elsewhere where that is
//! possible.
//!
//! The new revision is of the very version that serves. What serves goes on where it is, reachable or
//! not, until the new one is RUNNING and takes over.

use super::column::{Time, now};
use super::create::requested_revision;
use super::dispatch::deployments_lock;
use super::entity::{deployment, revision};
use super::fence::{fence, fenced_release};
use super::ledger::{Because, Ledger, Standing, standings};
use super::revise::repeated;
use super::sql::ROWS_AT_ONCE;
use super::{Store, StoreError, Tx};
use crate::moving::{self, Leaving, Next, Stays, Tenant, movable};
use sea_orm::{ColumnTrait, EntityTrait, FromQueryResult, IntoActiveModel, QueryFilter, Value};
use shared::id::{DeploymentId, NodeId, RevisionId};
use shared::message::StatusEvent;
use shared::name::NodeName;
use shared::status::{ApplicationStatus, DesiredState, FailureReason, RevisionCause};
use std::collections::HashMap;
use uuid::Uuid;

/// How many of a deployment's newest revisions are looked at for tries that failed.
const LOOKED_AT: i32 = 16;
/// For how long a try counts that failed while its node was being drained, in hours.
const DRAIN_TRIES_COUNT_HOURS: i64 = 24;

/// What came of a look at deployments that are to leave their nodes.
#[derive(Clone, Debug, Default)]
pub struct Moves {
    /// The recorded steps, in order.
    pub steps: Vec<StatusEvent>,
    /// How many revisions were made for other nodes.
    pub made: usize,
    /// Where the next look goes on; none when this one has seen them all.
    pub next: Option<RevisionId>,
}

/// What serves, or should, on a node that is to be left.
#[derive(FromQueryResult)]
struct Row {
    deployment_id: DeploymentId,
    revision_id: RevisionId,
    node: NodeName,
    node_detail: Option<String>,
    is_lost: bool,
    last_heartbeat_at: Time,
}

#[derive(FromQueryResult)]
struct ToLeave {
    id: NodeId,
}

/// A revision beside the one that serves.
#[derive(FromQueryResult)]
struct Beside {
    id: RevisionId,
    deployment_id: DeploymentId,
    number: i32,
    cause: RevisionCause,
    status: ApplicationStatus,
    created_at: Time,
    updated_at: Time,
}

#[derive(FromQueryResult)]
struct Settled {
    id: RevisionId,
    cause: RevisionCause,
    node: NodeName,
}

impl Store {
    /// Looks at up to `limit` deployments that are on lost or draining nodes, beginning after `after`:
    /// says on those of lost nodes that they are not well and why, and makes revisions for those that
    /// can be elsewhere. Which those are is `moving`'s to decide.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was made.
    pub async fn tenants_move(
        &self,
        after: Option<RevisionId>,
        limit: u64,
    ) -> Result<Moves, StoreError> {
        let nodes = self.nodes_to_leave().await?;
        if nodes.is_empty() {
            return Ok(Moves::default());
        }
        let tx = self.write().await?;
        let rows = leaving(&tx, nodes, after, limit).await?;
        if rows.is_empty() {
            return Ok(Moves::default());
        }
        let is_all = (rows.len() as u64) < limit;
        let next = rows.last().filter(|_| !is_all).map(|last| last.revision_id);
        let mut round = Round::load(&tx, &rows).await?;
        for row in &rows {
            round.look(row);
        }
        let made = round.new.len();
        let steps = round.save(&tx).await?;
        tx.commit().await?;
        Ok(Moves { steps, made, next })
    }

    /// The few nodes that are lost or being drained: named, so that nothing is read of the others.
    async fn nodes_to_leave(&self) -> Result<Vec<NodeId>, StoreError> {
        let nodes: Vec<ToLeave> = self
            .sql("SELECT id FROM nodes WHERE status = 'LOST' OR drain_until > ")
            .now()
            .all(self.reader())
            .await?;
        Ok(nodes.into_iter().map(|node| node.id).collect())
    }

    /// Gives up moves that nobody has begun with and that are not needed any longer: the node serves
    /// again and is not being drained.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn moves_settle(&self) -> Result<Vec<StatusEvent>, StoreError> {
        let tx = self.write().await?;
        let needless: Vec<Settled> = tx
            .sql(
                "SELECT r.id, r.cause, n.name AS node FROM revisions r JOIN deployments d ON d.id = r.deployment_id \
                 JOIN revisions a ON a.id = d.active_revision_id JOIN nodes n ON n.id = a.node_id \
                 WHERE r.is_requested AND r.cause IN ('MOVED', 'NODE_LOST') \
                 AND a.status = 'RUNNING' AND n.status = 'READY' AND (n.drain_until IS NULL OR n.drain_until < ",
            )
            .now()
            .push(") ORDER BY r.id LIMIT 500")
            .locked_or_skipped("d, r")
            .all(&*tx)
            .await?;
        if needless.is_empty() {
            return Ok(Vec::new());
        }
        let why: HashMap<RevisionId, String> = needless
            .into_iter()
            .map(|row| {
                let why = match row.cause {
                    RevisionCause::Moved => {
                        format!("its node {} is not being drained any longer", row.node)
                    }
                    _ => format!("its node {} is back", row.node),
                };
                (row.id, why)
            })
            .collect();
        let mut ledger = Ledger::default();
        for mut standing in standings(&tx, why.keys().copied()).await? {
            let because = Because {
                failure_reason: Some(FailureReason::Cancelled),
                detail: why.get(&standing.id).cloned(),
                ..Because::default()
            };
            ledger.step(&mut standing, ApplicationStatus::Cancelled, because);
        }
        let steps = ledger.save(&tx).await?;
        tx.commit().await?;
        Ok(steps)
    }
}

async fn leaving(
    tx: &Tx<'_>,
    nodes: Vec<NodeId>,
    after: Option<RevisionId>,
    limit: u64,
) -> Result<Vec<Row>, StoreError> {
    tx.sql(
        "SELECT d.id AS deployment_id, a.id AS revision_id, n.name AS node, n.detail AS node_detail, \
         (n.status = 'LOST') AS is_lost, n.last_heartbeat_at FROM nodes n JOIN revisions a ON a.node_id = n.id \
         JOIN deployments d ON d.id = a.deployment_id AND d.active_revision_id = a.id \
         WHERE a.node_id",
    )
    .one_of(nodes)
    .push(" AND (n.status = 'LOST' OR n.drain_until > ")
    .now()
    .push(
        ") AND a.is_placed AND a.status IN ('RUNNING', 'DEGRADED', 'STARTING', 'VERIFYING', 'STOPPED') \
         AND d.desired_state <> 'DESTROYED' AND (a.status <> 'STOPPED' OR d.desired_state = 'RUNNING') AND a.id > ",
    )
    .bind(after.unwrap_or(RevisionId(Uuid::nil())))
    .push(" ORDER BY a.id LIMIT ")
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    // The revision waits for its deployment everywhere: this lock keeps both as they are.
    .locked_or_skipped("d")
    .all(&**tx)
    .await
}

/// What is decided in one transaction, over locked rows.
struct Round {
    at: Time,
    deployments: HashMap<DeploymentId, deployment::Model>,
    standings: HashMap<RevisionId, Standing>,
    models: HashMap<RevisionId, revision::Model>,
    /// Newest first.
    beside: HashMap<DeploymentId, Vec<Beside>>,
    ledger: Ledger,
    new: Vec<revision::Model>,
    fenced: Vec<RevisionId>,
}

/// What is to become of a deployment.
enum Verdict {
    Stays(&'static str),
    Leaves(Next),
    /// Another revision of it is on its way.
    Replaced {
        by: i32,
    },
}

impl Round {
    async fn load(tx: &Tx<'_>, rows: &[Row]) -> Result<Self, StoreError> {
        let deployments = deployments_lock(tx, rows.iter().map(|row| row.deployment_id)).await?;
        let locked = standings(tx, rows.iter().map(|row| row.revision_id)).await?;
        let models = revision::Entity::find()
            .filter(revision::Column::Id.is_in(rows.iter().map(|row| row.revision_id)))
            .all(&**tx)
            .await?;
        let recent: Vec<Beside> = tx
            .sql(
                "SELECT r.id, r.deployment_id, r.number, r.cause, r.status, r.created_at, r.updated_at FROM revisions r \
                 JOIN deployments d ON d.id = r.deployment_id AND r.number > d.latest_number - ",
            )
            .bind(LOOKED_AT)
            .push(" WHERE d.id")
            .one_of(rows.iter().map(|row| row.deployment_id))
            .push(" ORDER BY r.number DESC")
            .all(&**tx)
            .await?;
        let mut beside: HashMap<DeploymentId, Vec<Beside>> = HashMap::new();
        for row in recent {
            beside.entry(row.deployment_id).or_default().push(row);
        }
        Ok(Self {
            at: now(),
            deployments,
            standings: locked.into_iter().map(|row| (row.id, row)).collect(),
            models: models.into_iter().map(|row| (row.id, row)).collect(),
            beside,
            ledger: Ledger::default(),
            new: Vec::new(),
            fenced: Vec::new(),
        })
    }

    fn look(&mut self, row: &Row) {
        let Some(mut standing) = self.standings.remove(&row.revision_id) else {
            return;
        };
        let leaving = if row.is_lost {
            Leaving::Lost
        } else {
            Leaving::Draining
        };
        match self.judge(row, leaving) {
            None => {}
            Some(verdict) if standing.is_restarting() => {
                self.restarting(&mut standing, row, leaving, &verdict);
            }
            Some(verdict) if !standing.status.is_open() => {
                self.settled(&mut standing, row, leaving, &verdict);
            }
            // It was given out again, there: that order has a lease of its own.
            Some(_) => {}
        }
    }

    /// What is to become of it; nothing when it is not what serves any longer.
    fn judge(&self, row: &Row, leaving: Leaving) -> Option<Verdict> {
        let deployment = self.deployments.get(&row.deployment_id)?;
        let model = self.models.get(&row.revision_id)?;
        if deployment.active_revision_id != Some(row.revision_id) {
            return None;
        }
        let beside = self.beside.get(&row.deployment_id).map_or(&[][..], |it| it);
        let tenant = Tenant {
            pinned: deployment.pinned_node.as_ref() == Some(&row.node),
            volumes: model.spec.as_ref().is_some_and(|it| it.0.has_volumes()),
            version: repeated(model).is_ok(),
        };
        if deployment.desired_state != DesiredState::Running {
            return Some(Verdict::Stays("it is to be stopped"));
        }
        if let Err(stays) = movable(tenant) {
            return Some(Verdict::Stays(stays.reason()));
        }
        let open = beside
            .iter()
            .find(|it| it.id != row.revision_id && it.status.is_open());
        if let Some(open) = open {
            return Some(Verdict::Replaced { by: open.number });
        }
        let counts_from = match leaving {
            Leaving::Lost => row.last_heartbeat_at,
            Leaving::Draining => self.at - chrono::TimeDelta::hours(DRAIN_TRIES_COUNT_HOURS),
        };
        let failed = beside
            .iter()
            .take_while(|it| it.is_failed_move() && it.created_at > counts_from)
            .count();
        let ended = beside.first().map_or(self.at, |newest| newest.updated_at);
        let since = (self.at - ended).to_std().unwrap_or_default();
        Some(Verdict::Leaves(moving::next(failed, since)))
    }

    /// What serves, or was stopped and is to run again.
    fn settled(&mut self, standing: &mut Standing, row: &Row, leaving: Leaving, verdict: &Verdict) {
        let is_live = standing.status.is_live();
        if leaving == Leaving::Lost && is_live {
            self.say(standing, row.lost(verdict));
        }
        let moves = matches!(verdict, Verdict::Leaves(Next::Move));
        if moves && (is_live || leaving == Leaving::Lost) {
            self.make(row, leaving);
        }
    }

    /// It was being started again when its node was lost: it is given out anew.
    fn restarting(
        &mut self,
        standing: &mut Standing,
        row: &Row,
        leaving: Leaving,
        verdict: &Verdict,
    ) {
        if leaving != Leaving::Lost {
            return;
        }
        let why = format!("node {} was lost while it was being started", row.node);
        match verdict {
            Verdict::Stays(_) => self.say(standing, row.lost(verdict)),
            Verdict::Leaves(_) => {
                fence(&mut self.ledger, standing, None, &why);
                self.fenced.push(standing.id);
            }
            Verdict::Replaced { by } => {
                fence(&mut self.ledger, standing, Some(*by), &why);
                self.fenced.push(standing.id);
            }
        }
    }

    /// Says how it is: a step when that is one, else only the words.
    fn say(&mut self, standing: &mut Standing, detail: String) {
        if standing.status == ApplicationStatus::Running {
            let because = Because::of(detail);
            self.ledger
                .step(standing, ApplicationStatus::Degraded, because);
        } else if standing.status_detail.as_ref() != Some(&detail) {
            standing.status_detail = Some(detail);
            self.ledger.touch(standing);
        }
    }

    fn make(&mut self, row: &Row, leaving: Leaving) {
        let (Some(deployment), Some(model)) = (
            self.deployments.get(&row.deployment_id),
            self.models.get(&row.revision_id),
        ) else {
            return;
        };
        let Ok((source, commit)) = repeated(model) else {
            return;
        };
        let mut new = requested_revision(
            deployment.id,
            deployment.latest_number + 1,
            leaving.cause(),
            &source,
            deployment.method,
            commit.as_ref(),
            self.at,
        );
        new.status_detail = Some(match leaving {
            Leaving::Lost => format!("its node {} is lost", row.node),
            Leaving::Draining => format!("its node {} is being drained", row.node),
        });
        self.new.push(new);
    }

    async fn save(mut self, tx: &Tx<'_>) -> Result<Vec<StatusEvent>, StoreError> {
        for chunk in self.new.chunks(ROWS_AT_ONCE) {
            let rows = chunk.iter().map(|row| row.clone().into_active_model());
            revision::Entity::insert_many(rows)
                .exec_without_returning(&**tx)
                .await?;
            let latest = chunk.iter().map(|row| -> [Value; 4] {
                [
                    row.deployment_id.into(),
                    row.id.into(),
                    row.number.into(),
                    self.at.into(),
                ]
            });
            tx.sql("UPDATE deployments SET latest_revision_id = v.column2, latest_number = v.column3, updated_at = v.column4 FROM ")
                .rows(latest)
                .push(" WHERE deployments.id = v.column1")
                .run(&**tx)
                .await?;
        }
        for row in &self.new {
            self.ledger.first_step(row);
        }
        fenced_release(tx, &self.fenced).await?;
        orders_close(tx, &self.fenced).await?;
        self.ledger.save(tx).await
    }
}

/// Ends the orders to start them again where they were.
async fn orders_close(tx: &Tx<'_>, revisions: &[RevisionId]) -> Result<(), StoreError> {
    if revisions.is_empty() {
        return Ok(());
    }
    tx.sql("UPDATE work_requests SET finished_at = ")
        .now()
        .push(", refused_reason = 'its node was lost' WHERE finished_at IS NULL AND kind IN ('START', 'RESTART', 'STOP', 'ADOPT') AND revision_id")
        .one_of(revisions.iter().copied())
        .run(&**tx)
        .await?;
    Ok(())
}

impl Row {
    /// What a person reads on a deployment whose node is lost.
    fn lost(&self, verdict: &Verdict) -> String {
        let silence = self.node_detail.as_deref().unwrap_or("it is silent");
        let rest = match verdict {
            Verdict::Stays(reason) => format!("it stays: {reason}"),
            Verdict::Leaves(Next::GiveUp) => format!("it stays: {}", Stays::Tried.reason()),
            Verdict::Leaves(Next::Move | Next::Later) | Verdict::Replaced { .. } => {
                "it is being moved".to_owned()
            }
        };
        format!("node {} is lost: {silence}; {rest}", self.node)
    }
}

impl Beside {
    /// A try to be elsewhere that came to nothing.
    fn is_failed_move(&self) -> bool {
        use ApplicationStatus as S;
        let is_move = matches!(self.cause, RevisionCause::Moved | RevisionCause::NodeLost);
        is_move && matches!(self.status, S::Failed | S::RolledBack | S::Cancelled)
    }
}
