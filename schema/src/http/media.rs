//! Media types: what is sent, and what is wanted back.

use ::http::{HeaderMap, HeaderValue, header};

/// What an answer is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    /// `application/graphql-response+json`: the status says whether the request was executed.
    GraphqlResponse,
    /// `application/json`: a well-formed request is answered with 200, whatever comes of it.
    Json,
}

impl Media {
    /// As it stands in `Content-Type`.
    pub(crate) const fn content_type(self) -> HeaderValue {
        match self {
            Self::GraphqlResponse => {
                HeaderValue::from_static("application/graphql-response+json; charset=utf-8")
            }
            Self::Json => HeaderValue::from_static("application/json; charset=utf-8"),
        }
    }
}

/// What the client wants back; none when it is nothing that we write.
///
/// The newer type is used where it is named; who accepts anything, or says nothing, gets the type
/// that every client reads.
pub(crate) fn wanted(headers: &HeaderMap) -> Option<Media> {
    let mut named = false;
    let mut json = false;
    for value in headers.get_all(header::ACCEPT) {
        named = true;
        for range in value.to_str().ok()?.split(',') {
            match acceptable(range).as_deref() {
                Some("application/graphql-response+json") => return Some(Media::GraphqlResponse),
                Some("application/json" | "application/*" | "*/*") => json = true,
                _ => {}
            }
        }
    }
    (json || !named).then_some(Media::Json)
}

/// The type of one range of `Accept`, unless its quality is nought or its charset not ours.
fn acceptable(range: &str) -> Option<String> {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next()?.to_ascii_lowercase();
    let refused = parts
        .filter_map(|parameter| parameter.split_once('='))
        .any(|(name, value)| {
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => value.parse::<f32>().is_ok_and(|quality| quality <= 0.0),
                "charset" => !value.eq_ignore_ascii_case("utf-8"),
                _ => false,
            }
        });
    (!refused).then_some(media)
}

/// Whether the body is JSON in UTF-8 and says so, once.
///
/// Anything that a form on another page could send without asking first is not.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    value
        .to_str()
        .ok()
        .and_then(acceptable)
        .is_some_and(|media| media == "application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, values: &[&str]) -> HeaderMap {
        values
            .iter()
            .map(|value| (name.clone(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn the_answer_is_what_the_client_reads() {
        let check = |accept: &[&str]| wanted(&headers(header::ACCEPT, accept));
        for accept in [
            &[] as &[&str],
            &["*/*"],
            &["application/*"],
            &["application/json"],
            &["text/html, application/JSON;q=0.5"],
        ] {
            assert_eq!(check(accept), Some(Media::Json), "{accept:?}");
        }
        for accept in [
            &["application/graphql-response+json"] as &[&str],
            &["application/graphql-response+json; charset=utf-8, application/json"],
            &["application/json", "application/graphql-response+json"],
        ] {
            assert_eq!(check(accept), Some(Media::GraphqlResponse), "{accept:?}");
        }
        for accept in [
            &["text/html"] as &[&str],
            &["application/json;q=0"],
            &["application/json; charset=iso-8859-1"],
            &[""],
        ] {
            assert_eq!(check(accept), None, "{accept:?}");
        }
    }

    #[test]
    fn only_json_is_read() {
        let check = |types: &[&str]| is_json(&headers(header::CONTENT_TYPE, types));
        for right in [
            "application/json",
            "application/json; charset=utf-8",
            "Application/JSON;charset=\"UTF-8\"",
        ] {
            assert!(check(&[right]), "{right}");
        }
        for wrong in [
            "",
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/json; charset=utf-16",
        ] {
            assert!(!check(&[wrong]), "{wrong}");
        }
        assert!(!check(&[]));
        assert!(!check(&["application/json", "text/plain"]));
    }
}
