//! Where a revision stands, what it may become next, and why it failed.
//!
//! ```text
//! REQUESTED → INITIALIZED → FETCHING → BUILDING → STARTING → VERIFYING → RUNNING ⇄ DEGRADED
//!                                                                       RUNNING → STOPPED → STARTING
//! any step → FAILED ; VERIFYING → ROLLED_BACK ; any open step → CANCELLED
//! RUNNING → SUPERSEDED ; one-off tasks end in COMPLETED ; everything → DESTROYED
//! ```

mod derive;
mod transition;

pub use derive::{DeploymentStatus, RevisionStanding, derive_deployment_status};
pub use transition::{Outcome, TransitionDenied, transition};

use serde::{Deserialize, Serialize};

/// Defines an enum whose values have one spelling, in the API, on the wire, in the database and in
/// logs: `SCREAMING_SNAKE_CASE`.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "graphql", derive(async_graphql::Enum))]
        #[cfg_attr(feature = "sea-orm", derive(sea_orm::DeriveValueType), sea_orm(value_type = "String"))]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant),+
        }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The one spelling of this value.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|word| word.as_str() == text).ok_or_else(|| UnknownWord {
                    kind: stringify!($name),
                    found: text.chars().take(64).collect(),
                })
            }
        }
    };
}

/// A word that is not one of an enum's values: a row or a message from a newer release, or damage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a value of {kind}")]
pub struct UnknownWord {
    /// The enum that was asked for.
    pub kind: &'static str,
    /// What stood there, cut to 64 characters.
    pub found: String,
}

words! {
    /// Where a revision stands.
    ApplicationStatus {
        /// Asked for and recorded; no node chosen yet.
        Requested = "REQUESTED",
        /// A node is chosen and its work request recorded.
        Initialized = "INITIALIZED",
        /// The node gets the source: a Git fetch or an image pull.
        Fetching = "FETCHING",
        /// The node builds the image.
        Building = "BUILDING",
        /// Containers are being created and started.
        Starting = "STARTING",
        /// Containers run; health is being checked.
        Verifying = "VERIFYING",
        /// Verified and serving.
        Running = "RUNNING",
        /// Was running; at least one service is not healthy now.
        Degraded = "DEGRADED",
        /// Stopped on request; containers and ports are kept.
        Stopped = "STOPPED",
        /// Ended without ever serving, or gave up; see the failure reason.
        Failed = "FAILED",
        /// Failed its checks after the switch; the revision before it serves again.
        RolledBack = "ROLLED_BACK",
        /// Ended on request before it was running.
        Cancelled = "CANCELLED",
        /// A newer revision took over.
        Superseded = "SUPERSEDED",
        /// A one-off task that ended well.
        Completed = "COMPLETED",
        /// Removed with its deployment.
        Destroyed = "DESTROYED",
    }
}

impl ApplicationStatus {
    /// Still on its way to running: work for it is queued or under way.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(
            self,
            Self::Requested
                | Self::Initialized
                | Self::Fetching
                | Self::Building
                | Self::Starting
                | Self::Verifying
        )
    }

    /// Has containers that are meant to serve.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Running | Self::Degraded)
    }

    /// Nothing but destruction can follow.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Failed
                | Self::RolledBack
                | Self::Cancelled
                | Self::Superseded
                | Self::Completed
                | Self::Destroyed
        )
    }

    /// A node may say this of a revision; the rest is the orchestrator's to decide.
    #[must_use]
    pub const fn is_reported_by_nodes(self) -> bool {
        !matches!(self, Self::Requested | Self::Initialized | Self::Superseded)
    }
}

words! {
    /// Why a revision failed: a closed list, each something that a user can act on.
    FailureReason {
        /// The repository has no Config.toml (nor Shipwreck.toml).
        ConfigMissing = "CONFIG_MISSING",
        /// The configuration does not parse or asks for something impossible.
        ConfigInvalid = "CONFIG_INVALID",
        /// The source could not be had: host, repository, ref, access or a limit.
        FetchFailed = "FETCH_FAILED",
        /// The configured Dockerfile is not in the repository.
        DockerfileMissing = "DOCKERFILE_MISSING",
        /// A build step failed.
        BuildFailed = "BUILD_FAILED",
        /// The build took longer than its limit.
        BuildTimeout = "BUILD_TIMEOUT",
        /// The container engine refused to create or start a container.
        StartFailed = "START_FAILED",
        /// The health check did not pass in time, or the container exited.
        Unhealthy = "UNHEALTHY",
        /// No port could be had on the node.
        PortUnavailable = "PORT_UNAVAILABLE",
        /// A pre- or post-deployment script failed.
        ScriptFailed = "SCRIPT_FAILED",
        /// The same content failed before and is marked bad.
        KnownBad = "KNOWN_BAD",
        /// The node was lost and the work could not be placed again.
        NodeLost = "NODE_LOST",
        /// No node can take the deployment.
        NoNodeAvailable = "NO_NODE_AVAILABLE",
        /// Cancelled on request.
        Cancelled = "CANCELLED",
    }
}

words! {
    /// What the user wants of a deployment.
    DesiredState {
        /// Its newest good revision should run.
        Running = "RUNNING",
        /// Kept, with its ports and volumes, but not running.
        Stopped = "STOPPED",
        /// Gone.
        Destroyed = "DESTROYED",
    }
}

words! {
    /// How a new revision replaces the old one.
    Method {
        /// Start it and do not check.
        Blind = "BLIND",
        /// Stop the old one, start the new one, verify, go back when it fails.
        Simple = "SIMPLE",
        /// Start the new one beside the old, verify, switch, then stop the old.
        Rolling = "ROLLING",
        /// Like rolling, with a share of the traffic first.
        Canary = "CANARY",
    }
}

words! {
    /// What a revision was made for.
    RevisionCause {
        /// The deployment was created.
        Created = "CREATED",
        /// Somebody asked for it.
        Redeploy = "REDEPLOY",
        /// The watched ref names another commit.
        NewCommit = "NEW_COMMIT",
        /// Somebody went back to an earlier revision.
        Rollback = "ROLLBACK",
        /// Its node is being drained: the same version on another node.
        Moved = "MOVED",
        /// Its node was lost: the same version on another node.
        NodeLost = "NODE_LOST",
    }
}

words! {
    /// Whether a node takes work.
    NodeStatus {
        /// Heartbeats arrive and its container engine answers.
        Ready = "READY",
        /// Heartbeats arrive, but it cannot work; its detail says why.
        NotReady = "NOT_READY",
        /// No heartbeat for 20 s.
        Lost = "LOST",
    }
}

words! {
    /// Where a log line came from.
    LogStream {
        /// Standard output.
        Stdout = "STDOUT",
        /// Standard error.
        Stderr = "STDERR",
        /// Longshore itself: what it does and why.
        System = "SYSTEM",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back_from_its_spelling() {
        for status in ApplicationStatus::ALL {
            assert_eq!(status.as_str().parse(), Ok(*status));
            let json = serde_json::to_string(status).unwrap();
            assert_eq!(json, format!("\"{status}\""));
        }
        assert!("RUNNINGG".parse::<ApplicationStatus>().is_err());
    }

    #[test]
    fn a_status_is_exactly_one_of_open_live_stopped_final() {
        for status in ApplicationStatus::ALL {
            let kinds = [
                status.is_open(),
                status.is_live(),
                status.is_final(),
                *status == ApplicationStatus::Stopped,
            ];
            assert_eq!(kinds.iter().filter(|kind| **kind).count(), 1, "{status}");
        }
    }
}
