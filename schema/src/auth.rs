//! Who asks. One admin token so far; requests bring it as `Authorization: Bearer <token>`, WebSockets
//! in `connection_init`. Never in a URL, where logs and histories would keep it.

use http::{HeaderMap, header};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// A token shorter than this could be guessed: there is no other brake on guessing.
pub const TOKEN_MIN_BYTES: usize = 16;

/// A longer one is not even hashed.
const TOKEN_MAX_BYTES: usize = 1024;

/// Why a token cannot protect anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nothing, or only white space.
    #[error("the admin token is empty: without one nobody could be kept out")]
    Empty,
    /// Guessable.
    #[error(
        "the admin token has {length} bytes; it needs at least {TOKEN_MIN_BYTES} (try `openssl rand -hex 32`)"
    )]
    TooShort {
        /// Its length in bytes.
        length: usize,
    },
    /// Longer than any that is accepted from a request, or not fit for a header.
    #[error(
        "the admin token must be printable ASCII without spaces, at most {TOKEN_MAX_BYTES} bytes"
    )]
    NotAHeader,
}

/// Whoever proved to be the administrator. Having one is the permission: only [`AdminToken`] makes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    _proof: (),
}

/// Why somebody is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// No token was given.
    Missing,
    /// What was given is no token of ours.
    Wrong,
}

impl Unknown {
    /// What would help.
    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::Missing => "not signed in: send `Authorization: Bearer <token>`",
            Self::Wrong => "not signed in: this token is not valid",
        }
    }
}

/// The admin token, as its SHA-256: comparing digests takes the same time wherever they differ.
pub(crate) struct AdminToken {
    digest: [u8; 32],
}

impl AdminToken {
    /// Takes a token that can protect something.
    ///
    /// # Errors
    /// [`TokenError`] for one that is empty, guessable or cannot be sent.
    pub(crate) fn new(token: &SecretString) -> Result<Self, TokenError> {
        let token = token.expose_secret();
        if token.trim().is_empty() {
            return Err(TokenError::Empty);
        }
        if token.len() > TOKEN_MAX_BYTES || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::NotAHeader);
        }
        if token.len() < TOKEN_MIN_BYTES {
            return Err(TokenError::TooShort {
                length: token.len(),
            });
        }
        Ok(Self {
            digest: digest(token.as_bytes()),
        })
    }

    /// Whether a token is ours, in the same time for every wrong one.
    pub(crate) fn check(&self, token: &[u8]) -> Result<Caller, Unknown> {
        let right = token.len() <= TOKEN_MAX_BYTES && bool::from(digest(token).ct_eq(&self.digest));
        if right {
            Ok(Caller { _proof: () })
        } else {
            Err(Unknown::Wrong)
        }
    }

    /// Whether a request brings our token: in one `Authorization` header, as Bearer.
    pub(crate) fn check_headers(&self, headers: &HeaderMap) -> Result<Caller, Unknown> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let value = values.next().ok_or(Unknown::Missing)?;
        if values.next().is_some() {
            // Two would let a proxy check the one and us the other.
            return Err(Unknown::Wrong);
        }
        self.check_bearer(value.as_bytes())
    }

    /// Whether `Bearer <token>` names our token.
    pub(crate) fn check_bearer(&self, value: &[u8]) -> Result<Caller, Unknown> {
        const SCHEME: usize = "Bearer ".len();
        match value.split_at_checked(SCHEME) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"Bearer ") => {
                self.check(token.trim_ascii())
            }
            _ => Err(Unknown::Wrong),
        }
    }
}

fn digest(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn token() -> AdminToken {
        AdminToken::new(&TOKEN.into()).unwrap()
    }

    #[test]
    fn a_token_that_protects_nothing_is_refused() {
        for (text, error) in [
            ("", TokenError::Empty),
            (" \n ", TokenError::Empty),
            ("short", TokenError::TooShort { length: 5 }),
            ("0123456789abcdef 123456789abcdef", TokenError::NotAHeader),
            ("0123456789abcdéf0123456789abcdef", TokenError::NotAHeader),
        ] {
            assert_eq!(AdminToken::new(&text.into()).err(), Some(error), "{text:?}");
        }
        assert!(AdminToken::new(&"x".repeat(2000).into()).is_err());
    }

    #[test]
    fn only_the_token_opens() {
        let check = |value: &str| token().check_bearer(value.as_bytes()).is_ok();
        assert!(check(&format!("Bearer {TOKEN}")));
        assert!(check(&format!("bearer  {TOKEN}")));
        let nearly = format!("Bearer {}", &TOKEN[1..]);
        let more = format!("Bearer {TOKEN}x");
        let long = format!("Bearer {}", "x".repeat(1 << 20));
        for value in [
            "",
            "Bearer",
            "Bearer ",
            "Basic abc",
            TOKEN,
            &nearly,
            &more,
            &long,
            "\u{1F980}",
        ] {
            assert!(!check(value), "{}", shared::name::shown(value));
        }
    }

    #[test]
    fn two_headers_are_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(
            token().check_headers(&headers).err(),
            Some(Unknown::Missing)
        );
        let right = HeaderValue::from_str(&format!("Bearer {TOKEN}")).unwrap();
        headers.append(header::AUTHORIZATION, right.clone());
        assert!(token().check_headers(&headers).is_ok());
        headers.append(header::AUTHORIZATION, right);
        assert_eq!(token().check_headers(&headers).err(), Some(Unknown::Wrong));
    }
}
