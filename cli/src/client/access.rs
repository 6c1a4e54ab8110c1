//! Where the server is, and who asks.

use crate::exit::Failure;
use crate::output::Format;
use crate::paths::{TOKEN_FILE, default_data_dir};
use secrecy::SecretString;
use std::path::{Path, PathBuf};
use url::{Host, Url};

/// What every client command takes.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ServerArgs {
    /// The server's address.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub(crate) url: String,
    /// A file that holds the token. LONGSHORE_TOKEN, when set, wins. Without both, a server on this
    /// machine is asked with the token of the default data directory.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// How to answer.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) output: Format,
}

/// The environment variable that holds the token. Not a flag: a command line is seen by everybody on
/// the machine.
const TOKEN_VARIABLE: &str = "LONGSHORE_TOKEN";

/// Where the server is, and who asks.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    /// The base address; its path ends in `/`.
    pub(crate) url: Url,
    /// The token, when there is one.
    pub(crate) token: Option<SecretString>,
}

impl Access {
    /// From the arguments and the environment.
    pub(crate) fn find(arguments: &ServerArgs) -> Result<Self, Failure> {
        let url = read_url(&arguments.url)?;
        let token = match (std::env::var(TOKEN_VARIABLE), &arguments.token_file) {
            (Ok(token), _) => Some(vet(&token, TOKEN_VARIABLE)?),
            (Err(std::env::VarError::NotUnicode(_)), _) => {
                return Err(Failure::input(format!("{TOKEN_VARIABLE} is not text")));
            }
            (Err(_), Some(file)) => Some(read_token(file).map_err(|error| {
                Failure::input(format!(
                    "reading the token from {}: {error}",
                    file.display()
                ))
            })??),
            (Err(_), None) if is_loopback(&url) => token_of_this_machine()?,
            (Err(_), None) => None,
        };
        Ok(Self { url, token })
    }

    /// The address of the API, for HTTP.
    pub(crate) fn graphql(&self) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}graphql", self.url.path()));
        url
    }

    /// The address of the API, for a WebSocket.
    pub(crate) fn graphql_socket(&self) -> Url {
        let mut url = self.graphql();
        let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
        // Between the web's own schemes this is always allowed.
        let _ = url.set_scheme(scheme);
        url
    }

    /// The address as it was given, for messages.
    pub(crate) fn shown(&self) -> String {
        self.url.as_str().trim_end_matches('/').to_owned()
    }
}

fn read_url(text: &str) -> Result<Url, Failure> {
    let advise = |what: String| {
        Failure::input(what)
            .advise("give something like http://127.0.0.1:8080 (--url or LONGSHORE_URL)")
    };
    let mut url = Url::parse(text)
        .map_err(|error| advise(format!("the server's address is not a URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(advise(
            "the server's address must start with http:// or https://".to_owned(),
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Failure::input("the server's address has credentials in it")
            .advise("put the token into LONGSHORE_TOKEN instead"));
    }
    url.set_query(None);
    url.set_fragment(None);
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// The token that a standalone server of this user keeps; none when there is no such file.
fn token_of_this_machine() -> Result<Option<SecretString>, Failure> {
    let file = default_data_dir().join(TOKEN_FILE);
    match read_token(&file) {
        Ok(token) => token.map(Some),
        Err(_) => Ok(None),
    }
}

fn read_token(file: &Path) -> std::io::Result<Result<SecretString, Failure>> {
    let text = std::fs::read_to_string(file)?;
    Ok(vet(
        text.trim_end_matches(['\r', '\n']),
        &file.display().to_string(),
    ))
}

fn vet(token: &str, place: &str) -> Result<SecretString, Failure> {
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::input(format!(
            "the token in {place} is empty or has spaces or control characters"
        ))
        .advise("it is the server's admin token, one line of printable characters"));
    }
    Ok(SecretString::from(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let access = |text: &str| Access {
            url: read_url(text).unwrap(),
            token: None,
        };
        assert_eq!(
            access("http://127.0.0.1:8080").graphql().as_str(),
            "http://127.0.0.1:8080/graphql"
        );
        assert_eq!(
            access("https://host/longshore").graphql().as_str(),
            "https://host/longshore/graphql"
        );
        assert_eq!(
            access("https://host/longshore/?x#y")
                .graphql_socket()
                .as_str(),
            "wss://host/longshore/graphql"
        );
        assert_eq!(access("http://[::1]:1/").shown(), "http://[::1]:1");
        for text in [
            "",
            "localhost:8080",
            "ftp://host",
            "http://",
            "http://user:password@host",
            "http://token@host",
        ] {
            let failure = read_url(text).unwrap_err();
            assert!(!failure.to_string().contains("password"), "{text}");
            assert!(failure.advice.is_some(), "{text}");
        }
    }

    #[test]
    fn only_a_server_of_this_machine_is_given_its_token_unasked() {
        for (text, expected) in [
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:8080", true),
            ("http://localhost", true),
            ("http://localhost.example", false),
            ("http://192.168.0.1", false),
            ("https://127.0.0.1.example", false),
        ] {
            assert_eq!(is_loopback(&read_url(text).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn a_token_is_one_printable_word() {
        assert!(vet("abc-DEF_123", "x").is_ok());
        for token in ["", " ", "a b", "a\nb", "tökén"] {
            assert!(vet(token, "x").is_err(), "{token:?}");
        }
    }
}
