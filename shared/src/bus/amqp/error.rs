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
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => BusError::Unroutable { address: reason },
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED | AMQPSoftError::PRECONDITIONFAILED) => {
            BusError::Refused { reason }
        }
        AMQPErrorKind::Soft(_) | AMQPErrorKind::Hard(_) => BusError::Away { reason },
    }
}
