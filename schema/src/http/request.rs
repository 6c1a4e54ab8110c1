//! A GraphQL request as it is sent, the same in a body, in a query string and on a WebSocket.

use crate::auth::Caller;
use crate::error::{ApiError, Code};
use crate::guard::{self, DocumentLimits};
use async_graphql::Variables;
use async_graphql::parser::types::{
    DocumentOperations, ExecutableDocument, OperationDefinition, OperationType, Selection,
};
use serde::Deserialize;
use serde_json::{Map, Value};

/// What is asked.
#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    query: String,
    #[serde(rename = "operationName")]
    operation_name: Option<String>,
    variables: Option<Map<String, Value>>,
    /// None are understood; they must be an object all the same.
    #[serde(rename = "extensions")]
    _extensions: Option<Map<String, Value>>,
}

/// What cannot be read as a request, in words for whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) String);

impl Asked {
    /// Reads a body.
    ///
    /// # Errors
    /// [`Malformed`] for anything but an object with these parts, each of its type.
    pub(crate) fn from_json(body: &[u8]) -> Result<Self, Malformed> {
        if body.trim_ascii_start().starts_with(b"[") {
            return Err(Malformed(
                "a body is one request; lists of requests are not read".to_owned(),
            ));
        }
        serde_json::from_slice(body).map_err(|error| {
            Malformed(format!(
                "the body is not a GraphQL request: {}",
                said(&error)
            ))
        })
    }

    /// Reads a query string.
    ///
    /// # Errors
    /// [`Malformed`] as for a body; `variables` and `extensions` are JSON in it.
    pub(crate) fn from_query_string(query: &str) -> Result<Self, Malformed> {
        #[derive(Deserialize)]
        struct Parameters {
            query: String,
            #[serde(rename = "operationName")]
            operation_name: Option<String>,
            variables: Option<String>,
            extensions: Option<String>,
        }
        let uri: ::http::Uri = format!("/?{query}")
            .parse()
            .map_err(|_| Malformed("the query string cannot be read".to_owned()))?;
        let parameters =
            axum::extract::Query::<Parameters>::try_from_uri(&uri).map_err(|error| {
                Malformed(format!(
                    "the query string is not a GraphQL request: {}",
                    shared::name::shown(&error.body_text())
                ))
            })?;
        Ok(Self {
            query: parameters.0.query,
            operation_name: parameters.0.operation_name.filter(|name| !name.is_empty()),
            variables: object("variables", parameters.0.variables)?,
            _extensions: object("extensions", parameters.0.extensions)?,
        })
    }

    /// Parses what is asked and refuses what would cost too much.
    ///
    /// # Errors
    /// `INVALID_INPUT`.
    pub(crate) fn prepare(
        self,
        caller: Caller,
        limits: &DocumentLimits,
    ) -> Result<Prepared, ApiError> {
        let document = guard::parse(&self.query, limits)
            .map_err(|refusal| ApiError::new(Code::InvalidInput, refusal.to_string()))?;
        let variables = self.variables.unwrap_or_default();
        let operation = operation(&document, self.operation_name.as_deref());
        if let Some(missing) =
            operation.and_then(|operation| missing_variable(operation, &variables))
        {
            // async-graphql would find out while it executes, after what stands before it was done.
            return Err(ApiError::new(
                Code::InvalidInput,
                format!(
                    "the variable `${}` is required",
                    shared::name::shown(missing)
                ),
            ));
        }
        let shared = operation
            .filter(|operation| follows_all(operation))
            .map(|_| shared_key(&self.query, self.operation_name.as_deref(), &variables));
        let operation = operation.map(|operation| operation.ty);
        // The text is not needed again: the parsed document goes along.
        let mut request = async_graphql::Request::new(String::new()).data(caller);
        request.operation_name = self.operation_name;
        request.variables = Variables::from_json(Value::Object(variables));
        request.set_parsed_query(document);
        Ok(Prepared {
            request,
            operation,
            shared,
        })
    }
}

/// A request that may be executed.
pub(crate) struct Prepared {
    pub(crate) request: async_graphql::Request,
    /// What kind of operation will be executed; none when the document does not say which.
    pub(crate) operation: Option<OperationType>,
    /// Who asks the same at another moment is answered the same from then on, and has the same key.
    pub(crate) shared: Option<String>,
}

/// Whether an operation follows the steps of all deployments and nothing else: it begins with what
/// happens next, and says the same to everybody.
fn follows_all(operation: &OperationDefinition) -> bool {
    let field = match operation.selection_set.node.items.as_slice() {
        [item] => match &item.node {
            Selection::Field(field) => &field.node,
            Selection::FragmentSpread(_) | Selection::InlineFragment(_) => return false,
        },
        _ => return false,
    };
    operation.ty == OperationType::Subscription
        && operation.directives.is_empty()
        && field.name.node == "deploymentStatus"
        && field.arguments.is_empty()
        && field.directives.is_empty()
}

fn shared_key(query: &str, name: Option<&str>, variables: &Map<String, Value>) -> String {
    // Lengths in front: no text can be taken for another's end.
    let name = name.unwrap_or_default();
    let variables = Value::Object(variables.clone()).to_string();
    format!("{}:{}:{query}{name}{variables}", query.len(), name.len())
}

