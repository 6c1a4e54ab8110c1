//! Reserving ports for revisions that are being given to nodes. Which ones is `ports`' to choose; what
//! is taken already stands in the rows.

use super::column::{LeaseState, Time};
use super::dispatch::Batch;
use super::entity::port_lease;
use super::ledger::Standing;
use super::sql::ROWS_AT_ONCE;
use super::{StoreError, Tx};
use crate::ports::{self, BLOCKS, Block};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    Select, Value,
};
use shared::id::{DeploymentId, NodeId, RevisionId};
use shared::message::{LeasedPort, PortOffer};
use std::collections::{HashMap, HashSet};

/// How many ports a node is offered beside those that the deployment holds.
const PORTS_OFFERED: usize = 8;

/// Beyond this many blocks it is cheaper to ask for all of a node's leases; SQLite also refuses
/// conditions nested a thousand deep.
const BLOCKS_ASKED_FOR: usize = 100;

/// Reserves fresh ports for each revision and finds what its deployment holds already.
pub(super) async fn offer_ports(
    tx: &Tx<'_>,
    batch: &mut Batch,
    at: Time,
) -> Result<HashMap<RevisionId, PortOffer>, StoreError> {
    if batch.entries.is_empty() {
        return Ok(HashMap::new());
    }
    release_reserved(tx, batch).await?;
    let mut offers = held(tx, batch).await?;
    let mut leases: Vec<port_lease::ActiveModel> = Vec::new();
    for (node_id, node) in &mut batch.nodes {
        let entries: Vec<_> = batch
            .entries
            .iter()
            .filter(|entry| entry.node_id == *node_id)
            .collect();
        let homes: Vec<Option<Block>> = entries
            .iter()
            .map(|entry| home(offers.get(&entry.standing.id)))
            .collect();
        let mut cursor = Block::containing(u16::try_from(node.port_cursor).unwrap_or_default());
        let fresh = match choose_all(tx, *node_id, &mut cursor, &homes, Some(2)).await? {
            Some(fresh) => fresh,
            // The blocks at hand are nearly full: look at all of them.
            None => choose_all(tx, *node_id, &mut cursor, &homes, None)
                .await?
                .unwrap_or_default(),
        };
        node.port_cursor = i32::from(cursor.first_port());
        for (entry, ports) in entries.iter().zip(fresh) {
            leases.extend(
                ports
                    .iter()
                    .map(|port| reserved(*node_id, *port, &entry.standing, at)),
            );
            offers.entry(entry.standing.id).or_default().fresh = ports;
        }
    }
    let cursors = batch
        .nodes
        .values()
        .map(|node| -> [Value; 2] { [node.id.into(), node.port_cursor.into()] });
    tx.sql("UPDATE nodes SET port_cursor = v.column2 FROM ")
        .rows(cursors)
        .push(" WHERE nodes.id = v.column1")
        .run(&**tx)
        .await?;
    for chunk in leases.chunks(ROWS_AT_ONCE) {
        port_lease::Entity::insert_many(chunk.iter().cloned())
            .exec_without_returning(&**tx)
            .await?;
    }
    Ok(offers)
}

/// The block that a deployment's held ports lie in, where its next ones are looked for first.
fn home(offer: Option<&PortOffer>) -> Option<Block> {
    offer?
        .held
        .iter()
        .map(|lease| Block::containing(lease.port))
        .min()
}

/// Chooses ports for each entry of one node. With `spare`, looks only at as many blocks as there are
/// entries and that many more; nothing when those did not have enough.
async fn choose_all(
    tx: &Tx<'_>,
    node_id: NodeId,
    cursor: &mut Block,
    homes: &[Option<Block>],
    spare: Option<u16>,
) -> Result<Option<Vec<Vec<u16>>>, StoreError> {
    let newcomers =
        u16::try_from(homes.iter().filter(|home| home.is_none()).count()).unwrap_or(BLOCKS);
    let blocks = spare.map_or(BLOCKS, |spare| newcomers.saturating_add(spare).min(BLOCKS));
    let spill = spare.map_or(BLOCKS, |spare| spare.min(BLOCKS));
    let mut taken = taken(tx, node_id, *cursor, blocks, homes, spill).await?;
    let mut next = *cursor;
    let mut chosen = Vec::with_capacity(homes.len());
    for home in homes {
        // Beyond the blocks whose leases were read, what looks free may not be.
        if home.is_none() && blocks < BLOCKS && cursor.distance_to(next) > blocks {
            return Ok(None);
        }
        let choice = ports::choose(
            &mut rand::rng(),
            home.unwrap_or(next),
            spill,
            PORTS_OFFERED,
            &taken,
        );
        if spare.is_some() && choice.ports.len() < PORTS_OFFERED {
            return Ok(None);
        }
        if home.is_none() {
            next = choice.next;
        }
        taken.extend(&choice.ports);
        chosen.push(choice.ports);
    }
    *cursor = next;
    Ok(Some(chosen))
}

