//! Every query, mutation and subscription that the commands send, as plain documents.
//!
//! Plain texts and one test against the committed SDL instead of generated code: nothing is generated
//! while building, and a change of the schema does not rebuild the client.

/// A document of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Document {
    DeploymentById,
    DeploymentByName,
    Deployments,
    Revision,
    Revisions,
    Nodes,
    NodeById,
    NodeByName,
    Cordon,
    Uncordon,
    Drain,
    RemoveNode,
    NodeStatus,
    DeadLetters,
    DeadLetter,
    RetryDeadLetter,
    DropDeadLetter,
    Create,
    Redeploy,
    Rollback,
    Start,
    Stop,
    Restart,
    Destroy,
    Cancel,
    Statuses,
    BuildLog,
    ServiceLog,
}

const DEPLOYMENT: &str = "
fragment DeploymentParts on Deployment {
  id name status failureReason statusDetail desiredState url createdAt updatedAt
  source {
    __typename
    ... on GitSource { url ref subdir pollSeconds }
    ... on ImageSource { image: ref port }
  }
  gitWatch { lastPolledAt nextPollAt lastCommit lastError }
  labels { key value }
  node { name }
  ports { port containerPort service node { name } }
  services { name status restarts domain }
  activeRevision { ...RevisionParts }
  latestRevision { ...RevisionParts }
}";

const REVISION: &str = "
fragment RevisionParts on Revision { id number status failureReason statusDetail sourceVersion createdAt }";

const STATUS: &str = "
fragment StatusParts on StatusEvent { revisionId seq status failureReason detail at }";

const LINE: &str = "
fragment LineParts on LogLine { seq at stream service text }";

const NODE: &str = "
fragment NodeParts on Node {
  id name status detail version engineVersion advertise lastHeartbeatAt cordoned
  drain { until isOver left stays { deployment reason } }
  capacity { cpuMillis memoryMib slots } load { memoryUsedMib running busySlots } labels { key value }
}";

const LETTER: &str = "
fragment LetterParts on DeadLetter { id queue node reason sender deliveries size encoding isTruncated diedAt }";

impl Document {
    /// All of them.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 28] = [
        Self::DeploymentById,
        Self::DeploymentByName,
        Self::Deployments,
        Self::Revision,
        Self::Revisions,
        Self::Nodes,
        Self::NodeById,
        Self::NodeByName,
        Self::Cordon,
        Self::Uncordon,
        Self::Drain,
        Self::RemoveNode,
        Self::NodeStatus,
        Self::DeadLetters,
        Self::DeadLetter,
        Self::RetryDeadLetter,
        Self::DropDeadLetter,
        Self::Create,
        Self::Redeploy,
        Self::Rollback,
        Self::Start,
        Self::Stop,
        Self::Restart,
        Self::Destroy,
        Self::Cancel,
        Self::Statuses,
        Self::BuildLog,
        Self::ServiceLog,
    ];

    /// The document with the fragments that it uses.
    pub(crate) fn text(self) -> String {
        let operation = self.operation();
        let mut text = operation.to_owned();
        let fragments = [
            ("...DeploymentParts", DEPLOYMENT),
            ("...RevisionParts", REVISION),
            ("...StatusParts", STATUS),
            ("...LineParts", LINE),
            ("...NodeParts", NODE),
            ("...LetterParts", LETTER),
        ];
        for (spread, fragment) in fragments {
            if text.contains(spread) {
                text.push_str(fragment);
            }
        }
        text
    }

    const fn operation(self) -> &'static str {
        match self {
            Self::DeploymentById => "query($id: ID!) { deployment(id: $id) { ...DeploymentParts } }",
            Self::DeploymentByName => "query($name: String!) { deployment(name: $name) { ...DeploymentParts } }",
            Self::Deployments => {
                "query($filter: DeploymentFilter, $first: Int, $after: String) {
                  deployments(filter: $filter, first: $first, after: $after) {
                    nodes { ...DeploymentParts } pageInfo { hasNextPage endCursor }
                  }
                }"
            }
            Self::Revision => "query($id: ID!) { revision(id: $id) { events { ...StatusParts } } }",
            Self::Revisions => {
                "query($id: ID!, $first: Int) { deployment(id: $id) { revisions(first: $first) { nodes { ...RevisionParts } } } }"
            }
            Self::Nodes => "query { nodes { ...NodeParts } }",
            Self::NodeById => "query($id: ID!) { node(id: $id) { ...NodeParts } }",
            Self::NodeByName => "query($name: String!) { node(name: $name) { ...NodeParts } }",
            Self::Cordon => "mutation($id: ID!) { cordonNode(id: $id) { ...NodeParts } }",
            Self::Uncordon => "mutation($id: ID!) { uncordonNode(id: $id) { ...NodeParts } }",
            Self::Drain => {
                "mutation($id: ID!, $deadlineSeconds: Int!) { drainNode(id: $id, deadlineSeconds: $deadlineSeconds) { ...NodeParts } }"
            }
            Self::RemoveNode => "mutation($id: ID!) { removeNode(id: $id) { ...NodeParts } }",
            Self::NodeStatus => "subscription { nodeStatus { ...NodeParts } }",
            Self::DeadLetters => {
                "query($first: Int, $after: String) {
                  deadLetters(first: $first, after: $after) { nodes { ...LetterParts } pageInfo { hasNextPage endCursor } }
                }"
            }
            Self::DeadLetter => "query($id: ID!) { deadLetter(id: $id) { ...LetterParts body } }",
            Self::RetryDeadLetter => "mutation($id: ID!) { retryDeadLetter(id: $id) { ...LetterParts } }",
            Self::DropDeadLetter => "mutation($id: ID!) { dropDeadLetter(id: $id) { ...LetterParts } }",
            Self::Create => {
                "mutation($input: CreateDeploymentInput!) { createDeployment(input: $input) { ...DeploymentParts } }"
            }
            Self::Redeploy => {
                "mutation($id: ID!, $ref: String) { redeployDeployment(id: $id, ref: $ref) { ...DeploymentParts } }"
            }
            Self::Rollback => {
                "mutation($id: ID!, $toRevision: Int) { rollbackDeployment(id: $id, toRevision: $toRevision) { ...DeploymentParts } }"
            }
            Self::Start => {
                "mutation($id: ID!, $services: [String!]) { startDeployment(id: $id, services: $services) { ...DeploymentParts } }"
            }
            Self::Stop => {
                "mutation($id: ID!, $services: [String!]) { stopDeployment(id: $id, services: $services) { ...DeploymentParts } }"
            }
            Self::Restart => {
                "mutation($id: ID!, $services: [String!]) { restartDeployment(id: $id, services: $services) { ...DeploymentParts } }"
            }
            Self::Destroy => {
                "mutation($id: ID!, $volumes: Boolean!) { destroyDeployment(id: $id, volumes: $volumes) { ...DeploymentParts } }"
            }
            Self::Cancel => "mutation($id: ID!) { cancelRevision(id: $id) { ...RevisionParts } }",
            Self::Statuses => "subscription($id: ID!) { deploymentStatus(id: $id) { ...StatusParts } }",
            Self::BuildLog => "subscription($id: ID!) { buildLog(revisionId: $id) { ...LineParts } }",
            Self::ServiceLog => {
                "subscription($id: ID!, $service: String, $tail: Int) {
                  serviceLog(deploymentId: $id, service: $service, tail: $tail) { ...LineParts }
                }"
            }
        }
    }
}
