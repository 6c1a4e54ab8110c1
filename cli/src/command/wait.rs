//! `--wait`: follows what was started until it is decided.

use crate::client::Client;
use crate::client::model::Deployment;
use crate::exit::{Exit, Failure};
use crate::follow::{self, Outcome, Progress, Target};
use crate::output::{self, Format};
use std::time::Duration;

/// Whether to wait, and how long.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct WaitArgs {
    /// Follow the revision and its build log until it is decided; the exit code tells.
    #[arg(long)]
    pub(crate) wait: bool,
    /// With --wait: how long at most, such as 90s, 10m or 1h.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = read_duration)]
    pub(crate) timeout: Duration,
}

pub(super) fn read_duration(text: &str) -> Result<Duration, String> {
    let duration = shared::spec::parse_duration(text)
        .filter(|duration| (SHORTEST..=LONGEST).contains(duration));
    duration
        .ok_or_else(|| "give a number with s, m or h, such as 90s or 10m, up to 8760h".to_owned())
}

const SHORTEST: Duration = Duration::from_millis(1);
/// A year: much beyond, adding it to a clock could overflow.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// Tells what was started and, when asked to, follows it.
pub(crate) async fn started(
    client: &Client,
    format: Format,
    wait: &WaitArgs,
    deployment: &Deployment,
    sentence: &str,
) -> Result<Exit, Failure> {
    if !wait.wait {
        super::tell(format, deployment, sentence)?;
        return Ok(Exit::Done);
    }
    let Some(revision) = &deployment.latest_revision else {
        return Err(Failure::input("the server names no revision to wait for"));
    };
    let mut progress = Progress::new(format);
    progress.print(&format!("{sentence} · revision {}", revision.number))?;
    let target = Target {
        deployment_id: deployment.id.clone(),
        revision_id: revision.id.clone(),
    };
    let outcome = follow::follow(client, target, &mut progress, Some(wait.timeout)).await?;
    progress.finish()?;
    report(format, &deployment.name, &revision.id, &outcome)?;
    Ok(outcome.exit())
}

fn report(format: Format, name: &str, revision_id: &str, outcome: &Outcome) -> Result<(), Failure> {
    if format == Format::Json {
        output::print_json(&outcome.json(revision_id))?;
        return Ok(());
    }
    match outcome {
        Outcome::Running { deployment } => match &deployment.url {
            Some(url) => output::print(&output::line(url))?,
            None => output::print("it exposes no port")?,
        },
        Outcome::Failed {
            still_serving: Some(number),
            ..
        } => {
            output::note(&format!("it failed; revision {number} still serves"));
        }
        Outcome::Failed {
            still_serving: None,
            ..
        } => output::note("it failed, and nothing serves"),
        Outcome::Replaced { status, .. } => {
            output::note(&format!("it was not brought to its end: {status}"))
        }
        Outcome::TimedOut { after } => not_decided(name, *after),
    }
    Ok(())
}

pub(super) fn not_decided(name: &str, after: Duration) {
    output::note(&format!(
        "not decided after {} s; it goes on, look again with: longshore deployment show {name}",
        after.as_secs()
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_limits() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("1h", 3600)] {
            assert_eq!(
                read_duration(text),
                Ok(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        for text in [
            "",
            "0s",
            "3",
            "m",
            "-1s",
            "1d",
            "1.5h",
            "99999999999999999999h",
            "9999999h",
        ] {
            assert!(read_duration(text).is_err(), "{text}");
        }
    }
}
