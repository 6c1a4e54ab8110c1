//! Why a connection is closed, as the protocol has it.

use axum::extract::ws::{CloseFrame, Message};

/// Why a connection is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Close {
    /// Not a message of the protocol.
    BadMessage(&'static str),
    /// Something was asked before the server knew who asks, or no token came at all.
    Unauthorized,
    /// The token is not ours.
    Forbidden,
    /// No `connection_init` in time.
    InitTimeout,
    /// A subscription with this id is open.
    DuplicateId(String),
    /// A second `connection_init`.
    InitTwice,
    /// A message is larger than is read.
    TooLarge,
    /// The client does not read, or does not answer.
    Unresponsive(&'static str),
    /// The server stops.
    GoingAway,
}

/// A reason longer than this does not fit into a control frame.
const REASON_LIMIT: usize = 123;

impl Close {
    /// The protocol's code.
    pub(super) const fn code(&self) -> u16 {
        match self {
            Self::BadMessage(_) => 4400,
            Self::Unauthorized => 4401,
            Self::Forbidden => 4403,
            Self::InitTimeout => 4408,
            Self::DuplicateId(_) => 4409,
            Self::InitTwice => 4429,
            Self::TooLarge => 1009,
            Self::Unresponsive(_) => 1008,
            Self::GoingAway => 1001,
        }
    }

    fn reason(&self) -> String {
        match self {
            Self::BadMessage(what) => format!("Invalid message: {what}"),
            Self::Unauthorized => "Unauthorized".to_owned(),
            Self::Forbidden => "Forbidden".to_owned(),
            Self::InitTimeout => "Connection initialisation timeout".to_owned(),
            Self::DuplicateId(id) => {
                format!("Subscriber for {} already exists", shared::name::shown(id))
            }
            Self::InitTwice => "Too many initialisation requests".to_owned(),
            Self::TooLarge => format!("A message has at most {} bytes", super::MESSAGE_LIMIT),
            Self::Unresponsive(what) => (*what).to_owned(),
            Self::GoingAway => "The server is stopping: connect again".to_owned(),
        }
    }

    /// As it is sent.
    pub(super) fn frame(&self) -> Message {
        let mut reason = self.reason();
        let end = reason.floor_char_boundary(REASON_LIMIT);
        reason.truncate(end);
        Message::Close(Some(CloseFrame {
            code: self.code(),
            reason: reason.into(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_fits_into_its_frame() {
        let close = Close::DuplicateId("é".repeat(500));
        let Message::Close(Some(frame)) = close.frame() else {
            panic!("not a close frame")
        };
        assert!(frame.reason.len() <= REASON_LIMIT);
        assert_eq!(frame.code, 4409);
    }
}
