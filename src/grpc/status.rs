//! Errors as gRPC says them: a code, the sentence, and the stable code beside it.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::{Error, Kind};

/// gRPC's status codes, as far as they are given here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Answered.
    Ok,
    /// The request, whatever the state of the server.
    InvalidArgument,
    /// The deadline passed, or the client was too slow.
    DeadlineExceeded,
    /// No such model or version.
    NotFound,
    /// Not allowed, at all or to this key.
    PermissionDenied,
    /// Too large, or too much at once.
    ResourceExhausted,
    /// The request is fine; the models as they are now cannot serve it.
    FailedPrecondition,
    /// Not offered.
    Unimplemented,
    /// A fault of the gateway.
    Internal,
    /// Not yet, or not any more.
    Unavailable,
    /// No key, or a wrong one.
    Unauthenticated,
}

impl Code {
    /// All of them, for metrics that exist from the start: name and number.
    pub const ALL: [(Self, &'static str, i32); 11] = [
        (Self::Ok, "OK", 0),
        (Self::InvalidArgument, "INVALID_ARGUMENT", 3),
        (Self::DeadlineExceeded, "DEADLINE_EXCEEDED", 4),
        (Self::NotFound, "NOT_FOUND", 5),
        (Self::PermissionDenied, "PERMISSION_DENIED", 7),
        (Self::ResourceExhausted, "RESOURCE_EXHAUSTED", 8),
        (Self::FailedPrecondition, "FAILED_PRECONDITION", 9),
        (Self::Unimplemented, "UNIMPLEMENTED", 12),
        (Self::Internal, "INTERNAL", 13),
        (Self::Unavailable, "UNAVAILABLE", 14),
        (Self::Unauthenticated, "UNAUTHENTICATED", 16),
    ];

    /// The code of an error.
    ///
    /// `no_answer` is a failed precondition: the row is well formed and another champion may answer it, so that neither
    /// "invalid" nor "internal" would be true, and sending it again at once helps nobody.
    #[must_use]
    pub fn of(kind: Kind) -> Self {
        match kind {
            Kind::UnsupportedMediaType | Kind::MethodNotAllowed => Self::Unimplemented,
            _ => match kind.status() {
                401 => Self::Unauthenticated,
                403 => Self::PermissionDenied,
                404 => Self::NotFound,
                408 | 504 => Self::DeadlineExceeded,
                409 | 422 => Self::FailedPrecondition,
                413 | 429 => Self::ResourceExhausted,
                400..=499 => Self::InvalidArgument,
                501 => Self::Unimplemented,
                503 | 507 => Self::Unavailable,
                _ => Self::Internal,
            },
        }
    }

    /// The protocol's number.
    pub(super) fn number(self) -> i32 {
        // 2 is "unknown"; a test sees that each code is listed.
        Self::ALL
            .iter()
            .find(|(code, ..)| *code == self)
            .map_or(2, |(_, _, number)| *number)
    }
}

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETHRONE_CODE: HeaderName = HeaderName::from_static("dethrone-code");
const RETRY_AFTER: HeaderName = HeaderName::from_static("retry-after");

/// The trailers of an answer.
pub(super) fn ok() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(STATUS, HeaderValue::from_static("0"));
    trailers
}

/// What says that there is no answer, and why.
pub(super) fn failed(error: &Error) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(4);
    trailers.insert(STATUS, HeaderValue::from(Code::of(error.kind).number()));
    trailers.insert(MESSAGE, encoded(&error.message));
    trailers.insert(DETHRONE_CODE, HeaderValue::from_static(error.code()));
    if let Some(seconds) = error.retry_after {
        trailers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    trailers
}

/// A sentence as gRPC carries it: what is not printable ASCII, and the percent sign, as percent and two digits.
fn encoded(message: &str) -> HeaderValue {
    let mut text = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => text.push(char::from(byte)),
            _ => {
                let digit = |value: u8| {
                    char::from_digit(u32::from(value), 16)
                        .unwrap_or('0')
                        .to_ascii_uppercase()
                };
                text.extend(['%', digit(byte >> 4), digit(byte & 15)]);
            }
        }
    }
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_a_code_and_only_faults_of_ours_are_internal() {
        for kind in Kind::ALL {
            let code = Code::of(*kind);
            assert_ne!(code, Code::Ok, "{kind:?}");
            assert_eq!(code == Code::Internal, kind.status() == 500, "{kind:?}");
            assert_ne!(code.number(), 2, "{kind:?}");
        }
        for (kind, code) in [
            (Kind::WrongShape, Code::InvalidArgument),
            (Kind::UnknownVersion, Code::NotFound),
            (Kind::WrongRole, Code::FailedPrecondition),
            (Kind::TooLarge, Code::ResourceExhausted),
            (Kind::NoAnswer, Code::FailedPrecondition),
            (Kind::Overloaded, Code::ResourceExhausted),
            (Kind::NotReady, Code::Unavailable),
            (Kind::Deadline, Code::DeadlineExceeded),
            (Kind::Unauthenticated, Code::Unauthenticated),
            (Kind::RateLimited, Code::ResourceExhausted),
        ] {
            assert_eq!(Code::of(kind), code, "{kind:?}");
        }
    }

    #[test]
    fn a_sentence_of_any_characters_can_be_carried() {
        let trailers = failed(&Error::new(Kind::Overloaded, "100 % of 'ä\n' is taken").retry_after(3));
        assert_eq!(trailers["grpc-message"], "100 %25 of '%C3%A4%0A' is taken");
        assert_eq!(trailers["grpc-status"], "8");
        assert_eq!(trailers["dethrone-code"], "overloaded");
        assert_eq!(trailers["retry-after"], "3");
    }
}
