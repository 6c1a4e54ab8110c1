//! What a document may cost, decided before anything is executed.
//!
//! async-graphql's own limits follow every fragment spread each time that it is written, so that a
//! document of 1 KiB in which 28 fragments spread the one before twice holds a core for a minute
//! before it is refused. This guard comes first and is linear in the document's length:
//!
//! 1. [`scan`] looks at the bytes: length, number of tokens, nesting of brackets. What passes can be
//!    parsed within a bounded stack.
//! 2. [`measure`] looks at the parsed document: fragments, spreads, aliases, directives, depth, and
//!    the size that the document would have with every fragment written out, each fragment measured
//!    once.
//!
//! What passes is small enough for async-graphql's validation, which then prices every list by its
//! page size (see [`crate::page`]).

mod measure;
mod scan;

use async_graphql::parser::{parse_query, types::ExecutableDocument};

/// What a document may have of each thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DocumentLimits {
    /// Length of the text.
    pub(crate) bytes: usize,
    /// Names, numbers, strings and punctuation.
    pub(crate) tokens: usize,
    /// Brackets of any kind within each other.
    pub(crate) nesting: usize,
    /// Operations and fragments.
    pub(crate) definitions: usize,
    /// Places where a fragment is used by its name.
    pub(crate) spreads: usize,
    /// Fields with a name of their own.
    pub(crate) aliases: usize,
    /// Directives, anywhere.
    pub(crate) directives: usize,
    /// Fields within each other.
    pub(crate) depth: u64,
    /// Fields within each other below `__schema` and `__type`: the usual tools ask for the type of a
    /// type of a type, nine times.
    pub(crate) introspection_depth: u64,
    /// Fields and fragments, with each fragment written out wherever it is used.
    pub(crate) expanded: u64,
    /// What an introspection may answer, in fields, estimated.
    pub(crate) introspection_cost: u64,
}

impl Default for DocumentLimits {
    fn default() -> Self {
        Self {
            bytes: 64 * 1024,
            tokens: 4_000,
            nesting: 48,
            definitions: 64,
            spreads: 200,
            aliases: 100,
            directives: 50,
            depth: 12,
            introspection_depth: 20,
            expanded: 2_000,
            introspection_cost: 200_000,
        }
    }
}

/// Why a document is not executed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// More of something than its limit.
    #[error("the document has {found} {what}; at most {limit} are allowed")]
    TooMany {
        /// What was counted.
        what: &'static str,
        /// How much of it there is, or as far as it was counted.
        found: u64,
        /// How much there may be.
        limit: u64,
    },
    /// A fragment that spreads itself, at some remove.
    #[error("the fragment `{name}` spreads itself")]
    Cycle {
        /// The fragment.
        name: String,
    },
    /// Not a GraphQL document.
    #[error("the document does not parse: {reason}")]
    Syntax {
        /// What was expected, in the parser's words.
        reason: String,
    },
}

/// Refuses `found` of something beyond its limit.
fn at_most(what: &'static str, found: u64, limit: u64) -> Result<(), Refusal> {
    if found > limit {
        Err(Refusal::TooMany { what, found, limit })
    } else {
        Ok(())
    }
}

/// Parses a document that is cheap enough to be validated and executed.
///
/// # Errors
/// [`Refusal`], after work that is linear in the document's length.
pub(crate) fn parse(
    document: &str,
    limits: &DocumentLimits,
) -> Result<ExecutableDocument, Refusal> {
    scan::scan(document, limits)?;
    let parsed = parse_query(document).map_err(|error| Refusal::Syntax {
        reason: reason(&error),
    })?;
    measure::measure(&parsed, limits)?;
    Ok(parsed)
}

