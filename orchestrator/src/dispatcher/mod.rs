//! From REQUESTED to a node's work queue, in two loops.
//!
//! [`Placer`] gives revisions to nodes: INITIALIZED, the raised epoch, the reserved ports and the
//! work request are one transaction. [`Publisher`] sends what is recorded, whoever recorded it. What
//! the placer recorded it hands over, so that it need not be claimed and read again; what is lost on
//! that way is sent again like anything that its node does not take.

mod placer;
mod publisher;

pub(crate) use placer::Placer;
pub(crate) use publisher::Publisher;

/// How many batches of orders wait for the publisher before the placer waits for it.
pub(crate) const ORDERS_AHEAD: usize = 4;
