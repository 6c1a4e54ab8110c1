//! Writing what a batch of reports did.

use super::book::{Book, PortFacts};
use super::{ReportsApplied, parked_row};
use crate::store::assignments::assignments_due;
use crate::store::column::{LeaseState, Time, now};
use crate::store::entity::{deployment, parked_report, port_lease, service_state, work_request};
use crate::store::offer::{offers_take, offers_withdraw};
use crate::store::sql::ROWS_AT_ONCE;
use crate::store::work::{order, work_insert};
use crate::store::{StoreError, Tx};
use sea_orm::sea_query::{Expr, IntoCondition, OnConflict};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, EntityTrait, FromQueryResult, QueryFilter, Value,
};
use shared::id::{DeploymentId, NodeId, RevisionId, StoreIncarnation};
use shared::message::{LeasedPort, ServiceFacts, ServiceSelection, WorkAction};
use shared::name::ServiceName;
use std::collections::{BTreeMap, BTreeSet};

pub(super) async fn save(
    tx: &Tx<'_>,
    book: Book,
    store: StoreIncarnation,
) -> Result<ReportsApplied, StoreError> {
    let stops = stops(&book, store);
    let Book {
        ledger,
        ignored,
        effects,
        ..
    } = book;
    let at = now();
    let steps = ledger.save(tx).await?;
    let pictures_due = effects.pictures_due.len();
    assignments_due(tx, effects.pictures_due).await?;
    let orders = stops.len();
    work_insert(tx, stops).await?;
    let parked = effects.park.len();
    for chunk in effects.park.chunks(ROWS_AT_ONCE) {
        park(tx, chunk.iter().map(parked_row)).await?;
    }
    unpark(tx, &effects.unpark).await?;
    activate(tx, &effects.activated, at).await?;
    ports(tx, effects.ports, at).await?;
    release(tx, &effects.ended, &effects.emptied).await?;
    services(tx, &effects.services, at).await?;
    destroy(tx, &effects.destroyed, at).await?;
    Ok(ReportsApplied {
        steps,
        ignored,
        parked,
        pictures_due,
        orders,
    })
}

/// The orders to stop what runs although its deployment was stopped.
fn stops(book: &Book, store: StoreIncarnation) -> Vec<work_request::ActiveModel> {
    let running = book
        .effects
        .to_stop
        .iter()
        .filter_map(|id| book.standings.get(id))
        .filter(|standing| standing.status.is_live());
    running
        .filter_map(|standing| {
            let deployment = book.deployments.get(&standing.deployment_id)?;
            let stop = WorkAction::Stop(ServiceSelection::default());
            order(
                store,
                &deployment.name,
                standing,
                standing.node_id?,
                stop,
                now(),
            )
        })
        .collect()
}

async fn park(
    tx: &Tx<'_>,
    rows: impl Iterator<Item = parked_report::ActiveModel>,
) -> Result<(), StoreError> {
    let key = [
        parked_report::Column::RevisionId,
        parked_report::Column::Epoch,
        parked_report::Column::ReportSeq,
    ];
    parked_report::Entity::insert_many(rows)
        .on_conflict(OnConflict::columns(key).do_nothing().to_owned())
        .exec_without_returning(&**tx)
        .await?;
    Ok(())
}

async fn unpark(tx: &Tx<'_>, keys: &[super::ReportKey]) -> Result<(), StoreError> {
    for chunk in keys.chunks(ROWS_AT_ONCE) {
        let any = chunk
            .iter()
            .fold(Condition::any(), |any, (revision_id, epoch, seq)| {
                any.add(
                    Condition::all()
                        .add(parked_report::Column::RevisionId.eq(*revision_id))
                        .add(parked_report::Column::Epoch.eq(*epoch))
                        .add(parked_report::Column::ReportSeq.eq(*seq)),
                )
            });
        parked_report::Entity::delete_many()
            .filter(any)
            .exec(&**tx)
            .await?;
    }
    Ok(())
}

async fn activate(
    tx: &Tx<'_>,
    activated: &BTreeMap<DeploymentId, RevisionId>,
    at: Time,
) -> Result<(), StoreError> {
    if activated.is_empty() {
        return Ok(());
    }
    tx.sql(
        "UPDATE deployments SET active_revision_id = v.column2, updated_at = v.column3, \
         node_id = (SELECT r.node_id FROM revisions r WHERE r.id = v.column2) FROM ",
    )
    .rows(
        activated
            .iter()
            .map(|(id, revision_id)| [(*id).into(), (*revision_id).into(), at.into()]),
    )
    .push(" WHERE deployments.id = v.column1")
    .run(&**tx)
    .await?;
    Ok(())
}

