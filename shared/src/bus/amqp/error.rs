//! What lapin says, as the bus says it.

use super::super::BusError;
use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use std::future::Future;
use std::time::Duration;

/// The longest that anything of lapin is waited for.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// Waits for one step of lapin, with a limit: its futures were seen to stay pending for ever.
pub(super) async fn within<T>(step: impl Future<Output = lapin::Result<T>>) -> Result<T, BusError> {
    match tokio::time::timeout(STEP_TIMEOUT, step).await {
        Ok(done) => done.map_err(|error| from_lapin(&error)),
        Err(_) => Err(BusError::Away {
            reason: format!("no answer within {} s", STEP_TIMEOUT.as_secs()),
        }),
    }
}

/// Sorts an error by what can be done about it.
pub(super) fn from_lapin(error: &lapin::Error) -> BusError {
    let ErrorKind::ProtocolError(protocol) = error.kind() else {
        return BusError::Away {
            reason: error.to_string(),
        };
    };
    let reason = protocol.get_message().to_string();
    match protocol.kind() {
        // A queue or an exchange that is not there may still be declared by an orchestrator.
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => BusError::Unroutable {
            address: missing(&reason).to_owned(),
        },
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED | AMQPSoftError::PRECONDITIONFAILED) => {
            BusError::Refused { reason }
        }
        AMQPErrorKind::Soft(_) | AMQPErrorKind::Hard(_) => BusError::Away { reason },
    }
}

/// What is not there, by `NOT_FOUND - no queue 'work.n1' in vhost '/'`.
fn missing(reason: &str) -> &str {
    reason.split('\'').nth(1).unwrap_or(reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapin::protocol::AMQPError;

    #[test]
    fn what_is_not_there_is_named() {
        for (said, address) in [
            ("NOT_FOUND - no queue 'work.n1' in vhost '/'", "work.n1"),
            ("NOT_FOUND", "NOT_FOUND"),
        ] {
            let kind = AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND);
            let error = ErrorKind::ProtocolError(AMQPError::new(kind, said.into())).into();
            let address = address.to_owned();
            assert_eq!(from_lapin(&error), BusError::Unroutable { address });
        }
    }
}
