//! A process ends at a named place of its code and is started again: nothing is lost, nothing doubled,
//! and what served goes on serving.

mod list;
mod node;
mod orchestrator;
