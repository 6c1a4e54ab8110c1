//! Ports offered to revisions on their way: a row for each revision, gone once its node has chosen
//! or the revision has come to its end.

use super::column::{JsonText, Time};
use super::entity::port_offer;
use super::sql::ROWS_AT_ONCE;
use super::{StoreError, Tx};
use crate::ports::BLOCK_SIZE;
use sea_orm::{ActiveValue::Set, FromQueryResult, Value};
use shared::id::{NodeId, RevisionId};
use std::collections::{BTreeSet, HashMap, HashSet};

/// How far apart the ports of an offer usually lie at most: a block and those that it spills into.
const SPREAD: u16 = 3 * BLOCK_SIZE;

/// Ports by the node that they are on.
pub(super) type PortsOf = HashMap<NodeId, HashSet<u16>>;

/// An offer as a row; none of no ports.
pub(super) fn offered(
    revision_id: RevisionId,
    node_id: NodeId,
    ports: &[u16],
    at: Time,
) -> Option<port_offer::ActiveModel> {
    let (low, high) = (ports.iter().min()?, ports.iter().max()?);
    Some(port_offer::ActiveModel {
        revision_id: Set(revision_id),
        node_id: Set(node_id),
        ports: Set(JsonText(ports.to_vec())),
        low: Set(i32::from(*low)),
        wide: Set(high - low > SPREAD),
        created_at: Set(at),
    })
}

/// Writes offers.
pub(super) async fn offers_insert(
    tx: &Tx<'_>,
    offers: &[port_offer::ActiveModel],
) -> Result<(), StoreError> {
    for chunk in offers.chunks(ROWS_AT_ONCE) {
        tx.sql("").insert(chunk.iter().cloned()).run(&**tx).await?;
    }
    Ok(())
}

/// Takes back what revisions were offered.
pub(super) async fn offers_withdraw(
    tx: &Tx<'_>,
    revisions: impl IntoIterator<Item = RevisionId>,
) -> Result<(), StoreError> {
    let revisions: Vec<_> = revisions.into_iter().collect();
    for chunk in revisions.chunks(ROWS_AT_ONCE) {
        tx.sql("DELETE FROM port_offers WHERE revision_id")
            .one_of(chunk.iter().copied())
            .run(&**tx)
            .await?;
    }
    Ok(())
}

#[derive(FromQueryResult)]
struct Offer {
    revision_id: RevisionId,
    node_id: NodeId,
    ports: JsonText<Vec<u16>>,
}

/// Takes back what revisions were offered; what that was, by revision and node.
pub(super) async fn offers_take(
    tx: &Tx<'_>,
    revisions: &BTreeSet<RevisionId>,
) -> Result<HashMap<(RevisionId, NodeId), Vec<u16>>, StoreError> {
    if revisions.is_empty() {
        return Ok(HashMap::new());
    }
    let offers: Vec<Offer> = tx
        .sql("DELETE FROM port_offers WHERE revision_id")
        .one_of(revisions.iter().copied())
        .push(" RETURNING revision_id, node_id, ports")
        .all(&**tx)
        .await?;
    Ok(offers
        .into_iter()
        .map(|offer| ((offer.revision_id, offer.node_id), offer.ports.0))
        .collect())
}

#[derive(FromQueryResult)]
struct Taken {
    node_id: NodeId,
    ports: JsonText<Vec<u16>>,
}

/// The ports in these ranges of nodes (first, last) that are offered or leased already.
///
/// One statement reads both tables: between two of them an offer could become a lease, and be seen in
/// neither.
pub(super) async fn ports_taken(
    tx: &Tx<'_>,
    ranges: impl IntoIterator<Item = (NodeId, u16, u16)>,
) -> Result<PortsOf, StoreError> {
    let ranges: Vec<[Value; 3]> = ranges
        .into_iter()
        .map(|(node_id, first, last)| {
            [
                node_id.into(),
                i32::from(first).into(),
                i32::from(last).into(),
            ]
        })
        .collect();
    let mut taken = PortsOf::new();
    for chunk in ranges.chunks(ROWS_AT_ONCE) {
        let found: Vec<Taken> = tx
            .sql("WITH wanted AS (SELECT column1 AS node_id, column2 AS low, column3 AS high FROM ")
            .rows(chunk.iter().cloned())
            .push(") SELECT p.node_id, '[' || p.port || ']' AS ports FROM wanted w JOIN port_leases p")
            .push(" ON p.node_id = w.node_id AND p.port BETWEEN w.low AND w.high")
            .push(" UNION ALL SELECT o.node_id, o.ports FROM wanted w JOIN port_offers o")
            .push(" ON o.node_id = w.node_id AND o.low BETWEEN w.low - ")
            .push(&SPREAD.to_string())
            .push(" AND w.high")
            .push(" UNION ALL SELECT o.node_id, o.ports FROM port_offers o")
            .push(" WHERE o.wide AND o.node_id IN (SELECT node_id FROM wanted)")
            .all(&**tx)
            .await?;
        for Taken { node_id, ports } in found {
            taken.entry(node_id).or_default().extend(ports.0);
        }
    }
    Ok(taken)
}
