//! Offering ports to revisions that are being given to nodes. Which ones is `ports`' to choose; what
//! is taken already stands in the rows.

use super::column::{LeaseState, Time};
use super::dispatch::{Batch, Entry};
use super::offer::{offered, offers_insert, offers_withdraw, ports_taken};
use super::{StoreError, Tx};
use crate::ports::{self, BLOCKS, Block, FIRST_PORT, LAST_PORT};
use sea_orm::FromQueryResult;
use shared::id::{DeploymentId, NodeId, RevisionId};
use shared::message::{LeasedPort, PortOffer};
use shared::name::ServiceName;
use std::collections::{BTreeMap, HashMap, HashSet};

/// How many ports a node is offered beside those that the deployment holds.
const PORTS_OFFERED: usize = 8;

/// How many blocks beyond those that are needed are looked at, and how far a full block spills.
const SPARE_BLOCKS: u16 = 2;

/// Offers fresh ports to each revision and finds what its deployment holds already. Where each node's
/// next ones begin is the batch's to write.
pub(super) async fn offer_ports(
    tx: &Tx<'_>,
    batch: &mut Batch,
    at: Time,
) -> Result<HashMap<RevisionId, PortOffer>, StoreError> {
    if batch.entries.is_empty() {
        return Ok(HashMap::new());
    }
    // What an earlier attempt of the same revisions was offered.
    let again = batch
        .entries
        .iter()
        .filter(|entry| entry.standing.epoch > 0);
    offers_withdraw(tx, again.map(|entry| entry.standing.id)).await?;
    let mut offers = held(tx, batch).await?;
    let mut rows = Vec::with_capacity(batch.entries.len());
    let mut by_node: BTreeMap<NodeId, Vec<&Entry>> = BTreeMap::new();
    for entry in &batch.entries {
        by_node.entry(entry.node_id).or_default().push(entry);
    }
    let wishes: Vec<Wishes> = by_node
        .iter()
        .filter_map(|(node_id, entries)| {
            let node = batch.nodes.get(node_id)?;
            Some(Wishes {
                node_id: *node_id,
                cursor: Block::containing(u16::try_from(node.port_cursor).unwrap_or_default()),
                homes: entries
                    .iter()
                    .map(|entry| home(offers.get(&entry.standing.id)))
                    .collect(),
            })
        })
        .collect();
    let mut taken = ports_taken(tx, wishes.iter().flat_map(Wishes::nearby)).await?;
    for wishes in wishes {
        let node_id = wishes.node_id;
        let near = taken.remove(&node_id).unwrap_or_default();
        let (fresh, cursor) = match wishes.choose(Some(SPARE_BLOCKS), near) {
            Some(chosen) => chosen,
            // The blocks at hand are nearly full: look at all of them.
            None => {
                let everything = [(node_id, FIRST_PORT, LAST_PORT)];
                let all = ports_taken(tx, everything).await?.remove(&node_id);
                wishes
                    .choose(None, all.unwrap_or_default())
                    .unwrap_or_else(|| (Vec::new(), wishes.cursor))
            }
        };
        if let Some(node) = batch.nodes.get_mut(&node_id) {
            node.port_cursor = i32::from(cursor.first_port());
        }
        for (entry, ports) in by_node.get(&node_id).into_iter().flatten().zip(fresh) {
            rows.extend(offered(entry.standing.id, node_id, &ports, at));
            offers.entry(entry.standing.id).or_default().fresh = ports;
        }
    }
    offers_insert(tx, &rows).await?;
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

/// What is wanted of one node.
struct Wishes {
    node_id: NodeId,
    cursor: Block,
    /// Where the ports of each entry are looked for first; none for a newcomer.
    homes: Vec<Option<Block>>,
}

impl Wishes {
    /// How many blocks newcomers begin in, with some to spare.
    fn blocks(&self, spare: u16) -> u16 {
        let newcomers = self.homes.iter().filter(|home| home.is_none()).count();
        u16::try_from(newcomers)
            .unwrap_or(BLOCKS)
            .saturating_add(spare)
            .min(BLOCKS)
    }

    /// The ports near the cursor and around the homes, as ranges.
    fn nearby(&self) -> impl Iterator<Item = (NodeId, u16, u16)> {
        let blocks = self.blocks(SPARE_BLOCKS).saturating_add(SPARE_BLOCKS);
        let homes = self.homes.iter().flatten();
        let ranges = homes
            .map(|home| (*home, SPARE_BLOCKS))
            .chain([(self.cursor, blocks)])
            .flat_map(|(first, blocks)| first.run(blocks));
        ranges.map(|ports| (self.node_id, *ports.start(), *ports.end()))
    }

    /// Chooses ports for each entry, and where the next newcomer begins. With `spare`, looks only
    /// at what [`Self::nearby`] names; nothing when that did not have enough.
    fn choose(
        &self,
        spare: Option<u16>,
        mut taken: HashSet<u16>,
    ) -> Option<(Vec<Vec<u16>>, Block)> {
        let blocks = spare.map_or(BLOCKS, |spare| self.blocks(spare));
        let spill = spare.map_or(BLOCKS, |spare| spare.min(BLOCKS));
        let mut next = self.cursor;
        let mut chosen = Vec::with_capacity(self.homes.len());
        for home in &self.homes {
            // Beyond the blocks whose leases were read, what looks free may not be.
            if home.is_none() && blocks < BLOCKS && self.cursor.distance_to(next) > blocks {
                return None;
            }
            let choice = ports::choose(
                &mut shared::chance::rng(),
                home.unwrap_or(next),
                spill,
                PORTS_OFFERED,
                &taken,
            );
            if spare.is_some() && choice.ports.len() < PORTS_OFFERED {
                return None;
            }
            if home.is_none() {
                next = choice.next;
            }
            taken.extend(&choice.ports);
            chosen.push(choice.ports);
        }
        Some((chosen, next))
    }
}

/// What the deployments hold already on the nodes that they go to.
async fn held(tx: &Tx<'_>, batch: &Batch) -> Result<HashMap<RevisionId, PortOffer>, StoreError> {
    // A newcomer has never been on a node.
    let known = batch
        .entries
        .iter()
        .filter(|entry| entry.standing.number > 1 || entry.standing.epoch > 0);
    let places: HashMap<RevisionId, Place> = known
        .map(|entry| {
            let place = (entry.standing.deployment_id, entry.node_id);
            (entry.standing.id, place)
        })
        .collect();
    let mut leases = leases_held(tx, places.values().map(|(id, _)| *id)).await?;
    let offers = places.into_iter().filter_map(|(revision_id, place)| {
        let offer = PortOffer {
            held: leases.remove(&place)?,
            ..PortOffer::default()
        };
        Some((revision_id, offer))
    });
    Ok(offers.collect())
}

/// A deployment on a node.
pub(super) type Place = (DeploymentId, NodeId);

#[derive(FromQueryResult)]
struct HeldPort {
    deployment_id: DeploymentId,
    node_id: NodeId,
    port: i32,
    service: Option<ServiceName>,
    container_port: Option<i32>,
}

/// The ports that these deployments hold, by where, the lowest first.
pub(super) async fn leases_held(
    tx: &Tx<'_>,
    deployments: impl IntoIterator<Item = DeploymentId>,
) -> Result<HashMap<Place, Vec<LeasedPort>>, StoreError> {
    let deployments: HashSet<DeploymentId> = deployments.into_iter().collect();
    if deployments.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<HeldPort> = tx
        .sql("SELECT deployment_id, node_id, port, service, container_port FROM port_leases WHERE state = ")
        .bind(LeaseState::Held)
        .push(" AND deployment_id")
        .one_of(deployments)
        .push(" ORDER BY port")
        .all(&**tx)
        .await?;
    let mut held: HashMap<Place, Vec<LeasedPort>> = HashMap::new();
    for row in rows {
        let place = (row.deployment_id, row.node_id);
        held.entry(place).or_default().extend(row.leased());
    }
    Ok(held)
}

impl HeldPort {
    /// As the wire has it.
    fn leased(self) -> Option<LeasedPort> {
        Some(LeasedPort {
            port: u16::try_from(self.port).ok()?,
            container_port: u16::try_from(self.container_port?).ok()?,
            service: self.service?,
        })
    }
}
