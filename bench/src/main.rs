//! Benchmarks: ratios to a floor measured in the same run, never timed tests.
//!
//! `bench deploy` measures G1–G3: what a deployment of one changed file costs over the same steps
//! done by hand, and what the control plane's share of it is. `bench memory` measures G9: what the
//! roles hold while idle. Both need a Docker Engine with the `busybox` base image. `bench control`
//! measures G4 and G5: deployments a second through the control plane, without Docker; `bench api`
//! measures G10 and G11: events to a thousand subscribers, and mutations.
#![allow(
    clippy::print_stdout,
    reason = "a table on standard output is what this program is for"
)]

mod api;
mod arrivals;
mod control;
mod deploy;
mod floor;
mod memory;
mod server;
mod table;

use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Measures Longshore against floors of the same run.
#[derive(Parser)]
struct Arguments {
    /// The `longshore` binary to measure; build it with `--release` first.
    #[arg(long, default_value = "target/release/longshore")]
    binary: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// One changed file: mutation to first answer, over fetch + build + create + start + answer by hand.
    Deploy {
        /// Rounds; each measures every contender once, in rotated order.
        #[arg(long, default_value_t = 12)]
        rounds: usize,
    },
    /// Deployments a second through the control plane, over the same way with nothing around it.
    /// Needs a durable PostgreSQL and a RabbitMQ, no Docker.
    Control(control::Arguments),
    /// Subscriptions and mutations through the API, over a bare server. Needs what `control` needs.
    Api(api::Arguments),
    /// The bare server of `api`.
    #[command(hide = true)]
    FloorApi(api::floor::Arguments),
    /// Proportional set size of each role while idle.
    Memory,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let needs_binary = !matches!(arguments.what, What::FloorApi(_));
    anyhow::ensure!(
        !needs_binary || arguments.binary.is_file(),
        "{} is not there: build it first",
        arguments.binary.display()
    );
    match arguments.what {
        What::Deploy { rounds } => deploy::run(&arguments.binary, rounds).await,
        What::Api(what) => api::run(&arguments.binary, what).await,
        What::FloorApi(what) => api::floor::serve(what).await,
        What::Control(what) => control::run(&arguments.binary, what).await,
        What::Memory => memory::run(&arguments.binary).await,
    }
}
