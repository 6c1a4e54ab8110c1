//! Every document that the commands send, against the committed schema: each field exists where it is
//! asked for, each argument exists and is given the type that it takes, nothing needed is left out.

use crate::client::document::Document;
use async_graphql_parser::types::{
    BaseType, DocumentOperations, ExecutableDocument, Field, FieldDefinition, OperationType,
    Selection, SelectionSet, ServiceDocument, Type, TypeDefinition, TypeKind, TypeSystemDefinition,
};
use async_graphql_parser::{Positioned, parse_query, parse_schema};
use std::collections::BTreeMap;

struct Schema {
    types: BTreeMap<String, TypeDefinition>,
}

impl Schema {
    fn committed() -> Self {
        let sdl = std::fs::read_to_string(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../schema/schema.graphql"
        ))
        .unwrap();
        let document: ServiceDocument = parse_schema(sdl).unwrap();
        let types = document
            .definitions
            .into_iter()
            .filter_map(|definition| match definition {
                TypeSystemDefinition::Type(definition) => {
                    Some((definition.node.name.node.to_string(), definition.node))
                }
                _ => None,
            });
        Self {
            types: types.collect(),
        }
    }

    fn fields(&self, name: &str) -> &[Positioned<FieldDefinition>] {
        match &self
            .types
            .get(name)
            .unwrap_or_else(|| panic!("no type {name}"))
            .kind
        {
            TypeKind::Object(object) => &object.fields,
            TypeKind::Interface(interface) => &interface.fields,
            _ => &[],
        }
    }

    fn is_leaf(&self, name: &str) -> bool {
        let scalars = ["ID", "String", "Int", "Float", "Boolean"];
        scalars.contains(&name)
            || matches!(
                self.types.get(name).map(|definition| &definition.kind),
                Some(TypeKind::Scalar | TypeKind::Enum(_))
            )
    }
}

fn name_of(ty: &Type) -> String {
    match &ty.base {
        BaseType::Named(name) => name.to_string(),
        BaseType::List(inner) => name_of(inner),
    }
}

struct Check<'a> {
    schema: &'a Schema,
    document: &'a ExecutableDocument,
    variables: BTreeMap<String, Type>,
}

impl Check<'_> {
    fn selection(&self, set: &SelectionSet, on: &str) {
        assert!(!set.items.is_empty());
        for item in &set.items {
            match &item.node {
                Selection::Field(field) => self.field(&field.node, on),
                Selection::FragmentSpread(spread) => {
                    let name = &spread.node.fragment_name.node;
                    let fragment = &self
                        .document
                        .fragments
                        .get(name)
                        .unwrap_or_else(|| panic!("no fragment {name}"))
                        .node;
                    assert_eq!(fragment.type_condition.node.on.node.as_str(), on, "{name}");
                    self.selection(&fragment.selection_set.node, on);
                }
                Selection::InlineFragment(fragment) => {
                    let on = fragment
                        .node
                        .type_condition
                        .as_ref()
                        .map_or(on, |condition| condition.node.on.node.as_str());
                    self.selection(&fragment.node.selection_set.node, on);
                }
            }
        }
    }

    fn field(&self, field: &Field, on: &str) {
        let name = field.name.node.as_str();
        if name == "__typename" {
            return;
        }
        let fields = self.schema.fields(on);
        let definition = fields
            .iter()
            .find(|other| other.node.name.node == name)
            .unwrap_or_else(|| panic!("{on} has no {name}"));
        for (argument, value) in &field.arguments {
            let taken = definition
                .node
                .arguments
                .iter()
                .find(|other| other.node.name.node == argument.node);
            let taken = taken.unwrap_or_else(|| panic!("{on}.{name} takes no {}", argument.node));
            let variable = value.node.to_string();
            let given = self
                .variables
                .get(variable.trim_start_matches('$'))
                .unwrap_or_else(|| panic!("{variable} is not declared"));
            let (given, wanted) = (given.to_string(), taken.node.ty.node.to_string());
            // What is never null fits where null is allowed.
            assert!(
                given == wanted || given == format!("{wanted}!"),
                "{on}.{name}({}): {given} for {wanted}",
                argument.node
            );
        }
        for needed in definition
            .node
            .arguments
            .iter()
            .filter(|other| !other.node.ty.node.nullable && other.node.default_value.is_none())
        {
            assert!(
                field
                    .arguments
                    .iter()
                    .any(|(name, _)| name.node == needed.node.name.node),
                "{on}.{name} needs {}",
                needed.node.name
            );
        }
        let below = name_of(&definition.node.ty.node);
        assert_eq!(
            self.schema.is_leaf(&below),
            field.selection_set.node.items.is_empty(),
            "{on}.{name}"
        );
        if !field.selection_set.node.items.is_empty() {
            self.selection(&field.selection_set.node, &below);
        }
    }
}

#[test]
fn every_document_fits_the_committed_schema() {
    let schema = Schema::committed();
    for document in Document::ALL {
        let parsed =
            parse_query(document.text()).unwrap_or_else(|error| panic!("{document:?}: {error}"));
        let DocumentOperations::Single(operation) = &parsed.operations else {
            panic!("{document:?}: one operation")
        };
        let operation = &operation.node;
        let variables = operation.variable_definitions.iter();
        let variables = variables
            .map(|variable| {
                (
                    variable.node.name.node.to_string(),
                    variable.node.var_type.node.clone(),
                )
            })
            .collect();
        let root = match operation.ty {
            OperationType::Query => "Query",
            OperationType::Mutation => "Mutation",
            OperationType::Subscription => "Subscription",
        };
        let check = Check {
            schema: &schema,
            document: &parsed,
            variables,
        };
        check.selection(&operation.selection_set.node, root);
    }
}
