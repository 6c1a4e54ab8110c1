//! The hand: takes work from its own queue, does it with Git and a container engine, and says what
//! it saw. Knows nothing of the database.

pub mod docker;
pub mod forward;
pub mod git;
pub mod journal;
pub mod log_sink;
pub mod probe;
pub mod text;
