//! A deployment's own status: worked out from its revisions, never stored.

use super::{ApplicationStatus, DesiredState, FailureReason};

/// What is known of one revision when a deployment's status is worked out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionStanding {
    /// Its number within the deployment, from 1.
    pub number: i32,
    /// Where it stands.
    pub status: ApplicationStatus,
    /// Why it failed, when it did.
    pub failure_reason: Option<FailureReason>,
    /// What a person should know of it.
    pub detail: Option<String>,
}

/// A deployment's status as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentStatus {
    /// Where the deployment stands.
    pub status: ApplicationStatus,
    /// Why, when it failed.
    pub failure_reason: Option<FailureReason>,
    /// What a person should know.
    pub detail: Option<String>,
}

/// Works out a deployment's status from the revision that serves (`active`) and the newest one
/// (`latest`, which may be the same).
///
/// What serves decides: a candidate that failed beside a running revision leaves the deployment
/// RUNNING and says so in the detail. Only when nothing serves does the newest revision speak.
#[must_use]
pub fn derive_deployment_status(
    desired: DesiredState,
    active: Option<&RevisionStanding>,
    latest: Option<&RevisionStanding>,
) -> DeploymentStatus {
    let serving = active.filter(|revision| !revision.status.is_final());
    let Some(speaker) = serving.or(latest).or(active) else {
        // A deployment is made together with its first revision; without one it is still asked for.
        return DeploymentStatus {
            status: ApplicationStatus::Requested,
            failure_reason: None,
            detail: None,
        };
    };
    let candidate =
        latest.filter(|latest| serving.is_some_and(|active| active.number != latest.number));
    let detail = match (desired, speaker.status) {
        (DesiredState::Destroyed, status) if status != ApplicationStatus::Destroyed => {
            Some("being destroyed".to_owned())
        }
        (DesiredState::Stopped, status) if status.is_live() => Some("being stopped".to_owned()),
        _ => candidate
            .and_then(|candidate| beside(candidate, speaker))
            .or_else(|| speaker.detail.clone()),
    };
    DeploymentStatus {
        status: speaker.status,
        failure_reason: speaker.failure_reason,
        detail,
    }
}

/// What a candidate beside a serving revision means to a person.
fn beside(candidate: &RevisionStanding, serving: &RevisionStanding) -> Option<String> {
    let (new, old) = (candidate.number, serving.number);
    // What is being restarted is about to serve again.
    let is_stopped = serving.status == ApplicationStatus::Stopped;
    if candidate.status.is_open() {
        let meanwhile = if is_stopped {
            "is STOPPED"
        } else {
            "serves meanwhile"
        };
        let why = candidate.detail.as_deref();
        let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
        return Some(format!(
            "revision {new} is {}{why}; revision {old} {meanwhile}",
            candidate.status
        ));
    }
    let still = if is_stopped {
        "is STOPPED"
    } else {
        "still serves"
    };
    match candidate.status {
        ApplicationStatus::Failed
        | ApplicationStatus::RolledBack
        | ApplicationStatus::Cancelled => {
            let reason = candidate
                .failure_reason
                .map(|reason| format!(" ({reason})"))
                .unwrap_or_default();
            let detail = candidate
                .detail
                .as_deref()
                .map(|detail| format!(": {detail}"))
                .unwrap_or_default();
            Some(format!(
                "revision {new} is {}{reason}; revision {old} {still}{detail}",
                candidate.status
            ))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ApplicationStatus as S;

    fn revision(number: i32, status: S) -> RevisionStanding {
        let failure_reason = (status == S::Failed).then_some(FailureReason::BuildFailed);
        RevisionStanding {
            number,
            status,
            failure_reason,
            detail: None,
        }
    }

    fn check(
        desired: DesiredState,
        active: Option<(i32, S)>,
        latest: Option<(i32, S)>,
        status: S,
        detail: Option<&str>,
    ) {
        let active = active.map(|(number, status)| revision(number, status));
        let latest = latest.map(|(number, status)| revision(number, status));
        let derived = derive_deployment_status(desired, active.as_ref(), latest.as_ref());
        assert_eq!(derived.status, status);
        match detail {
            Some(text) => assert!(
                derived.detail.as_deref().unwrap_or("").contains(text),
                "{derived:?}"
            ),
            None => assert_eq!(derived.detail, None),
        }
    }

    #[test]
    fn what_serves_decides() {
        let up = DesiredState::Running;
        check(up, None, Some((1, S::Building)), S::Building, None);
        check(
            up,
            Some((1, S::Running)),
            Some((1, S::Running)),
            S::Running,
            None,
        );
        check(
            up,
            Some((1, S::Running)),
            Some((2, S::Building)),
            S::Running,
            Some("revision 2 is BUILDING"),
        );
        check(
            up,
            Some((1, S::Running)),
            Some((2, S::Failed)),
            S::Running,
            Some("BUILD_FAILED"),
        );
        check(
            up,
            Some((1, S::Degraded)),
            Some((2, S::Failed)),
            S::Degraded,
            Some("still serves"),
        );
        check(
            up,
            Some((1, S::Failed)),
            Some((2, S::Building)),
            S::Building,
            None,
        );
        for (latest, words) in [
            (S::Building, "is BUILDING; revision 1 is STOPPED"),
            (S::Failed, "(BUILD_FAILED); revision 1 is STOPPED"),
        ] {
            let stopped = Some((1, S::Stopped));
            check(up, stopped, Some((2, latest)), S::Stopped, Some(words));
        }
        check(up, None, None, S::Requested, None);
    }

    #[test]
    fn what_a_candidate_waits_for_is_said() {
        let waiting = RevisionStanding {
            detail: Some("waiting for a ready node".to_owned()),
            ..revision(2, S::Requested)
        };
        let running = revision(1, S::Running);
        let derived =
            derive_deployment_status(DesiredState::Running, Some(&running), Some(&waiting));
        assert_eq!(
            derived.detail.as_deref(),
            Some("revision 2 is REQUESTED (waiting for a ready node); revision 1 serves meanwhile")
        );
    }

    #[test]
    fn a_failure_beside_a_serving_revision_is_not_the_deployments_failure() {
        let derived = derive_deployment_status(
            DesiredState::Running,
            Some(&revision(1, S::Running)),
            Some(&revision(2, S::Failed)),
        );
        assert_eq!(derived.failure_reason, None);
    }

    #[test]
    fn a_wish_that_is_not_met_yet_is_said() {
        check(
            DesiredState::Destroyed,
            Some((1, S::Running)),
            None,
            S::Running,
            Some("being destroyed"),
        );
        check(
            DesiredState::Destroyed,
            Some((1, S::Destroyed)),
            None,
            S::Destroyed,
            None,
        );
        check(
            DesiredState::Stopped,
            Some((1, S::Running)),
            Some((1, S::Running)),
            S::Running,
            Some("being stopped"),
        );
        check(
            DesiredState::Stopped,
            Some((1, S::Stopped)),
            Some((1, S::Stopped)),
            S::Stopped,
            None,
        );
    }
}
