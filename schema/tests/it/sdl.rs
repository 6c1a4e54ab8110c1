//! The schema as it is written down.

use async_graphql::Positioned;
use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{
    FieldDefinition, InputValueDefinition, TypeDefinition, TypeKind, TypeSystemDefinition,
};
use std::path::Path;

/// `UPDATE_SCHEMA=1 cargo nextest run -p schema sdl` writes the file anew.
#[test]
fn the_committed_schema_is_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema.graphql");
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, schema::sdl()).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert!(
        committed == schema::sdl(),
        "schema/schema.graphql is not what the code says: run this test with UPDATE_SCHEMA=1"
    );
}

#[test]
fn everything_is_described() {
    let missing: Vec<String> = types().iter().flat_map(undescribed).collect();
    assert!(missing.is_empty(), "without a description: {missing:#?}");
}

/// What was promised, as DESIGN has it: names and nullability that must not change once shipped.
#[test]
fn the_contract_is_kept() {
    let sdl = schema::sdl();
    let plain = without_descriptions(&sdl);
    for line in CONTRACT
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let (owner, field) = line.split_once(' ').unwrap();
        let block = plain
            .split(&format!("\n{} {{\n", owner.replace('.', " ")))
            .nth(1)
            .unwrap_or_else(|| panic!("no {owner}"));
        let block = block.split("\n}").next().unwrap();
        assert!(
            block.lines().any(|found| found.trim() == field),
            "{owner} has no `{field}` in:\n{block}"
        );
    }
}

const CONTRACT: &str = "
    type.Query deployment(id: ID, name: String): Deployment
    type.Query deployments(filter: DeploymentFilter, first: Int, after: String): DeploymentConnection!
    type.Query revision(id: ID!): Revision
    type.Query node(id: ID, name: String): Node
    type.Query nodes: [Node!]!
    type.Mutation createDeployment(input: CreateDeploymentInput!): Deployment!
    type.Mutation redeployDeployment(id: ID!, ref: String): Deployment!
    type.Mutation rollbackDeployment(id: ID!, toRevision: Int): Deployment!
    type.Mutation startDeployment(id: ID!, services: [String!]): Deployment!
    type.Mutation stopDeployment(id: ID!, services: [String!]): Deployment!
    type.Mutation restartDeployment(id: ID!, services: [String!]): Deployment!
    type.Mutation destroyDeployment(id: ID!, volumes: Boolean! = false): Deployment!
    type.Mutation cancelRevision(id: ID!): Revision!
    type.Mutation cordonNode(id: ID!): Node!
    type.Mutation uncordonNode(id: ID!): Node!
    type.Mutation drainNode(id: ID!, deadlineSeconds: Int! = 3600): Node!
    type.Mutation removeNode(id: ID!): Node!
    type.Mutation retryDeadLetter(id: ID!): DeadLetter!
    type.Mutation dropDeadLetter(id: ID!): DeadLetter!
    type.Query deadLetter(id: ID!): DeadLetter
    type.Query deadLetters(first: Int, after: String): DeadLetterConnection!
    type.Subscription deploymentStatus(id: ID): StatusEvent!
    type.Subscription buildLog(revisionId: ID!): LogLine!
    type.Subscription serviceLog(deploymentId: ID!, service: String, tail: Int): LogLine!
    type.Subscription nodeStatus: Node!
    input.CreateDeploymentInput name: String!
    input.CreateDeploymentInput git: GitSourceInput
    input.CreateDeploymentInput image: ImageSourceInput
    input.CreateDeploymentInput labels: [LabelInput!]
    input.CreateDeploymentInput node: String
    input.CreateDeploymentInput method: Method
    input.GitSourceInput url: String!
    input.GitSourceInput ref: String
    input.GitSourceInput subdir: String
    input.GitSourceInput pollSeconds: Int
    type.Deployment id: ID!
    type.Deployment name: String!
    type.Deployment status: ApplicationStatus!
    type.Deployment failureReason: FailureReason
    type.Deployment statusDetail: String
    type.Deployment desiredState: DesiredState!
    type.Deployment labels: [Label!]!
    type.Deployment node: Node
    type.Deployment url: String
    type.Deployment ports: [PortLease!]!
    type.Deployment activeRevision: Revision
    type.Deployment latestRevision: Revision
    type.Deployment services: [Service!]!
    type.Deployment revisions(first: Int, after: String): RevisionConnection!
    type.Revision id: ID!
    type.Revision number: Int!
    type.Revision status: ApplicationStatus!
    type.Revision failureReason: FailureReason
    type.Revision statusDetail: String
    type.Revision sourceVersion: String
    type.Revision epoch: Int!
    type.Revision node: Node
    type.Revision events: [StatusEvent!]!
    type.StatusEvent deploymentId: ID!
    type.StatusEvent revisionId: ID!
    type.StatusEvent revision: Int!
    type.StatusEvent epoch: Int!
    type.StatusEvent seq: Int!
    type.StatusEvent status: ApplicationStatus!
    type.StatusEvent failureReason: FailureReason
    type.StatusEvent detail: String
    type.StatusEvent at: DateTime!
    type.LogLine seq: Int!
    type.LogLine at: DateTime!
    type.LogLine stream: LogStream!
    type.LogLine text: String!
    type.PortLease port: Int!
    type.PortLease containerPort: Int!
    type.PortLease service: String!
    type.PortLease node: Node!
