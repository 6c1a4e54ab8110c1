//! Nodes, as their heartbeats describe them and their silence betrays them.

use super::column::{JsonText, Time};
use super::entity::node;
use super::report::clean;
use super::sql::{ROWS_AT_ONCE, clock};
use super::{Store, StoreError, Tx};
use crate::ports::FIRST_PORT;
use chrono::TimeDelta;
use sea_orm::sea_query::{LockType, OnConflict};
use sea_orm::{
    ColumnTrait, EntityTrait, FromQueryResult, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect, Value,
};
use shared::id::NodeId;
use shared::message::Heartbeat;
use shared::name::NodeName;
use shared::status::NodeStatus;
use std::collections::BTreeMap;
use std::time::Duration;

/// How much of a node's own words is kept, in bytes.
const DETAIL_LIMIT: usize = 4096;
/// What a node is at that was lost.
const COMPARING: &str = "back after it was lost: comparing what it runs with what it should";
/// What a node is at while another process calls itself the same.
const RIVALS: &str = "two processes call themselves by this name and take each other's work: stop one, or give it \
                      a --name and a --state-dir of its own";
/// An earlier start is heard beside the last known. Once that was silent for so long, it has ended: two
/// heartbeats late.
const RIVAL_SILENCE: TimeDelta = TimeDelta::seconds(12);
/// How long it is remembered that another process was heard: three of its heartbeats.
const RIVAL_MEMORY: TimeDelta = TimeDelta::seconds(15);
/// How much of a version or address is kept, in bytes.
const WORD_LIMIT: usize = 256;

/// What a batch of heartbeats changed.
#[derive(Clone, Debug, Default)]
pub struct HeartbeatsApplied {
    /// Nodes that were not known before: each wants its work queue declared.
    pub registered: Vec<NodeName>,
    /// Nodes of which something changed that people or the scheduler look at.
    pub changed: Vec<NodeId>,
    /// How many are to be told the whole picture now: they are new, started again, or were lost.
    pub due: usize,
}

#[derive(FromQueryResult)]
struct Lost {
    id: NodeId,
}

impl Store {
    /// Takes heartbeats in. The first of an unknown name registers the node; while one of an earlier
    /// start of the node is heard beside the last known, two processes go by its name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn heartbeats_apply(
        &self,
        heartbeats: &[Heartbeat],
    ) -> Result<HeartbeatsApplied, StoreError> {
        let mut applied = HeartbeatsApplied::default();
        let newest = newest(heartbeats);
        let newest: Vec<_> = newest.into_values().collect();
        for chunk in newest.chunks(ROWS_AT_ONCE) {
            self.apply_heartbeats(chunk, &mut applied).await?;
        }
        Ok(applied)
    }

    async fn apply_heartbeats(
        &self,
        heartbeats: &[&Heartbeat],
        applied: &mut HeartbeatsApplied,
    ) -> Result<(), StoreError> {
        let tx = self.write().await?;
        // What is in the rows was told by this clock.
        let at = clock(&tx).await?;
        let known = nodes_lock(&tx, heartbeats).await?;
        let (mut unknown, mut seen, mut rivals) = (Vec::new(), Vec::new(), Vec::new());
        for heartbeat in heartbeats {
            match known.get(&heartbeat.node) {
                None => unknown.push(first_seen(heartbeat, at)),
                // Once the later start is silent this is no straggler: the later one has ended, or the
                // node's clock was set back.
                Some(row) if heartbeat.started_at < row.started_at && is_heard(row, at) => {
                    rivals.push(row.id);
                }
                Some(row) => {
                    let described = described(row, heartbeat, at);
                    if is_news(row, &described) {
                        applied.changed.push(row.id);
                    }
                    applied.due += usize::from(is_new_life(row, &described));
                    seen.push(described);
                }
            }
        }
        register(&tx, &unknown).await?;
        update(&tx, &seen).await?;
        note_rivals(&tx, &rivals).await?;
        tx.commit().await?;
        applied.due += unknown.len();
        applied.changed.extend(unknown.iter().map(|row| row.id));
        applied
            .registered
            .extend(unknown.into_iter().map(|row| row.name));
        Ok(())
    }

    /// Marks nodes as lost that were silent for longer than `silence`; which ones that were. The
    /// leases of their open work end with it: [`Store::work_expire`] gives it to others.
    ///
    /// Whoever calls this has itself listened for at least that long: otherwise the silence may be
    /// its own.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn nodes_mark_lost(&self, silence: Duration) -> Result<Vec<NodeId>, StoreError> {
        let tx = self.write().await?;
        let lost: Vec<Lost> = tx
            .sql(
                "WITH silent AS MATERIALIZED (SELECT n.id FROM nodes n WHERE n.status <> 'LOST' AND n.last_heartbeat_at < ",
            )
            .earlier(silence)
            .push(" ORDER BY n.id")
            // Whose row is locked is being heard.
            .locked_or_skipped("n")
            .push(") UPDATE nodes SET status = 'LOST', must_reconcile = TRUE, detail = ")
            .bind(format!("no heartbeat for {} s", silence.as_secs()))
            .push(", updated_at = ")
            .now()
            .push(" WHERE id IN (SELECT id FROM silent) RETURNING id")
            .all(&*tx)
            .await?;
        if !lost.is_empty() {
            tx.sql("UPDATE work_requests SET leased_until = ")
                .now()
                .push(" WHERE finished_at IS NULL AND kind IN ('DEPLOY', 'ADOPT') AND node_id")
                .one_of(lost.iter().map(|lost| lost.id))
                .run(&*tx)
                .await?;
        }
        tx.commit().await?;
        Ok(lost.into_iter().map(|lost| lost.id).collect())
    }
}