/// The parser's reason on one line: it draws the offending line below a ruler, for terminals.
fn reason(error: &async_graphql::parser::Error) -> String {
    let text = error.to_string();
    let expected = text
        .rsplit_once("= ")
        .map_or(text.as_str(), |(_, expected)| expected);
    match error.positions().next() {
        Some(at) => format!(
            "line {}, column {}: {}",
            at.line,
            at.column,
            shared::name::shown(expected)
        ),
        None => shared::name::shown(expected),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    fn check(document: &str) -> Result<(), Refusal> {
        parse(document, &DocumentLimits::default()).map(|_| ())
    }

    fn refused(document: &str) -> &'static str {
        match check(document) {
            Err(Refusal::TooMany { what, .. }) => what,
            other => panic!("{other:?}"),
        }
    }

    /// `count` fragments, each of which spreads the one before it `times` times.
    fn doubling(count: usize, times: usize) -> String {
        let mut document = "query{...f0}fragment f0 on Query{nodes{id}}".to_owned();
        for fragment in 1..count {
            let spread = format!("...f{}", fragment - 1).repeat(times);
            write!(document, "fragment f{fragment} on Query{{{spread}}}").unwrap();
        }
        document.replacen("...f0", &format!("...f{}", count - 1), 1)
    }

    #[test]
    fn ordinary_documents_pass() {
        for document in [
            "{nodes{id}}",
            "query A{nodes{id}} query B{nodes{name}}",
            "mutation($i: CreateDeploymentInput!){createDeployment(input:$i){id}}",
            "subscription{deploymentStatus{status}}",
            "{deployment(name:\"\"\"{{{{ # not a comment\"\"\"){id}} # {{{{",
            &doubling(5, 1),
        ] {
            assert_eq!(check(document), Ok(()), "{document}");
        }
    }

    #[test]
    fn fragments_that_double_are_measured_once_each() {
        assert_eq!(
            refused(&doubling(28, 2)),
            "fields with fragments written out"
        );
        assert_eq!(
            refused(&doubling(60, 3)),
            "fields with fragments written out"
        );
        assert_eq!(refused(&doubling(5_000, 1)), "bytes");
    }

    #[test]
    fn a_fragment_that_spreads_itself_is_refused() {
        let cycle = |name: &str| {
            Err(Refusal::Cycle {
                name: name.to_owned(),
            })
        };
        assert_eq!(check("{...a} fragment a on Query{...a}"), cycle("a"));
        let two = check("{...a} fragment a on Query{...b} fragment b on Query{...a}");
        assert!(matches!(two, Err(Refusal::Cycle { .. })), "{two:?}");
        // Also where no operation uses it: validation would walk it all the same.
        assert_eq!(
            check("{nodes{id}} fragment a on Query{x{...a}}"),
            cycle("a")
        );
    }

    #[test]
    fn each_thing_has_its_limit() {
        let deep = |depth: usize| {
            format!("{}id{}", "{a".repeat(depth), "}".repeat(depth)).replacen("aid", "a{id}", 1)
        };
        assert_eq!(check(&deep(11)), Ok(()));
        assert_eq!(refused(&deep(12)), "levels of fields");
        assert_eq!(refused(&deep(60)), "levels of brackets");
        assert_eq!(refused(&"{".repeat(30_000)), "tokens");
        assert_eq!(refused(&" ".repeat(70_000)), "bytes");
        let many = |part: &str, count: usize| format!("{{{}}}", part.repeat(count));
        assert_eq!(refused(&many("a ", 10_000)), "tokens");
        assert_eq!(
            refused(&many("a ", 2_100)),
            "fields with fragments written out"
        );
        assert_eq!(refused(&many("a:b ", 101)), "aliases");
        assert_eq!(refused(&many("a @x ", 51)), "directives");
        assert_eq!(refused(&many("...{a @x} ", 51)), "directives");
        assert_eq!(
            refused(&format!("query {} {{a}}", "@x ".repeat(51))),
            "directives"
        );
        assert_eq!(
            refused(&format!(
                "{{...f}} fragment f on Query {{{}}}",
                "...g ".repeat(200)
            )),
            "fragment spreads"
        );
        let fragments: String = (0..64)
            .map(|n| format!("fragment f{n} on Query{{a}}"))
            .collect();
        assert_eq!(
            refused(&format!("{{a}}{fragments}")),
            "operations and fragments"
        );
        assert_eq!(
            refused(&format!("{{a(b:{}{})}}", "[".repeat(60), "]".repeat(60))),
            "levels of brackets"
        );
    }

    #[test]
    fn introspection_has_room_for_the_usual_tools_and_no_more() {
        let type_of =
            |depth: usize| format!("{}kind{}", "ofType{".repeat(depth), "}".repeat(depth));
        let usual = format!(
            "{{__schema{{types{{fields{{args{{type{{{}}}}}}}}}}}}}",
            type_of(9)
        );
        assert_eq!(check(&usual), Ok(()));
        let deep = format!("{{__schema{{types{{{}}}}}}}", type_of(20));
        assert_eq!(refused(&deep), "levels of fields");
        let wide = "{__schema{types{fields{type{fields{type{fields{type{fields{name}}}}}}}}}}";
        assert_eq!(refused(wide), "fields to be introspected");
        // A name of ours below the introspection does not lend its depth to the rest.
        assert_eq!(
            refused(&format!(
                "{{__typename {}}}",
                &format!("{}id{}", "a{".repeat(13), "}".repeat(13))
            )),
            "levels of fields"
        );
    }

    #[test]
    fn what_does_not_parse_is_said_on_one_short_line() {
        for document in [
            "",
            "{",
            "}",
            "{a(}",
            "\"\"\"",
            "{a(b:\"x)}",
            "query",
            "🦀",
            "{a}\u{0}",
            "{}",
            "{a(b:\"\"\"\"[[)}",
        ] {
            let Err(error) = check(document) else {
                panic!("{document:?}")
            };
            let text = error.to_string();
            assert!(text.len() < 300 && !text.contains('\n'), "{text}");
        }
    }
}
