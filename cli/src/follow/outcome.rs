//! What became of a revision, and the exit code that says it.

use crate::client::model::Deployment;
use crate::exit::Exit;
use serde::Serialize;
use shared::status::ApplicationStatus;
use std::time::Duration;

/// What became of a revision.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// It runs.
    Running { deployment: Box<Deployment> },
    /// It failed. `still_serving`: the revision before it serves on.
    Failed {
        deployment: Box<Deployment>,
        status: ApplicationStatus,
        still_serving: Option<u32>,
    },
    /// It was cancelled, or a newer one took its place.
    Replaced {
        deployment: Box<Deployment>,
        status: ApplicationStatus,
    },
    /// Not decided in time.
    TimedOut { after: Duration },
}

/// The outcome as `--output json` prints it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OutcomeJson<'a> {
    exit_code: u8,
    outcome: &'static str,
    revision_id: &'a str,
    url: Option<&'a str>,
    deployment: Option<&'a Deployment>,
}

impl Outcome {
    /// From the step that decided and the deployment as it is then.
    pub(super) fn decide(
        status: ApplicationStatus,
        revision_id: &str,
        deployment: Deployment,
    ) -> Self {
        use ApplicationStatus as S;
        let deployment = Box::new(deployment);
        match status {
            S::Running | S::Degraded | S::Completed => Self::Running { deployment },
            S::Failed | S::RolledBack => {
                let active = deployment.active_revision.as_ref();
                let serving = active
                    .filter(|revision| revision.id != revision_id && revision.status.is_live());
                let still_serving = serving.map(|revision| revision.number);
                Self::Failed {
                    deployment,
                    status,
                    still_serving,
                }
            }
            // An open status decides nothing and never comes here; a stopped or destroyed deployment
            // took the revision's place as much as a newer one would.
            _ => Self::Replaced { deployment, status },
        }
    }

    /// The exit code.
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Running { .. } => Exit::Done,
            Self::Failed {
                still_serving: Some(_),
                ..
            } => Exit::StillServing,
            Self::Failed {
                still_serving: None,
                ..
            } => Exit::NothingServes,
            Self::Replaced { .. } => Exit::Replaced,
            Self::TimedOut { .. } => Exit::TimedOut,
        }
    }

    /// As JSON.
    pub(crate) fn json<'a>(&'a self, revision_id: &'a str) -> OutcomeJson<'a> {
        let (outcome, deployment) = match self {
            Self::Running { deployment } => ("RUNNING", Some(deployment)),
            Self::Failed {
                deployment, status, ..
            }
            | Self::Replaced { deployment, status } => (status.as_str(), Some(deployment)),
            Self::TimedOut { .. } => ("TIMED_OUT", None),
        };
        let deployment = deployment.map(|deployment| &**deployment);
        let url = deployment.and_then(|deployment| deployment.url.as_deref());
        OutcomeJson {
            exit_code: self.exit().code(),
            outcome,
            revision_id,
            url,
            deployment,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn revision(id: &str, status: &str) -> serde_json::Value {
        json!({ "id": id, "number": 1, "status": status, "createdAt": "2026-01-01T00:00:00Z" })
    }

    fn deployment(active: Option<serde_json::Value>) -> Deployment {
        serde_json::from_value(json!({
            "id": "d", "name": "app", "status": "RUNNING", "desiredState": "RUNNING", "source": { "__typename": "GitSource" },
            "labels": [], "ports": [], "services": [], "activeRevision": active,
            "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z",
        }))
        .unwrap()
    }

    fn check(status: ApplicationStatus, active: Option<serde_json::Value>, exit: Exit) {
        assert_eq!(
            Outcome::decide(status, "new", deployment(active)).exit(),
            exit,
            "{status}"
        );
    }

    #[test]
    fn the_exit_code_says_what_became_of_it() {
        use ApplicationStatus as S;
        check(S::Running, Some(revision("new", "RUNNING")), Exit::Done);
        check(S::Failed, None, Exit::NothingServes);
        check(
            S::Failed,
            Some(revision("old", "RUNNING")),
            Exit::StillServing,
        );
        check(
            S::Failed,
            Some(revision("old", "DEGRADED")),
            Exit::StillServing,
        );
        check(
            S::Failed,
            Some(revision("old", "STOPPED")),
            Exit::NothingServes,
        );
        check(
            S::RolledBack,
            Some(revision("old", "RUNNING")),
            Exit::StillServing,
        );
        check(
            S::Cancelled,
            Some(revision("old", "RUNNING")),
            Exit::Replaced,
        );
        check(S::Superseded, None, Exit::Replaced);
        check(S::Destroyed, None, Exit::Replaced);
        assert_eq!(
            Outcome::TimedOut {
                after: Duration::from_secs(1)
            }
            .exit()
            .code(),
            5
        );
    }
}