/// The last heartbeat of each node, in the order of their names.
fn newest(heartbeats: &[Heartbeat]) -> BTreeMap<&NodeName, &Heartbeat> {
    let mut newest: BTreeMap<&NodeName, &Heartbeat> = BTreeMap::new();
    for heartbeat in heartbeats {
        let last = newest.entry(&heartbeat.node).or_insert(heartbeat);
        if (heartbeat.started_at, heartbeat.at) >= (last.started_at, last.at) {
            *last = heartbeat;
        }
    }
    newest
}

async fn nodes_lock(
    tx: &Tx<'_>,
    heartbeats: &[&Heartbeat],
) -> Result<BTreeMap<NodeName, node::Model>, StoreError> {
    let rows = node::Entity::find()
        .filter(node::Column::Name.is_in(heartbeats.iter().map(|heartbeat| heartbeat.node.clone())))
        .order_by_asc(node::Column::Id)
        .lock(LockType::NoKeyUpdate)
        .all(&**tx)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.name.clone(), row))
        .collect())
}

/// The row of a node that was not known before.
fn first_seen(heartbeat: &Heartbeat, at: Time) -> node::Model {
    let blank = node::Model {
        id: NodeId::new(),
        name: heartbeat.node.clone(),
        status: NodeStatus::NotReady,
        detail: None,
        version: String::new(),
        engine_version: None,
        advertise: String::new(),
        labels: JsonText(BTreeMap::new()),
        cpu_millis: 0,
        memory_bytes: 0,
        slots: 0,
        memory_used_bytes: 0,
        memory_declared_bytes: 0,
        cpu_declared_millis: 0,
        running: 0,
        busy_slots: 0,
        port_cursor: FIRST_PORT.into(),
        cordoned: false,
        drain_until: None,
        given: 0,
        must_reconcile: false,
        assignments_due_at: Some(at),
        removed_at: None,
        rival_heard_at: None,
        started_at: at,
        last_heartbeat_at: at,
        created_at: at,
        updated_at: at,
    };
    described(&blank, heartbeat, at)
}

/// A node's row as this heartbeat describes it; what people and the orchestrator decided stays.
fn described(before: &node::Model, heartbeat: &Heartbeat, at: Time) -> node::Model {
    let (capacity, load) = (&heartbeat.capacity, &heartbeat.load);
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let said = heartbeat.detail.as_deref();
    let must_reconcile = before.must_reconcile || before.removed_at.is_some();
    let has_rival = before
        .rival_heard_at
        .is_some_and(|heard| at - heard < RIVAL_MEMORY);
    let (status, detail) = match (heartbeat.ready, must_reconcile) {
        _ if has_rival => (NodeStatus::NotReady, Some(RIVALS)),
        (true, false) => (NodeStatus::Ready, said),
        (true, true) => (NodeStatus::NotReady, Some(COMPARING)),
        (false, _) => (NodeStatus::NotReady, said),
    };
    let started_at = started(heartbeat, at);
    let is_due = before.status == NodeStatus::Lost
        || before.removed_at.is_some()
        || started_at != before.started_at;
    node::Model {
        status,
        detail: detail.map(|detail| clean(detail, DETAIL_LIMIT)),
        must_reconcile,
        assignments_due_at: if is_due {
            Some(at)
        } else {
            before.assignments_due_at
        },
        removed_at: None,
        version: clean(&heartbeat.version, WORD_LIMIT),
        engine_version: heartbeat
            .engine
            .as_deref()
            .map(|engine| clean(engine, WORD_LIMIT)),
        advertise: clean(&heartbeat.advertise, WORD_LIMIT),
        labels: JsonText(heartbeat.labels.clone()),
        cpu_millis: capacity.cpu_millis.into(),
        memory_bytes: bytes(capacity.memory_bytes),
        slots: capacity.slots.into(),
        memory_used_bytes: bytes(load.memory_used_bytes),
        memory_declared_bytes: bytes(load.memory_declared_bytes),
        cpu_declared_millis: load.cpu_declared_millis.into(),
        running: load.running.into(),
        busy_slots: load.busy_slots.into(),
        started_at,
        last_heartbeat_at: at,
        updated_at: at,
        ..before.clone()
    }
}

