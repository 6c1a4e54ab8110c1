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

/// What revisions were offered, by revision and node.
pub(super) async fn offers_of(
    tx: &Tx<'_>,
    revisions: &BTreeSet<RevisionId>,
) -> Result<HashMap<(RevisionId, NodeId), Vec<u16>>, StoreError> {
    if revisions.is_empty() {
        return Ok(HashMap::new());
    }
    let offers: Vec<Offer> = tx
        .sql("SELECT revision_id, node_id, ports FROM port_offers WHERE revision_id")
        .one_of(revisions.iter().copied())
        .all(&**tx)
        .await?;
    Ok(offers
        .into_iter()
        .map(|offer| ((offer.revision_id, offer.node_id), offer.ports.0))
        .collect())
}

/// Adds the offered ports in these ranges of nodes (first, last) to `taken`.
pub(super) async fn offers_taken(
    tx: &Tx<'_>,
    ranges: &[[Value; 3]],
    taken: &mut PortsOf,
) -> Result<(), StoreError> {
    let near = tx
        .sql("SELECT o.revision_id, o.node_id, o.ports FROM ")
        .rows(ranges.iter().cloned())
        .push(" JOIN port_offers o ON o.node_id = v.column1 AND o.low BETWEEN v.column2 - ")
        .push(&SPREAD.to_string())
        .push(" AND v.column3");
    let mut offers: Vec<Offer> = near.all(&**tx).await?;
    let wide = tx
        .sql("SELECT o.revision_id, o.node_id, o.ports FROM port_offers o WHERE o.wide AND o.node_id")
        .one_of(ranges.iter().map(|[node_id, _, _]| node_id.clone()));
    offers.extend(wide.all(&**tx).await?);
    for offer in offers {
        taken
            .entry(offer.node_id)
            .or_default()
            .extend(offer.ports.0);
    }
    Ok(())
}
