//! Values that must not be seen: tokens, passwords, URLs with credentials in them.

pub use secrecy::{ExposeSecret, SecretString};

/// A URL for a person to read: scheme, host, port and path, with any user and password replaced.
///
/// What does not parse as a URL is not shown at all, since a password may be anywhere in it.
#[must_use]
pub fn redacted_url(url: &str) -> String {
    let Ok(mut parsed) = url::Url::parse(url) else {
        return "(not a URL)".to_owned();
    };
    if !parsed.username().is_empty() || parsed.password().is_some() {
        // Only URLs that cannot carry a user refuse this, and those have none to hide.
        let _ = parsed.set_username("***");
        let _ = parsed.set_password(None);
    }
    parsed.set_query(None);
    parsed.set_fragment(None);
    parsed.to_string()
}

#[cfg(test)]
mod tests {
    use super::redacted_url;

    #[test]
    fn a_password_is_never_shown() {
        for url in [
            "amqp://longshore:hunter2@broker:5672/%2f?auth=hunter2",
            "postgres://hunter2@db/x",
            "hunter2",
        ] {
            assert!(!redacted_url(url).contains("hunter2"), "{url}");
        }
        assert_eq!(
            redacted_url("amqp://a:b@broker:5672/%2f"),
            "amqp://***@broker:5672/%2f"
        );
    }
}