/// The leased ports of a node in the blocks that are looked at; all of them when those are all.
async fn taken(
    tx: &Tx<'_>,
    node_id: NodeId,
    cursor: Block,
    blocks: u16,
    homes: &[Option<Block>],
    spill: u16,
) -> Result<HashSet<u16>, StoreError> {
    let mut select = port_lease::Entity::find()
        .select_only()
        .column(port_lease::Column::Port)
        .filter(port_lease::Column::NodeId.eq(node_id));
    if blocks < BLOCKS && spill < BLOCKS {
        let near = (0..blocks.saturating_add(spill)).map(|step| cursor.plus(step));
        let around = homes
            .iter()
            .flatten()
            .flat_map(|home| (0..spill).map(|step| home.plus(step)));
        let looked_at: HashSet<Block> = near.chain(around).collect();
        if looked_at.len() > BLOCKS_ASKED_FOR {
            return all_taken(tx, select).await;
        }
        let any = looked_at.into_iter().fold(Condition::any(), |any, block| {
            any.add(port_lease::Column::Port.between(
                i32::from(*block.ports().start()),
                i32::from(*block.ports().end()),
            ))
        });
        select = select.filter(any);
    }
    all_taken(tx, select).await
}

async fn all_taken(
    tx: &Tx<'_>,
    select: Select<port_lease::Entity>,
) -> Result<HashSet<u16>, StoreError> {
    let ports: Vec<i32> = select.into_tuple().all(&**tx).await?;
    Ok(ports
        .into_iter()
        .filter_map(|port| u16::try_from(port).ok())
        .collect())
}

fn reserved(node_id: NodeId, port: u16, standing: &Standing, at: Time) -> port_lease::ActiveModel {
    port_lease::ActiveModel {
        node_id: Set(node_id),
        port: Set(i32::from(port)),
        deployment_id: Set(standing.deployment_id),
        revision_id: Set(Some(standing.id)),
        state: Set(LeaseState::Reserved),
        service: Set(None),
        container_port: Set(None),
        created_at: Set(at),
    }
}

/// Takes back what an earlier attempt of the same revisions reserved.
async fn release_reserved(tx: &Tx<'_>, batch: &Batch) -> Result<(), StoreError> {
    port_lease::Entity::delete_many()
        .filter(port_lease::Column::State.eq(LeaseState::Reserved))
        .filter(
            port_lease::Column::RevisionId
                .is_in(batch.entries.iter().map(|entry| entry.standing.id)),
        )
        .exec(&**tx)
        .await?;
    Ok(())
}

/// What the deployments hold already on the nodes that they go to.
async fn held(tx: &Tx<'_>, batch: &Batch) -> Result<HashMap<RevisionId, PortOffer>, StoreError> {
    let revision_of: HashMap<(DeploymentId, NodeId), RevisionId> = batch
        .entries
        .iter()
        .map(|entry| {
            (
                (entry.standing.deployment_id, entry.node_id),
                entry.standing.id,
            )
        })
        .collect();
    let leases = port_lease::Entity::find()
        .filter(port_lease::Column::State.eq(LeaseState::Held))
        .filter(
            port_lease::Column::DeploymentId.is_in(
                batch
                    .entries
                    .iter()
                    .map(|entry| entry.standing.deployment_id),
            ),
        )
        .order_by_asc(port_lease::Column::Port)
        .all(&**tx)
        .await?;
    let mut offers: HashMap<RevisionId, PortOffer> = HashMap::new();
    for lease in leases {
        let Some(revision_id) = revision_of.get(&(lease.deployment_id, lease.node_id)) else {
            continue;
        };
        if let Some(leased) = leased_port(&lease) {
            offers.entry(*revision_id).or_default().held.push(leased);
        }
    }
    Ok(offers)
}

/// A held lease as the wire has it; nothing for a reserved one.
fn leased_port(lease: &port_lease::Model) -> Option<LeasedPort> {
    Some(LeasedPort {
        port: u16::try_from(lease.port).ok()?,
        container_port: u16::try_from(lease.container_port?).ok()?,
        service: lease.service.clone()?,
    })
}
