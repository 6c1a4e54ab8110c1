//! New deployments, each with its first revision.

use super::column::{JsonText, Time, now};
use super::entity::{deployment, deployment_label, revision};
use super::ledger::Ledger;
use super::sql::ROWS_AT_ONCE;
use super::{Store, StoreError, Tx};
use sea_orm::{ColumnTrait, EntityTrait, FromQueryResult, IntoActiveModel, QueryFilter};
use shared::id::{DeploymentId, RevisionId};
use shared::message::StatusEvent;
use shared::name::{DeploymentName, LabelKey, LabelValue, NodeName};
use shared::source::{CommitId, Source};
use shared::status::{ApplicationStatus, DesiredState, Method, RevisionCause};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

/// A deployment to be made. Everything in it has passed its grammar.
#[derive(Clone, Debug)]
pub struct NewDeployment {
    /// Its name.
    pub name: DeploymentName,
    /// Where its versions come from.
    pub source: Source,
    /// Its labels.
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// The node that it must run on.
    pub pinned_node: Option<NodeName>,
    /// How a new revision replaces the old one.
    pub method: Option<Method>,
}

/// What became of one [`NewDeployment`].
#[derive(Clone, Debug)]
pub enum Created {
    /// It is there, with its first revision REQUESTED.
    Made {
        /// Its id.
        id: DeploymentId,
        /// The first step.
        step: StatusEvent,
    },
    /// Its name is taken.
    NameTaken {
        /// By which deployment; none when that went away meanwhile.
        by: Option<DeploymentId>,
    },
}

impl Store {
    /// Makes deployments in one transaction. One whose name is taken, also by an earlier one of the
    /// same call, is left out and does not keep the others from being made.
    ///
    /// # Errors
    /// [`StoreError`]; then none was made.
    pub async fn deployments_create(
        &self,
        new: &[NewDeployment],
    ) -> Result<Vec<Created>, StoreError> {
        let tx = self.write().await?;
        let mut made = HashMap::new();
        for chunk in new.chunks(ROWS_AT_ONCE) {
            made.extend(create_chunk(&tx, chunk).await?);
        }
        let holders = holders(&tx, new, &made).await?;
        tx.commit().await?;
        let mut given = HashSet::new();
        let answers = new.iter().map(|new| match made.get(&new.name) {
            Some((id, step)) if given.insert(&new.name) => Created::Made {
                id: *id,
                step: step.clone(),
            },
            Some((id, _)) => Created::NameTaken { by: Some(*id) },
            None => Created::NameTaken {
                by: holders.get(new.name.as_str()).copied(),
            },
        });
        Ok(answers.collect())
    }
}

/// What was made, by name, with its first step.
type Made = HashMap<DeploymentName, (DeploymentId, StatusEvent)>;

#[derive(FromQueryResult)]
struct Inserted {
    id: DeploymentId,
}

async fn create_chunk(tx: &Tx<'_>, new: &[NewDeployment]) -> Result<Made, StoreError> {
    let at = now();
    let pairs: Vec<_> = new.iter().map(|new| rows(new, at)).collect();
    let inserted: Vec<Inserted> = tx
        .sql("")
        .insert(pairs.iter().map(|(row, _)| row.clone().into_active_model()))
        .push(" ON CONFLICT (live_name) DO NOTHING RETURNING id")
        .all(&**tx)
        .await?;
    if inserted.is_empty() {
        return Ok(HashMap::new());
    }
    let inserted: HashSet<DeploymentId> = inserted.into_iter().map(|row| row.id).collect();
    let made: Vec<_> = pairs
        .iter()
        .zip(new)
        .filter(|((row, _), _)| inserted.contains(&row.id))
        .collect();
    let revisions = made
        .iter()
        .map(|((_, revision), _)| revision.clone().into_active_model());
    tx.sql("").insert(revisions).run(&**tx).await?;
    let labels = made.iter().flat_map(|((row, _), new)| {
        new.labels
            .iter()
            .map(|(key, value)| deployment_label::Model {
                deployment_id: row.id,
                key: key.to_string(),
                value: value.to_string(),
            })
    });
    let labels: Vec<_> = labels.map(IntoActiveModel::into_active_model).collect();
    for chunk in labels.chunks(ROWS_AT_ONCE) {
        tx.sql("").insert(chunk.iter().cloned()).run(&**tx).await?;
    }
    let mut ledger = Ledger::default();
    for ((_, revision), _) in &made {
        ledger.first_step(revision);
    }
    let steps = ledger.save(tx).await?;
    Ok(made
        .iter()
        .zip(steps)
        .map(|(((row, _), new), step)| (new.name.clone(), (row.id, step)))
        .collect())
}