#[derive(FromQueryResult)]
struct Lease {
    node_id: NodeId,
    port: i32,
    deployment_id: DeploymentId,
    service: Option<ServiceName>,
    container_port: Option<i32>,
}

impl Lease {
    fn says(&self, port: &LeasedPort) -> bool {
        self.service.as_ref() == Some(&port.service)
            && self.container_port == Some(i32::from(port.container_port))
    }
}

/// Offered ports that are used become leases. What a settled revision does not use goes back, unless
/// another revision of the deployment is on its way and may have chosen it. A port that the deployment
/// was never given is not its to use, and is not recorded.
async fn ports(
    tx: &Tx<'_>,
    facts: BTreeMap<(DeploymentId, NodeId), PortFacts>,
    at: Time,
) -> Result<(), StoreError> {
    if facts.is_empty() {
        return Ok(());
    }
    let held: Vec<Lease> = tx
        .sql("SELECT node_id, port, deployment_id, service, container_port FROM port_leases WHERE deployment_id")
        .one_of(facts.keys().map(|(deployment_id, _)| *deployment_id))
        .all(&**tx)
        .await?;
    let mut held: BTreeMap<(DeploymentId, NodeId, i32), Lease> = held
        .into_iter()
        .map(|lease| ((lease.deployment_id, lease.node_id, lease.port), lease))
        .collect();
    let chosen: BTreeSet<RevisionId> = facts.values().map(|facts| facts.revision_id).collect();
    let offers = offers_take(tx, &chosen).await?;
    let (mut new, mut changed, mut unused) = (
        Vec::new(),
        Vec::<[Value; 4]>::new(),
        Vec::<[Value; 2]>::new(),
    );
    for ((deployment_id, node_id), facts) in facts {
        let offer = offers.get(&(facts.revision_id, node_id));
        let mut named = BTreeSet::new();
        for port in facts.ports.iter().filter(|port| named.insert(port.port)) {
            match held.remove(&(deployment_id, node_id, i32::from(port.port))) {
                Some(lease) if lease.says(port) => {}
                Some(lease) => changed.push([
                    node_id.into(),
                    lease.port.into(),
                    port.service.clone().into(),
                    i32::from(port.container_port).into(),
                ]),
                None if offer.is_some_and(|offer| offer.contains(&port.port)) => {
                    new.push(lease_row(deployment_id, node_id, port, at));
                }
                None => {}
            }
        }
        if facts.settled {
            let rest =
                held.range((deployment_id, node_id, i32::MIN)..=(deployment_id, node_id, i32::MAX));
            unused.extend(rest.map(|(_, lease)| [lease.node_id.into(), lease.port.into()]));
        }
    }
    for chunk in changed.chunks(ROWS_AT_ONCE) {
        tx.sql("UPDATE port_leases SET service = v.column3, container_port = v.column4 FROM ")
            .rows(chunk.iter().cloned())
            .push(" WHERE port_leases.node_id = v.column1 AND port_leases.port = v.column2")
            .run(&**tx)
            .await?;
    }
    for chunk in unused.chunks(ROWS_AT_ONCE) {
        tx.sql(
            "DELETE FROM port_leases WHERE (node_id, port) IN (SELECT v.column1, v.column2 FROM ",
        )
        .rows(chunk.iter().cloned())
        .push(") AND NOT EXISTS (SELECT 1 FROM revisions r WHERE r.is_placed")
        .push(
            " AND r.deployment_id = port_leases.deployment_id AND r.node_id = port_leases.node_id",
        )
        .push(" AND r.status IN ('INITIALIZED', 'FETCHING', 'BUILDING', 'STARTING', 'VERIFYING'))")
        .run(&**tx)
        .await?;
    }
    for chunk in new.chunks(ROWS_AT_ONCE) {
        tx.sql("").insert(chunk.iter().cloned()).run(&**tx).await?;
    }
    Ok(())
}

