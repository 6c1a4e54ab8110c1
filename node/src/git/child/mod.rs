//! The child's side of a fetch. Everything here reads what a stranger wrote; it runs with the
//! limits of [`limits`] and holds nothing worth stealing.
//!
//! - [`limits`]: what the process may use, set before the order is looked at
//! - [`talk`], [`meter`]: what is said to the parent, and what is counted on the way
//! - [`network`], [`stream`], [`known_hosts`]: the pipe that reaches only the vetted address, its two
//!   ends; known SSH hosts
//! - [`server`], [`refs`]: one server and the way to it; which of its refs is meant
//! - [`remote`], [`depot`]: one server asked for one commit; the mirror that keeps what came
//! - [`ls_remote`]: one server asked for one ref, without a mirror
//! - [`tree`], [`census`]: one tree object read and vetted; a whole tree counted before it is used
//! - [`gitmodules`], [`submodules`]: repositories within the repository
//! - [`dockerfile`], [`builtin`], [`plan`]: what the image is made of
//! - [`dockerignore`], [`context`]: the tar for the engine

mod builtin;
mod census;
mod context;
mod depot;
mod dockerfile;
mod dockerignore;
mod gitmodules;
mod known_hosts;
mod limits;
mod ls_remote;
mod meter;
mod near_miss;
mod network;
mod plan;
mod refs;
mod remote;
mod server;
mod stream;
mod submodules;
mod talk;
mod tree;

pub use ls_remote::main as ls_remote_main;

use super::error::FetchError;
use super::mirror;
use super::order::FetchOrder;
use super::wire::{Ask, Say};
use meter::Meter;
use plan::Plan;
use std::io::BufRead;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use talk::Talk;

/// The whole of the hidden subcommand `longshore internal-fetch`: reads an order from standard
/// input, answers on standard output, ends with either.
pub fn main() -> ExitCode {
    let asks = listen();
    let Ok(Ask::Fetch(order)) = asks.recv() else {
        return ExitCode::FAILURE;
    };
    let talk = Talk::new();
    match serve(&order, &talk, &asks) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            talk.say(&Say::Failed(error));
            ExitCode::FAILURE
        }
    }
}

/// Reads orders on a thread of its own, which ends the process with its input: a child must not
/// outlive a parent that was killed, whatever it is busy with.
fn listen() -> mpsc::Receiver<Ask> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(ask) = line
                .map_err(std::io::Error::other)
                .and_then(|line| Ok(serde_json::from_str(&line)?))
            else {
                break;
            };
            if sender.send(ask).is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
    receiver
}

fn serve(order: &FetchOrder, talk: &Talk, asks: &mpsc::Receiver<Ask>) -> Result<(), FetchError> {
    limits::apply(&order.limits).map_err(|error| FetchError::node("setting limits", error))?;
    let waiting = || talk.log("waiting for another fetch of the same repository");
    let lock = mirror::lock(&order.mirror_dir, &order.url, waiting)
        .map_err(|error| FetchError::node("locking the mirror", error))?;
    talk.say(&Say::Started);

    let meter = Arc::new(Meter::new(order.limits.received_bytes));
    let _reporting = talk.report(meter.clone());
    let (depot, plan) = prepare(order, talk, &meter)?;
    // From here on objects are only read: others may read as well.
    lock.lock_shared()
        .map_err(|error| FetchError::node("locking the mirror", error))?;
    talk.say(&Say::Prepared(Box::new(plan.prepared())));

    if let Ok(Ask::WriteContext { to }) = asks.recv() {
        let written = context::write(&depot, &plan, &order.limits, &meter, &to)?;
        talk.say(&Say::Written(written));
    }
    Ok(())
}

/// Fetches and plans; a mirror that turns out to be damaged is replaced once.
fn prepare(
    order: &FetchOrder,
    talk: &Talk,
    meter: &Arc<Meter>,
) -> Result<(depot::Depot, Plan), FetchError> {
    let mut again = true;
    loop {
        let depot = depot::Depot::open(order, talk, meter.clone())?;
        match plan::make(&depot) {
            Ok(plan) => return Ok((depot, plan)),
            Err(Trouble::Fetch(error)) => return Err(error),
            Err(Trouble::Damaged(_)) if again && !depot.is_fresh() => {
                again = false;
                talk.log("the kept copy of the repository is damaged: fetching it afresh");
                depot.remove()?;
            }
            Err(Trouble::Damaged(detail)) => {
                // Freshly fetched and still not whole: so it is at the server.
                depot.remove()?;
                return Err(FetchError::failed(format!(
                    "the repository is damaged: {detail}"
                )));
            }
        }
    }
}

/// Why a step failed.
#[derive(Debug)]
enum Trouble {
    /// For good.
    Fetch(FetchError),
    /// The mirror is not whole; a fresh one may be.
    Damaged(String),
}

impl From<FetchError> for Trouble {
    fn from(error: FetchError) -> Self {
        Self::Fetch(error)
    }
}

impl Trouble {
    /// An object that should be in the mirror cannot be read.
    fn damaged(error: &git2::Error) -> Self {
        if error.message().contains("out of memory") {
            return Self::Fetch(FetchError::too_large(
                "the repository takes more memory than a fetch may use",
            ));
        }
        Self::Damaged(error.message().to_owned())
    }
}
