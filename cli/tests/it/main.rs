//! The client commands as processes, against a server that plays a script.

mod fake;
mod run;
mod wait;