fn rows(new: &NewDeployment, at: Time) -> (deployment::Model, revision::Model) {
    let id = DeploymentId::new();
    let (poll_seconds, next_poll_at) = watching(&new.source, at);
    let revision = first_revision(id, new, at);
    let row = deployment::Model {
        id,
        name: new.name.clone(),
        live_name: Some(new.name.to_string()),
        source: JsonText(new.source.clone()),
        desired_state: DesiredState::Running,
        method: new.method,
        pinned_node: new.pinned_node.clone(),
        node_id: None,
        active_revision_id: None,
        latest_revision_id: Some(revision.id),
        latest_number: revision.number,
        poll_seconds,
        next_poll_at,
        last_polled_at: None,
        last_seen_commit: None,
        last_poll_error: None,
        poll_claim_token: None,
        poll_claimed_until: None,
        created_at: at,
        updated_at: at,
    };
    (row, revision)
}

fn first_revision(deployment_id: DeploymentId, new: &NewDeployment, at: Time) -> revision::Model {
    requested_revision(
        deployment_id,
        1,
        RevisionCause::Created,
        &new.source,
        new.method,
        None,
        at,
    )
}

/// A revision as it is when it is asked for.
pub(super) fn requested_revision(
    deployment_id: DeploymentId,
    number: i32,
    cause: RevisionCause,
    source: &Source,
    method: Option<Method>,
    commit: Option<&CommitId>,
    at: Time,
) -> revision::Model {
    revision::Model {
        id: RevisionId::new(),
        deployment_id,
        number,
        status: ApplicationStatus::Requested,
        failure_reason: None,
        status_detail: None,
        cause,
        source: JsonText(source.clone()),
        method,
        wanted_commit: commit.map(ToString::to_string),
        source_version: None,
        content_hash: None,
        spec: None,
        epoch: 0,
        last_report_seq: 0,
        last_event_seq: 1,
        node_id: None,
        cancel_requested_at: None,
        cancel_into: None,
        was_running: false,
        attempts: 0,
        created_at: at,
        updated_at: at,
    }
}

/// How often a source is looked at, in seconds, and when next; 0 and never for one that cannot move.
pub(crate) fn watching(source: &Source, at: Time) -> (i32, Option<Time>) {
    let Source::GitApp(git) = source else {
        return (0, None);
    };
    let fixed = git
        .git_ref
        .as_ref()
        .is_some_and(|git_ref| CommitId::parse(git_ref.as_str()).is_ok());
    let seconds = if fixed { 0 } else { git.poll_seconds };
    let next = (seconds > 0).then(|| at + Duration::from_secs(u64::from(seconds)));
    (i32::try_from(seconds).unwrap_or(i32::MAX), next)
}

/// Who holds the names that were not to be had.
async fn holders(
    tx: &Tx<'_>,
    new: &[NewDeployment],
    made: &Made,
) -> Result<HashMap<String, DeploymentId>, StoreError> {
    let taken: Vec<String> = new
        .iter()
        .filter(|new| !made.contains_key(&new.name))
        .map(|new| new.name.to_string())
        .collect();
    if taken.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = deployment::Entity::find()
        .filter(deployment::Column::LiveName.is_in(taken))
        .all(&**tx)
        .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| Some((row.live_name?, row.id)))
        .collect())
}
