//! One server asked for one ref, without a mirror: what the orchestrator's watcher wants to know.

use super::limits;
use super::meter::Meter;
use super::network::Network;
use super::refs::{aim_at_ref, peeled};
use super::server::{self, Server};
use crate::git::error::FetchError;
use crate::git::order::FetchLimits;
use shared::git::{RefAnswer, RefQuestion};
use shared::source::CommitId;
use std::io::{BufRead, Read, Write};
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// The longest question that is read: a URL, a ref and an operator's lists of hosts.
const QUESTION_LIMIT: u64 = 1 << 20;

/// The whole of the hidden subcommand `longshore internal-ls-remote`: reads a question from
/// standard input, answers it on standard output, ends with either.
pub fn main() -> ExitCode {
    let Ok(question) = listen().recv() else {
        return ExitCode::FAILURE;
    };
    let answer = match look(&question) {
        Ok(commit) => RefAnswer::Found { commit },
        Err(error) => RefAnswer::Failed {
            detail: error.to_string(),
        },
    };
    // When nobody listens any more there is nobody to tell.
    match serde_json::to_vec(&answer).map(|line| std::io::stdout().write_all(&line)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Reads the question on a thread of its own, which ends the process with its input: a child must
/// not outlive a parent that was killed, whatever it is busy with.
fn listen() -> mpsc::Receiver<RefQuestion> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let mut line = Vec::new();
        let read = input
            .by_ref()
            .take(QUESTION_LIMIT)
            .read_until(b'\n', &mut line);
        if let Ok(question) = read
            .map_err(serde_json::Error::io)
            .and_then(|_| serde_json::from_slice(&line))
        {
            // The other end waits for exactly this one.
            let _ = sender.send(question);
        } else {
            std::process::exit(1);
        }
        // Nothing else is ever said: what comes next is the end.
        let _ = input.read(&mut [0]);
        std::process::exit(0);
    });
    receiver
}

/// The commit that the ref stands for.
fn look(question: &RefQuestion) -> Result<CommitId, FetchError> {
    question
        .url
        .check_scheme(question.policy.file_allowed)
        .map_err(|error| FetchError::failed(error.to_string()))?;
    limits::apply(&as_limits(question))
        .map_err(|error| FetchError::node("setting limits", error))?;
    let home =
        std::env::home_dir().ok_or_else(|| FetchError::node("asking a server", "no home"))?;
    let meter = Arc::new(Meter::new(question.received_bytes));
    let network = Network::new(question.policy.guard.clone(), meter.clone())
        .map_err(|error| FetchError::node("starting the network", error))?;
    let server = Server::reach(&question.url, &question.policy, &meter, || Ok(&network))?;
    let explain = |error: git2::Error| {
        server::cause(&meter).unwrap_or_else(|| server.explain("look at", &error))
    };
    let repo = server::init(&home.join("asking.git"))
        .map_err(|error| FetchError::node("making a repository", error.message()))?;
    let mut remote = repo.remote_anonymous(&server.address).map_err(explain)?;
    let (_connection, heads) = server.connect(&mut remote).map_err(explain)?;
    let aim = aim_at_ref(&heads, question.git_ref.as_ref())?;
    let id = peeled(&heads, &aim).to_string();
    CommitId::parse(&id).map_err(|error| FetchError::failed(error.to_string()))
}

/// A list of refs is held a few times over while it is read; nothing else is kept.
fn as_limits(question: &RefQuestion) -> FetchLimits {
    FetchLimits {
        wall: Duration::from_secs(question.seconds),
        received_bytes: question.received_bytes,
        file_bytes: question.received_bytes * 2,
        tree_bytes: 0,
        files: 0,
        ..FetchLimits::default()
    }
}