";

fn types() -> Vec<TypeDefinition> {
    let document = parse_schema(schema::sdl()).unwrap();
    let definitions = document.definitions.into_iter();
    definitions
        .filter_map(|definition| match definition {
            TypeSystemDefinition::Type(found) => Some(found.node),
            TypeSystemDefinition::Schema(_) | TypeSystemDefinition::Directive(_) => None,
        })
        .collect()
}

fn undescribed(found: &TypeDefinition) -> Vec<String> {
    let name = found.name.node.as_str();
    let mut missing = Vec::new();
    if found.description.is_none() {
        missing.push(name.to_owned());
    }
    match &found.kind {
        TypeKind::Object(object) => missing.extend(
            object
                .fields
                .iter()
                .flat_map(|field| undescribed_field(name, field)),
        ),
        TypeKind::InputObject(input) => missing.extend(undescribed_values(name, &input.fields)),
        TypeKind::Enum(values) => {
            let values = values
                .values
                .iter()
                .filter(|value| value.node.description.is_none());
            missing.extend(values.map(|value| format!("{name}.{}", value.node.value.node)));
        }
        TypeKind::Scalar | TypeKind::Union(_) | TypeKind::Interface(_) => {}
    }
    missing
}

fn undescribed_field(owner: &str, field: &Positioned<FieldDefinition>) -> Vec<String> {
    let name = format!("{owner}.{}", field.node.name.node);
    let mut missing = undescribed_values(&name, &field.node.arguments);
    if field.node.description.is_none() {
        missing.push(name);
    }
    missing
}

fn undescribed_values(owner: &str, values: &[Positioned<InputValueDefinition>]) -> Vec<String> {
    let values = values
        .iter()
        .filter(|value| value.node.description.is_none());
    values
        .map(|value| format!("{owner}({})", value.node.name.node))
        .collect()
}

/// The SDL with each field on one line and nothing but the fields.
fn without_descriptions(sdl: &str) -> String {
    let mut plain = String::new();
    let (mut inside, mut open) = (false, false);
    for line in sdl.lines() {
        let text = line.trim();
        if text.starts_with("\"\"\"") {
            inside = !inside;
        } else if !inside && !text.starts_with('"') {
            if !open {
                plain.push('\n');
            }
            plain.push_str(text);
            if text.ends_with(',') {
                plain.push(' ');
            }
            open = text.ends_with('(') || (open && !text.starts_with(')'));
        }
    }
    plain
}
