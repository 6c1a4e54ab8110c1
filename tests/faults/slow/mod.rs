//! What takes a minute or more, or a machine of its own. `make test` leaves this folder out.

mod build_log;
mod chaos;
mod clock;
mod cut;
mod engine;
mod many;
mod moved;
mod outage;
