//! From REQUESTED to a node's work queue, in two loops that share nothing but rows.
//!
//! [`Placer`] gives revisions to nodes: INITIALIZED, the raised epoch, the reserved ports and the
//! work request are one transaction. [`Publisher`] sends what is recorded, whoever recorded it.

mod placer;
mod publisher;

pub(crate) use placer::Placer;
pub(crate) use publisher::Publisher;
