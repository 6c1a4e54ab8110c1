//! The API as a client meets it: a real server on a port of its own, over an engine on SQLite and the
//! local bus. There is no node, so that a deployment stays as it was asked for.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where it finds something"
)]

mod bombs;
mod bus;
mod doors;
mod http;
mod inputs;
mod listener;
mod loaders;
mod nodes;
mod pages;
mod sdl;
mod server;
mod web_socket;
