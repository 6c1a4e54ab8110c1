//! `make simulate`: many seeds on all processors, or one with everything that happened in it.

use clap::Parser;
use simulation::{Options, Outcome, Stage};
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Runs the control plane in bad weather.
#[derive(Clone, Copy, Debug, Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only this one, and show what happened.
    #[arg(long)]
    seed: Option<u64>,
}

#[expect(clippy::print_stdout, reason = "a program for people and CI")]
fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let stage = Stage::new()?;
    if let Some(seed) = arguments.seed {
        tracing_subscriber::fmt()
            .with_env_filter(
                tracing_subscriber::EnvFilter::try_from_default_env()
                    .unwrap_or_else(|_| "info,sqlx=off".into()),
            )
            .without_time()
            .with_ansi(std::io::stdout().is_terminal())
            .init();
        let options = Options {
            traced: true,
            ..Options::default()
        };
        let outcome = stage.run(seed, options)?;
        println!("{}", summary(&outcome));
        return Ok(code(outcome.findings.is_empty()));
    }
    let begun = Instant::now();
    let (failed, slowest) = all(&stage, arguments)?;
    let took = begun.elapsed().as_secs_f64();
    println!(
        "{} seeds in {took:.1} s: {:.1} seeds per second; {} failed; the slowest agreed {} s after the storm",
        arguments.seeds,
        arguments.seeds as f64 / took,
        failed.len(),
        slowest.as_secs()
    );
    for outcome in &failed {
        println!("{}", summary(outcome));
    }
    Ok(code(failed.is_empty()))
}

/// Runs every seed, on as many threads as there are processors.
fn all(stage: &Stage, arguments: Arguments) -> anyhow::Result<(Vec<Outcome>, Duration)> {
    let next = AtomicU64::new(arguments.from);
    let end = arguments.from + arguments.seeds;
    let found = Mutex::new((Vec::new(), Duration::ZERO));
    let work = || -> anyhow::Result<()> {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return Ok(());
            }
            let outcome = stage.run(seed, Options::default())?;
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            found.1 = found.1.max(outcome.converged_in);
            if !outcome.findings.is_empty() {
                found.0.push(outcome);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        running.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    let (mut failed, slowest) = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.sort_by_key(|outcome| outcome.seed);
    Ok((failed, slowest))
}

fn summary(outcome: &Outcome) -> String {
    let Outcome { seed, findings, .. } = outcome;
    if findings.is_empty() {
        return format!("seed {seed}: all is well");
    }
    let findings: String = findings
        .iter()
        .map(|finding| format!("\n    {finding}"))
        .collect();
    format!("seed {seed}: replay it with `make simulate SEED={seed}`{findings}")
}

fn code(is_well: bool) -> ExitCode {
    if is_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