fn lease_row(
    deployment_id: DeploymentId,
    node_id: NodeId,
    port: &LeasedPort,
    at: Time,
) -> port_lease::ActiveModel {
    port_lease::ActiveModel {
        node_id: Set(node_id),
        port: Set(i32::from(port.port)),
        deployment_id: Set(deployment_id),
        revision_id: Set(None),
        state: Set(LeaseState::Held),
        service: Set(Some(port.service.clone())),
        container_port: Set(Some(i32::from(port.container_port))),
        created_at: Set(at),
    }
}

/// Gives back what ended revisions were offered and what emptied deployments held.
async fn release(
    tx: &Tx<'_>,
    ended: &BTreeSet<RevisionId>,
    emptied: &BTreeSet<(DeploymentId, NodeId)>,
) -> Result<(), StoreError> {
    offers_withdraw(tx, ended.iter().copied()).await?;
    let held = emptied.iter().map(|(deployment_id, node_id)| {
        Condition::all()
            .add(port_lease::Column::DeploymentId.eq(*deployment_id))
            .add(port_lease::Column::NodeId.eq(*node_id))
    });
    delete_leases(tx, held).await
}

async fn delete_leases(
    tx: &Tx<'_>,
    which: impl Iterator<Item = Condition>,
) -> Result<(), StoreError> {
    let any = which.fold(Condition::any(), Condition::add);
    if any.is_empty() {
        return Ok(());
    }
    port_lease::Entity::delete_many()
        .filter(any)
        .exec(&**tx)
        .await?;
    Ok(())
}

/// Replaces what was known of the services of these revisions.
async fn services(
    tx: &Tx<'_>,
    services: &BTreeMap<RevisionId, Vec<ServiceFacts>>,
    at: Time,
) -> Result<(), StoreError> {
    if services.is_empty() {
        return Ok(());
    }
    tx.sql("DELETE FROM service_states WHERE revision_id")
        .one_of(services.keys().copied())
        .run(&**tx)
        .await?;
    let rows: Vec<_> = services
        .iter()
        .flat_map(|(id, facts)| named_once(facts).map(|facts| service_row(*id, facts, at)))
        .collect();
    for chunk in rows.chunks(ROWS_AT_ONCE) {
        tx.sql("").insert(chunk.iter().cloned()).run(&**tx).await?;
    }
    Ok(())
}

/// A node that names a service twice must not keep the batch from being written.
fn named_once(facts: &[ServiceFacts]) -> impl Iterator<Item = &ServiceFacts> {
    let mut seen = BTreeSet::new();
    facts.iter().filter(move |facts| seen.insert(&facts.name))
}

fn service_row(
    revision_id: RevisionId,
    facts: &ServiceFacts,
    at: Time,
) -> service_state::ActiveModel {
    service_state::ActiveModel {
        revision_id: Set(revision_id),
        service: Set(facts.name.to_string()),
        status: Set(facts.status),
        image: Set(super::clean(&facts.image, 512)),
        container: Set(facts
            .container
            .as_deref()
            .map(|container| super::clean(container, 256))),
        restarts: Set(i64::from(facts.restarts)),
        updated_at: Set(at),
    }
}

/// Frees the names of deployments of which nothing is left.
async fn destroy(
    tx: &Tx<'_>,
    destroyed: &BTreeSet<DeploymentId>,
    at: Time,
) -> Result<(), StoreError> {
    if destroyed.is_empty() {
        return Ok(());
    }
    deployment_free_names(tx, destroyed.iter().copied(), at).await?;
    tx.sql("DELETE FROM service_states WHERE revision_id IN (SELECT id FROM revisions WHERE deployment_id")
        .one_of(destroyed.iter().copied())
        .push(")")
        .run(&**tx)
        .await?;
    delete_leases(
        tx,
        destroyed
            .iter()
            .map(|id| port_lease::Column::DeploymentId.eq(*id).into_condition()),
    )
    .await
}

/// Lets others have the names of destroyed deployments.
pub(in crate::store) async fn deployment_free_names(
    tx: &Tx<'_>,
    ids: impl IntoIterator<Item = DeploymentId>,
    at: Time,
) -> Result<(), StoreError> {
    deployment::Entity::update_many()
        .col_expr(
            deployment::Column::LiveName,
            Expr::value(Option::<String>::None),
        )
        .col_expr(
            deployment::Column::NextPollAt,
            Expr::value(Option::<Time>::None),
        )
        .col_expr(deployment::Column::UpdatedAt, Expr::value(at))
        .filter(deployment::Column::Id.is_in(ids))
        .exec(&**tx)
        .await?;
    Ok(())
}
