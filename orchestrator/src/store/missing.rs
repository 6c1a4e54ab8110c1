//! Revisions that their nodes should have and have no record of: taken up again where their
//! containers are still there, else given out again.

use super::assignments::assignments_due;
use super::column::{JsonText, Time, now};
use super::dispatch::deployments_lock;
use super::entity::{deployment, node, work_request};
use super::fence::{fence, fenced_release, newest_open};
use super::lease::{Place, leases_held};
use super::ledger::{Because, Ledger, Standing, standings};
use super::work::{order, work_insert};
use super::{Store, StoreError, Tx};
use sea_orm::{ColumnTrait, EntityTrait, FromQueryResult, QueryFilter};
use shared::id::{DeploymentId, NodeId, RevisionId};
use shared::message::{AdoptWork, LeasedPort, RevisionMissing, StatusEvent, WorkAction};
use shared::name::{NodeName, ServiceName};
use shared::source::{CommitId, ImageDigest, Source};
use shared::spec::DeploymentSpec;
use shared::status::{ApplicationStatus, DesiredState, FailureReason};
use std::collections::{BTreeSet, HashMap, HashSet};

/// How many are taken in in one transaction.
const AT_ONCE: usize = 200;

/// What came of revisions that were missed.
#[derive(Clone, Debug, Default)]
pub struct MissingTaken {
    /// The recorded steps, in order.
    pub steps: Vec<StatusEvent>,
    /// How many nodes' containers are taken up again.
    pub adopted: usize,
}

#[derive(FromQueryResult)]
struct Known {
    id: RevisionId,
    source: JsonText<Source>,
    source_version: Option<String>,
    content_hash: Option<String>,
    spec: Option<JsonText<DeploymentSpec>>,
}

#[derive(FromQueryResult)]
struct Owner {
    id: RevisionId,
    deployment_id: DeploymentId,
}

#[derive(FromQueryResult)]
struct Given {
    id: NodeId,
    given: i64,
}

#[derive(FromQueryResult)]
struct Asked {
    revision_id: RevisionId,
    epoch: i32,
}

impl Store {
    /// Takes in that nodes have no record of revisions that they should run. What the node says of
    /// another attempt than the present one, or of what is being done there, changes nothing.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was taken in.
    pub async fn revisions_missing(
        &self,
        missing: &[RevisionMissing],
    ) -> Result<MissingTaken, StoreError> {
        let mut taken = MissingTaken::default();
        for chunk in missing.chunks(AT_ONCE) {
            let tx = self.write().await?;
            let mut taking = Taking::load(&tx, chunk).await?;
            for missing in chunk {
                taking.take(missing);
            }
            let (steps, adopted) = taking.save(self, &tx).await?;
            tx.commit().await?;
            taken.steps.extend(steps);
            taken.adopted += adopted;
        }
        Ok(taken)
    }
}

/// What is decided in one transaction, over locked rows.
struct Taking {
    at: Time,
    deployments: HashMap<DeploymentId, deployment::Model>,
    standings: HashMap<RevisionId, Standing>,
    known: HashMap<RevisionId, Known>,
    /// The ports that the deployments hold where they are.
    ports: HashMap<Place, Vec<LeasedPort>>,
    nodes: HashMap<NodeName, NodeId>,
    /// Attempts that an order is under way for.
    asked: HashSet<(RevisionId, i32)>,
    newest: HashMap<DeploymentId, i32>,
    ledger: Ledger,
    fenced: Vec<RevisionId>,
    adopt: Vec<(RevisionId, NodeId)>,
    due: BTreeSet<NodeId>,
}

impl Taking {
    async fn load(tx: &Tx<'_>, missing: &[RevisionMissing]) -> Result<Self, StoreError> {
        let ids: BTreeSet<RevisionId> = missing.iter().map(|it| it.revision_id).collect();
        // The deployments that they really belong to, whatever a node claims.
        let owners: Vec<Owner> = tx
            .sql("SELECT id, deployment_id FROM revisions WHERE id")
            .one_of(ids)
            .all(&**tx)
            .await?;
        let deployments = deployments_lock(tx, owners.iter().map(|it| it.deployment_id)).await?;
        let locked = standings(tx, owners.iter().map(|it| it.id)).await?;
        let (known, asked) = if locked.is_empty() {
            (Vec::new(), Vec::new())
        } else {
            (known(tx, &locked).await?, asked(tx, &locked).await?)
        };
        let names: BTreeSet<NodeName> = missing.iter().map(|it| it.node.clone()).collect();
        let nodes = node::Entity::find()
            .filter(node::Column::Name.is_in(names))
            .all(&**tx)
            .await?;
        let ports = leases_held(tx, deployments.keys().copied()).await?;
        Ok(Self {
            at: now(),
            ports,
            newest: newest_open(tx, deployments.keys().copied()).await?,
            deployments,
            standings: locked.into_iter().map(|it| (it.id, it)).collect(),
            known: known.into_iter().map(|it| (it.id, it)).collect(),
            nodes: nodes.into_iter().map(|it| (it.name, it.id)).collect(),
            asked: asked
                .into_iter()
                .map(|it| (it.revision_id, it.epoch))
                .collect(),
            ledger: Ledger::default(),
            fenced: Vec::new(),
            adopt: Vec::new(),
            due: BTreeSet::new(),
        })
    }