/// The operation that a document and a name select.
fn operation<'a>(
    document: &'a ExecutableDocument,
    name: Option<&str>,
) -> Option<&'a OperationDefinition> {
    let operation = match (&document.operations, name) {
        (DocumentOperations::Single(operation), None) => Some(operation),
        (DocumentOperations::Single(_), Some(_)) => None,
        (DocumentOperations::Multiple(operations), Some(name)) => operations.get(name),
        (DocumentOperations::Multiple(operations), None) if operations.len() == 1 => {
            operations.values().next()
        }
        (DocumentOperations::Multiple(_), None) => None,
    };
    operation.map(|operation| &operation.node)
}

/// A variable that must have a value and has none.
fn missing_variable<'a>(
    operation: &'a OperationDefinition,
    variables: &Map<String, Value>,
) -> Option<&'a str> {
    let definitions = operation
        .variable_definitions
        .iter()
        .map(|definition| &definition.node);
    let mut missing = definitions.filter(|definition| {
        let name = definition.name.node.as_str();
        let given = variables.get(name);
        let may_be_absent = definition.var_type.node.nullable
            || (given.is_none() && definition.default_value.is_some());
        !may_be_absent && given.is_none_or(Value::is_null)
    });
    missing
        .next()
        .map(|definition| definition.name.node.as_str())
}

/// A parameter that holds a JSON object.
fn object(name: &str, text: Option<String>) -> Result<Option<Map<String, Value>>, Malformed> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    serde_json::from_str(&text)
        .map_err(|error| Malformed(format!("{name} is not a JSON object: {}", said(&error))))
}

/// What the JSON reader says, safe to show: it may quote what was sent.
fn said(error: &serde_json::Error) -> String {
    shared::name::shown(&error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_an_object_with_a_query() {
        for right in [
            r#"{"query":"{a}"}"#,
            r#"{"query":"{a}","variables":null,"operationName":null,"extensions":null}"#,
            r#"{"query":"{a}","variables":{"x":1},"operationName":"A","extensions":{},"more":1}"#,
        ] {
            assert!(Asked::from_json(right.as_bytes()).is_ok(), "{right}");
        }
        for wrong in [
            "",
            "{",
            "null",
            "1",
            "[]",
            r#"[{"query":"{a}"}]"#,
            "{}",
            r#"{"query":1}"#,
            r#"{"query":null}"#,
            r#"{"query":["{a}"]}"#,
            r#"{"query":"{a}","variables":[]}"#,
            r#"{"query":"{a}","variables":"{}"}"#,
            r#"{"query":"{a}","operationName":1}"#,
            r#"{"query":"{a}","extensions":0}"#,
            r#"{"query":"\ud800"}"#,
            r#"{"query":"{a}","query":"{b}"}"#,
            "{\"query\":\"\u{0}\"}",
        ] {
            assert!(Asked::from_json(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(Asked::from_json(b"{\"query\":\"\xff\"}").is_err());
    }

    #[test]
    fn a_variable_that_must_have_a_value_has_one() {
        let check = |document: &str, variables: &str| {
            let document = async_graphql::parser::parse_query(document).unwrap();
            let variables = serde_json::from_str(variables).unwrap();
            missing_variable(operation(&document, None).unwrap(), &variables).is_none()
        };
        assert!(check("query($a:Int $b:Int!=1 $c:[Int!]){x}", "{}"));
        assert!(check("query($a:Int!){x}", r#"{"a":0}"#));
        assert!(!check("query($a:Int!){x}", "{}"));
        assert!(!check("query($a:Int!){x}", r#"{"a":null}"#));
        assert!(!check("query($a:Int!=1){x}", r#"{"a":null}"#));
    }

    #[test]
    fn only_who_follows_all_from_now_on_follows_with_others() {
        let check = |document: &str| {
            let document = async_graphql::parser::parse_query(document).unwrap();
            follows_all(operation(&document, None).unwrap())
        };
        assert!(check("subscription{deploymentStatus{seq}}"));
        assert!(check(
            "subscription($x:Boolean!){s:deploymentStatus{seq @skip(if:$x)}}"
        ));
        for alone in [
            "{deploymentStatus{seq}}",
            "subscription{deploymentStatus(id:1){seq}}",
            "subscription($i:ID){deploymentStatus(id:$i){seq}}",
            "subscription{nodeStatus{name}}",
            "subscription{deploymentStatus{seq} nodeStatus{name}}",
            "subscription @x{deploymentStatus{seq}}",
            "subscription{deploymentStatus @skip(if:true){seq}}",
            "subscription{...f} fragment f on Subscription{deploymentStatus{seq}}",
        ] {
            assert!(!check(alone), "{alone}");
        }
        let key = |query: &str, name: &str| shared_key(query, Some(name), &Map::new());
        assert_ne!(key("ab", "c"), key("a", "bc"));
    }

    #[test]
    fn a_query_string_is_read_like_a_body() {
        let asked =
            Asked::from_query_string("query=%7Ba%7D&variables=%7B%22x%22%3A1%7D&operationName=A")
                .unwrap();
        assert_eq!(
            (asked.query.as_str(), asked.operation_name.as_deref()),
            ("{a}", Some("A"))
        );
        assert_eq!(asked.variables.unwrap().len(), 1);
        for wrong in [
            "",
            "variables=%7B%7D",
            "query=a&variables=1",
            "query=a&variables=x",
            "query=a&extensions=%5B%5D",
            "query=a&query=b",
        ] {
            assert!(Asked::from_query_string(wrong).is_err(), "{wrong}");
        }
    }
}
