//! The fetch: from a Git URL to a resolved spec and a build context. The one place that knows git2.
//!
//! The repository is hostile, and so is its server. Everything that touches either happens in a
//! child process of the same binary ([`child_main`]), with an empty environment and limits of
//! memory, processor, file size and open files that it sets itself, and that the parent kills when
//! it is cancelled, takes too long or when nothing moves any more:
//!
//! ```text
//! parent (fetch)                        child (longshore internal-fetch)
//!   ── order, one JSON line ─────────▶  lock the mirror; resolve and vet the host; fetch through
//!   ◀─ progress, log lines ───────────  a pipe that reaches only the vetted address; count the
//!   ◀─ prepared: commit, spec, hash ──  tree; read the configuration; fetch submodules
//!   ── where the context goes ───────▶  stream the tree's objects into a tar
//!   ◀─ written ───────────────────────
//! ```
//!
//! There is no checkout: trees are read from objects, so no path, link or attribute of a
//! repository ever meets the file system. The child ends when its standard input ends, and with it
//! when its parent dies.
//!
//! The orchestrator's watcher asks the same child, as `longshore internal-ls-remote`, which commit
//! a ref stands for ([`ls_remote_main`], [`shared::git`]).
//!
//! - [`order`]: what is asked for, and its limits
//! - [`error`]: why it failed, as a [`shared::status::FailureReason`] that a user can act on
//! - `wire`: what parent and child say to each other
//! - `process`: the parent's side
//! - `child`: the child's side
//! - `mirror`: where a repository is kept on the node, used by both

mod child;
pub mod error;
pub mod mirror;
pub mod order;
mod process;
mod wire;

pub use child::{ls_remote_main, main as child_main};
pub use error::FetchError;
pub use order::{BuiltinImages, ChildProgram, FetchLimits, FetchOrder, FetchPolicy, SshSettings};
pub use process::{Context, Fetched, fetch};