    fn take(&mut self, missing: &RevisionMissing) {
        let Some(node_id) = self.nodes.get(&missing.node).copied() else {
            return;
        };
        let Some(standing) = self.standings.get_mut(&missing.revision_id) else {
            return;
        };
        let Some(deployment) = self.deployments.get(&standing.deployment_id) else {
            return;
        };
        if standing.epoch != missing.epoch || standing.node_id != Some(node_id) {
            // An old picture: it is told the present one.
            self.due.insert(node_id);
            return;
        }
        let is_settled = standing.status.is_live()
            || standing.status == ApplicationStatus::Stopped
            || standing.is_restarting();
        if deployment.desired_state == DesiredState::Destroyed
            || !is_settled
            || !self.asked.insert((standing.id, standing.epoch))
        {
            return;
        }
        let place = (standing.deployment_id, node_id);
        let ports = self.ports.get(&place).map_or(&[][..], Vec::as_slice);
        let can_adopt = self
            .known
            .get(&standing.id)
            .is_some_and(|known| known.is_whole(ports));
        if missing.adoptable && can_adopt {
            self.adopt.push((standing.id, node_id));
            return;
        }
        if deployment.desired_state == DesiredState::Stopped {
            let node = &missing.node;
            let gone = if missing.adoptable {
                format!("node {node} has lost what it is made of; redeploy it")
            } else {
                format!("its containers are gone from node {node}; redeploy it")
            };
            let because = Because {
                failure_reason: Some(FailureReason::NodeLost),
                ..Because::of(gone)
            };
            self.ledger
                .step(standing, ApplicationStatus::Failed, because);
        } else {
            let newer = self
                .newest
                .get(&standing.deployment_id)
                .copied()
                .filter(|number| *number > standing.number);
            let why = format!("node {} has lost it", missing.node);
            fence(&mut self.ledger, standing, newer, &why);
        }
        self.fenced.push(standing.id);
        self.due.insert(node_id);
    }

    async fn save(
        self,
        store: &Store,
        tx: &Tx<'_>,
    ) -> Result<(Vec<StatusEvent>, usize), StoreError> {
        fenced_release(tx, &self.fenced).await?;
        let orders = self.adoptions(store, tx).await?;
        let adopted = orders.len();
        let steps = self.ledger.save(tx).await?;
        assignments_due(tx, self.due).await?;
        work_insert(tx, orders).await?;
        Ok((steps, adopted))
    }

    /// The orders to take up what is there: placements like any other, so they are counted.
    async fn adoptions(
        &self,
        store: &Store,
        tx: &Tx<'_>,
    ) -> Result<Vec<work_request::ActiveModel>, StoreError> {
        if self.adopt.is_empty() {
            return Ok(Vec::new());
        }
        let nodes: BTreeSet<NodeId> = self.adopt.iter().map(|(_, node_id)| *node_id).collect();
        let given: Vec<Given> = tx
            .sql("WITH these AS MATERIALIZED (SELECT n.id FROM nodes n WHERE n.id")
            .one_of(nodes)
            .push(" ORDER BY n.id")
            .locked("n")
            .push(") UPDATE nodes SET given = given + 1 WHERE id IN (SELECT id FROM these) RETURNING id, given")
            .all(&**tx)
            .await?;
        let given: HashMap<NodeId, i64> = given.into_iter().map(|it| (it.id, it.given)).collect();
        let orders = self.adopt.iter().filter_map(|(id, node_id)| {
            let standing = self.standings.get(id)?;
            let deployment = self.deployments.get(&standing.deployment_id)?;
            let known = self.known.get(id)?;
            let version = known.source_version.as_deref();
            let (commit, image_digest) = match known.source.0 {
                Source::GitApp(_) => (version.and_then(|it| CommitId::parse(it).ok()), None),
                Source::Image(_) => (
                    None,
                    version.and_then(|it| ImageDigest::of_version(it).ok()),
                ),
            };
            let work = AdoptWork {
                commit,
                image_digest,
                content_hash: known.content_hash.clone()?,
                spec: known.spec.as_ref()?.0.clone(),
                ports: self
                    .ports
                    .get(&(standing.deployment_id, *node_id))
                    .cloned()
                    .unwrap_or_default(),
                // What is wanted, not what was: an order to start it may have met a node without a record.
                stopped: deployment.desired_state == DesiredState::Stopped,
                given: given.get(node_id).copied().unwrap_or_default(),
            };
            let action = WorkAction::Adopt(Box::new(work));
            order(
                store.incarnation(),
                &deployment.name,
                standing,
                *node_id,
                action,
                self.at,
            )
        });
        Ok(orders.collect())
    }
}

impl Known {
    /// Whether a node can take the revision up: everything about it was heard of, also which ports it
    /// has. Without its ports it would run where nobody reaches it.
    fn is_whole(&self, ports: &[LeasedPort]) -> bool {
        let is_leased = |name: &ServiceName, port: u16| {
            ports
                .iter()
                .any(|leased| leased.service == *name && leased.container_port == port)
        };
        let Some(spec) = &self.spec else {
            return false;
        };
        let mut services = spec.0.services.iter();
        self.content_hash.is_some()
            && services.all(|service| {
                let mut ports = service.ports.iter();
                ports.all(|port| is_leased(&service.name, *port))
            })
    }
}

async fn known(tx: &Tx<'_>, standings: &[Standing]) -> Result<Vec<Known>, StoreError> {
    tx.sql("SELECT id, source, source_version, content_hash, spec FROM revisions WHERE id")
        .one_of(standings.iter().map(|it| it.id))
        .all(&**tx)
        .await
}

async fn asked(tx: &Tx<'_>, standings: &[Standing]) -> Result<Vec<Asked>, StoreError> {
    tx.sql("SELECT revision_id, epoch FROM work_requests WHERE finished_at IS NULL AND kind IN ('DEPLOY', 'ADOPT') AND revision_id")
        .one_of(standings.iter().map(|it| it.id))
        .all(&**tx)
        .await
}
