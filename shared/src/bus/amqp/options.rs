//! What is needed to reach a broker, checked once before the first connection.

use crate::name::NodeName;
use crate::secret::{ExposeSecret, SecretString};
use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri, SASLMechanism};
use std::path::PathBuf;

/// Seconds between heartbeats: a broker that is silent for two of them is away.
const HEARTBEAT_SECONDS: u16 = 10;
/// Bytes a frame. lapin keeps buffers of many frames a connection; larger bodies just take more frames.
const FRAME_BYTES: u32 = 32 * 1024;

/// Who speaks to the broker, and so what it may do there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AmqpRole {
    /// Declares everything and consumes reports, telemetry and events.
    Orchestrator,
    /// Declares nothing: consumes its own work queue, publishes to `deployment` and `telemetry`.
    Node(NodeName),
}

/// How to reach a broker.
#[derive(Clone, Debug)]
pub struct AmqpOptions {
    /// `amqp://user:password@host:port/vhost`, or `amqps://…`; with `?auth_mechanism=external` the
    /// client certificate is the login.
    pub url: SecretString,
    /// Who is speaking.
    pub role: AmqpRole,
    /// Needed for `amqps://`.
    pub tls: Option<AmqpTls>,
}

/// Files for TLS, in PEM. They are read at every connection, so that renewed ones are taken up.
#[derive(Clone, Debug)]
pub struct AmqpTls {
    /// The certificates that vouch for the broker's; no others are trusted.
    pub ca_file: PathBuf,
    /// Our own certificate and its PKCS #8 key, where the broker asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Options that can never work.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmqpOptionsError {
    /// Not an AMQP address. It is not repeated, since it may hold a password.
    #[error("the broker's address is not of the form amqp://user:password@host:port/vhost")]
    Address,
    /// Without it no certificate would be trusted.
    #[error(
        "an amqps:// address needs the file of the certificate authority that vouches for the broker"
    )]
    NoAuthority,
    /// Would be taken for protected and is not.
    #[error(
        "files for TLS are given but the address is amqp://, which is not encrypted; use amqps://"
    )]
    NotEncrypted,
}

/// Checked options.
pub(super) struct Endpoint {
    pub(super) uri: AMQPUri,
    tls: Option<AmqpTls>,
    pub(super) role: AmqpRole,
}

impl AmqpOptions {
    pub(super) fn into_endpoint(self) -> Result<Endpoint, AmqpOptionsError> {
        let text = self.url.expose_secret();
        let mut uri: AMQPUri = text.parse().map_err(|_| AmqpOptionsError::Address)?;
        // The parser takes an IPv6 host for absent and would silently go to localhost.
        let parsed = url::Url::parse(text).map_err(|_| AmqpOptionsError::Address)?;
        let host = parsed
            .host_str()
            .filter(|host| !host.is_empty())
            .ok_or(AmqpOptionsError::Address)?;
        uri.authority.host = host.trim_matches(['[', ']']).to_owned();
        match (&uri.scheme, &self.tls) {
            (AMQPScheme::AMQPS, None) => return Err(AmqpOptionsError::NoAuthority),
            (AMQPScheme::AMQP, Some(_)) => return Err(AmqpOptionsError::NotEncrypted),
            _ => {}
        }
        uri.query.heartbeat = Some(HEARTBEAT_SECONDS);
        uri.query.frame_max = Some(FRAME_BYTES);
        Ok(Endpoint {
            uri,
            tls: self.tls,
            role: self.role,
        })
    }
}

impl Endpoint {
    /// Host and port, for people.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.uri.authority.host, self.uri.authority.port)
    }

    /// What a node's messages say of their sender. The broker refuses a message that says another
    /// login than the connection's, so a reader may believe it. With a certificate as login only
    /// the broker knows the name, and it stays out.
    pub(super) fn user_id(&self) -> Option<String> {
        let by_password = self.uri.query.auth_mechanism != Some(SASLMechanism::External);
        (by_password && matches!(self.role, AmqpRole::Node(_)))
            .then(|| self.uri.authority.userinfo.username.clone())
    }

    /// Reads the files for TLS.
    pub(super) async fn tls_config(&self) -> Result<OwnedTLSConfig, String> {
        let Some(tls) = &self.tls else {
            return Ok(OwnedTLSConfig::default());
        };
        let read = async |path: &PathBuf| {
            tokio::fs::read(path)
                .await
                .map_err(|error| format!("reading {}: {error}", path.display()))
        };
        let authority = String::from_utf8(read(&tls.ca_file).await?)
            .ok()
            .filter(|text| text.contains("-----BEGIN CERTIFICATE-----"))
            .ok_or_else(|| format!("{} has no certificate in PEM form", tls.ca_file.display()))?;
        let identity = match &tls.identity {
            Some((certificate, key)) => Some(OwnedIdentity::PKCS8 {
                pem: read(certificate).await?,
                key: read(key).await?,
            }),
            None => None,
        };
        Ok(OwnedTLSConfig {
            identity,
            cert_chain: Some(authority),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str, tls: bool) -> Result<Endpoint, AmqpOptionsError> {
        let tls = tls.then(|| AmqpTls {
            ca_file: "ca.pem".into(),
            identity: None,
        });
        AmqpOptions {
            url: url.to_owned().into(),
            role: AmqpRole::Orchestrator,
            tls,
        }
        .into_endpoint()
    }

    #[test]
    fn addresses_that_can_never_work_are_refused_at_once() {
        for url in ["", "broker", "http://broker", "amqp:", "amqp:///%2f"] {
            assert_eq!(
                endpoint(url, false).err(),
                Some(AmqpOptionsError::Address),
                "{url:?}"
            );
        }
        assert_eq!(
            endpoint("amqps://broker", false).err(),
            Some(AmqpOptionsError::NoAuthority)
        );
        assert_eq!(
            endpoint("amqp://broker", true).err(),
            Some(AmqpOptionsError::NotEncrypted)
        );
    }

    #[test]
    fn hosts_of_every_kind_are_kept() {
        for (url, place) in [
            ("amqp://u:p@broker/%2f", "broker:5672"),
            ("amqp://u:p@127.0.0.1:9/%2f", "127.0.0.1:9"),
            ("amqp://u:p@[::1]:9/%2f", "::1:9"),
        ] {
            assert_eq!(
                endpoint(url, false).map(|endpoint| endpoint.place()),
                Ok(place.to_owned())
            );
        }
    }

    #[test]
    fn an_error_never_repeats_the_password() {
        let error = endpoint("amqp//u:hunter2@broker", false).err();
        assert!(!format!("{error:?}").contains("hunter2"));
        let options = AmqpOptions {
            url: "amqp://u:hunter2@b".to_owned().into(),
            role: AmqpRole::Orchestrator,
            tls: None,
        };
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