/// Whether the start of the node that is known was heard lately.
fn is_heard(row: &node::Model, at: Time) -> bool {
    row.status != NodeStatus::Lost && at - row.last_heartbeat_at < RIVAL_SILENCE
}

async fn note_rivals(tx: &Tx<'_>, rivals: &[NodeId]) -> Result<(), StoreError> {
    if rivals.is_empty() {
        return Ok(());
    }
    tx.sql("UPDATE nodes SET rival_heard_at = ")
        .now()
        .push(" WHERE id")
        .one_of(rivals.iter().copied())
        .run(&**tx)
        .await?;
    Ok(())
}

/// Whether the node is to be told the whole picture now.
fn is_new_life(before: &node::Model, after: &node::Model) -> bool {
    before.assignments_due_at != after.assignments_due_at
}

/// When the node process started. A clock that is years ahead must not shut out every later start.
fn started(heartbeat: &Heartbeat, at: Time) -> Time {
    use chrono::SubsecRound;
    heartbeat.started_at.trunc_subsecs(6).clamp(
        at - chrono::TimeDelta::days(3650),
        at + chrono::TimeDelta::days(1),
    )
}

/// Whether something changed that people or the scheduler look at. Used memory moves all the time.
fn is_news(before: &node::Model, after: &node::Model) -> bool {
    let looked_at = |node: &node::Model| node::Model {
        memory_used_bytes: 0,
        last_heartbeat_at: before.last_heartbeat_at,
        updated_at: before.updated_at,
        ..node.clone()
    };
    looked_at(before) != looked_at(after)
}

/// Another orchestrator hears the same heartbeats: whoever is first registers.
async fn register(tx: &Tx<'_>, rows: &[node::Model]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    node::Entity::insert_many(rows.iter().map(|row| row.clone().into_active_model()))
        .on_conflict(
            OnConflict::column(node::Column::Name)
                .do_nothing()
                .to_owned(),
        )
        .exec_without_returning(&**tx)
        .await?;
    Ok(())
}

async fn update(tx: &Tx<'_>, rows: &[node::Model]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let values = rows.iter().map(|row| -> [Value; 19] {
        [
            row.id.into(),
            row.status.into(),
            row.detail.clone().into(),
            row.version.clone().into(),
            row.engine_version.clone().into(),
            row.advertise.clone().into(),
            row.labels.clone().into(),
            row.cpu_millis.into(),
            row.memory_bytes.into(),
            row.slots.into(),
            row.memory_used_bytes.into(),
            row.memory_declared_bytes.into(),
            row.cpu_declared_millis.into(),
            row.running.into(),
            row.busy_slots.into(),
            row.started_at.into(),
            row.must_reconcile.into(),
            row.assignments_due_at.into(),
            row.removed_at.into(),
        ]
    });
    tx.sql(
        "UPDATE nodes SET status = v.column2, detail = v.column3, version = v.column4, engine_version = v.column5, \
         advertise = v.column6, labels = v.column7, cpu_millis = v.column8, memory_bytes = v.column9, slots = v.column10, \
         memory_used_bytes = v.column11, memory_declared_bytes = v.column12, cpu_declared_millis = v.column13, \
         running = v.column14, busy_slots = v.column15, started_at = v.column16, \
         must_reconcile = v.column17, assignments_due_at = v.column18, removed_at = v.column19, last_heartbeat_at = ",
    )
    .now()
    .push(", updated_at = ")
    .now()
    .push(" FROM ")
    .rows(values)
    .push(" WHERE nodes.id = v.column1")
    .run(&**tx)
    .await?;
    Ok(())
}
