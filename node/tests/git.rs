//! The fetch against real Git servers, hostile ones, and hostile repositories.

#[path = "git/context.rs"]
mod context;
#[path = "git/limits.rs"]
mod limits;
#[path = "git/ls_remote.rs"]
mod ls_remote;
#[path = "git/network.rs"]
mod network;
#[path = "git/refs.rs"]
mod refs;
#[path = "git/refusals.rs"]
mod refusals;
#[path = "git/submodules.rs"]
mod submodules;
#[path = "git/support.rs"]
mod support;
