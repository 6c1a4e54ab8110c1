//! The size of a parsed document, with each fragment measured once.

use super::{DocumentLimits, Refusal, at_most};
use async_graphql::Positioned;
use async_graphql::parser::types::{
    Directive, ExecutableDocument, Field, FragmentDefinition, Selection, SelectionSet,
};
use std::collections::HashMap;

/// What a selection amounts to.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    /// Fields and fragments, written out.
    expanded: u64,
    /// Fields within each other, on paths outside the introspection.
    depth: u64,
    /// Fields within each other, on paths through `__schema` or `__type`.
    introspection_depth: u64,
    /// The answer's fields, if every list of the introspection were as long as it usually is.
    answer: u64,
    /// The part of that below `__schema` and `__type`.
    introspection: u64,
}

impl Size {
    /// Of two selections beside each other.
    fn beside(self, other: Self) -> Self {
        Self {
            expanded: self.expanded.saturating_add(other.expanded),
            depth: self.depth.max(other.depth),
            introspection_depth: self.introspection_depth.max(other.introspection_depth),
            answer: self.answer.saturating_add(other.answer),
            introspection: self.introspection.saturating_add(other.introspection),
        }
    }

    /// Of a field around this selection.
    fn below(self, field: &str) -> Self {
        let answer = usual_length(field).saturating_mul(self.answer.saturating_add(1));
        let expanded = self.expanded.saturating_add(1);
        if matches!(field, "__schema" | "__type") {
            let introspection_depth = self.depth.max(self.introspection_depth) + 1;
            return Self {
                expanded,
                depth: 1,
                introspection_depth,
                answer,
                introspection: answer,
            };
        }
        let introspection_depth = if self.introspection_depth == 0 {
            0
        } else {
            self.introspection_depth + 1
        };
        Self {
            expanded,
            depth: self.depth + 1,
            introspection_depth,
            answer,
            introspection: self.introspection,
        }
    }
}

/// How long the lists of the introspection usually are.
fn usual_length(field: &str) -> u64 {
    match field {
        "types" => 64,
        "fields" => 10,
        "enumValues" | "inputFields" | "directives" | "locations" => 8,
        "args" => 4,
        "interfaces" | "possibleTypes" => 2,
        _ => 1,
    }
}

/// Counts of what is written once, wherever it is used.
#[derive(Default)]
struct Written {
    spreads: u64,
    aliases: u64,
    directives: u64,
}

struct Measuring<'a> {
    fragments: HashMap<&'a str, &'a FragmentDefinition>,
    /// `None` while a fragment is being measured.
    measured: HashMap<&'a str, Option<Size>>,
    written: Written,
}

/// Refuses a document that is too large in any way. Every selection is visited once.
pub(super) fn measure(
    document: &ExecutableDocument,
    limits: &DocumentLimits,
) -> Result<(), Refusal> {
    let definitions = document.operations.iter().count() + document.fragments.len();
    at_most(
        "operations and fragments",
        definitions as u64,
        limits.definitions as u64,
    )?;
    let fragments = document
        .fragments
        .iter()
        .map(|(name, fragment)| (name.as_str(), &fragment.node))
        .collect();
    let mut measuring = Measuring {
        fragments,
        measured: HashMap::new(),
        written: Written::default(),
    };
    let mut whole = Size::default();
    for (_, operation) in document.operations.iter() {
        measuring.count(&operation.node.directives);
        for variable in &operation.node.variable_definitions {
            measuring.count(&variable.node.directives);
        }
        whole = whole.beside(measuring.selection_set(&operation.node.selection_set)?);
    }
    for name in document.fragments.keys() {
        // Those that no operation uses are validated too.
        measuring.fragment(name.as_str())?;
    }
    let written = measuring.written;
    at_most("fragment spreads", written.spreads, limits.spreads as u64)?;
    at_most("aliases", written.aliases, limits.aliases as u64)?;
    at_most("directives", written.directives, limits.directives as u64)?;
    at_most(
        "fields with fragments written out",
        whole.expanded,
        limits.expanded,
    )?;
    at_most("levels of fields", whole.depth, limits.depth)?;
    at_most(
        "levels of fields",
        whole.introspection_depth,
        limits.introspection_depth,
    )?;
    at_most(
        "fields to be introspected",
        whole.introspection,
        limits.introspection_cost,
    )
}

impl<'a> Measuring<'a> {
    fn count(&mut self, directives: &[Positioned<Directive>]) {
        self.written.directives += directives.len() as u64;
    }

    fn selection_set(&mut self, set: &'a Positioned<SelectionSet>) -> Result<Size, Refusal> {
        let mut size = Size::default();
        for selection in &set.node.items {
            size = size.beside(self.selection(&selection.node)?);
        }
        Ok(size)
    }

    fn selection(&mut self, selection: &'a Selection) -> Result<Size, Refusal> {
        match selection {
            Selection::Field(field) => self.field(&field.node),
            Selection::InlineFragment(fragment) => {
                self.count(&fragment.node.directives);
                let size = self.selection_set(&fragment.node.selection_set)?;
                Ok(Size {
                    expanded: size.expanded.saturating_add(1),
                    ..size
                })
            }
            Selection::FragmentSpread(spread) => {
                self.count(&spread.node.directives);
                self.written.spreads += 1;
                let size = self.fragment(spread.node.fragment_name.node.as_str())?;
                Ok(Size {
                    expanded: size.expanded.saturating_add(1),
                    ..size
                })
            }
        }
    }

    fn field(&mut self, field: &'a Field) -> Result<Size, Refusal> {
        self.count(&field.directives);
        self.written.aliases += u64::from(field.alias.is_some());
        Ok(self
            .selection_set(&field.selection_set)?
            .below(field.name.node.as_str()))
    }

    /// The size of a fragment, measured at its first use. One that does not exist has none;
    /// validation names it.
    fn fragment(&mut self, name: &'a str) -> Result<Size, Refusal> {
        match self.measured.get(name) {
            Some(Some(size)) => return Ok(*size),
            Some(None) => {
                return Err(Refusal::Cycle {
                    name: shared::name::shown(name),
                });
            }
            None => {}
        }
        let Some(fragment) = self.fragments.get(name).copied() else {
            return Ok(Size::default());
        };
        self.measured.insert(name, None);
        self.count(&fragment.directives);
        let size = self.selection_set(&fragment.selection_set)?;
        self.measured.insert(name, Some(size));
        Ok(size)
    }
}
