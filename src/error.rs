//! What can go wrong with a request, as clients see it: a sentence, a stable code, an HTTP status.
//!
//! Always holds: a code, once given, keeps its meaning and its status; a message says what was wrong and what to
//! change, and holds nothing of the causes below it, which are logged where they happen.

use std::fmt;

use serde::Serialize;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident, $status:literal, $code:literal;)+) => {
        /// The kinds of failure; see [`Kind::status`] and [`Kind::code`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[$doc])* $kind,)+
        }

        impl Kind {
            /// All kinds, for metrics that exist from the start.
            pub const ALL: &'static [Self] = &[$(Self::$kind),+];

            /// The HTTP status.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(Self::$kind => $status,)+ }
            }

            /// The stable code.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $(Self::$kind => $code,)+ }
            }
        }
    };
}

kinds! {
    /// A request that makes no sense, where no finer kind says why.
    BadRequest, 400, "bad_request";
    /// The body is not JSON, or not the JSON that the route takes.
    MalformedJson, 400, "malformed_json";
    /// The bytes are not what their headers say (binary tensors, gRPC messages).
    MalformedBody, 400, "malformed_body";
    /// A tensor or a list of another shape.
    WrongShape, 400, "wrong_shape";
    /// A value of another type, or out of its type's range.
    WrongType, 400, "wrong_type";
    /// A key twice in one object.
    DuplicateKey, 400, "duplicate_key";
    /// A feature or an input that the model does not know.
    UnknownFeature, 400, "unknown_feature";
    /// A feature or an input that nobody can do without.
    MissingFeature, 400, "missing_feature";
    /// An output that the model does not have.
    UnknownOutput, 400, "unknown_output";
    /// No rows.
    EmptyRequest, 400, "empty_request";
    /// More rows than are allowed.
    TooManyRows, 400, "too_many_rows";
    /// What the server does not offer.
    Unsupported, 400, "unsupported";
    /// A key is needed, and none or a wrong one was sent.
    Unauthenticated, 401, "unauthenticated";
    /// Not allowed, at all or to this key.
    Forbidden, 403, "forbidden";
    /// No such route.
    NotFound, 404, "not_found";
    /// No such model.
    UnknownModel, 404, "unknown_model";
    /// No such version, or not a loaded one.
    UnknownVersion, 404, "unknown_version";
    /// The route exists for other methods.
    MethodNotAllowed, 405, "method_not_allowed";
    /// The client took too long to send its request.
    Timeout, 408, "timeout";
    /// The version's role does not allow it.
    WrongRole, 409, "wrong_role";
    /// The body is larger than is allowed.
    TooLarge, 413, "too_large";
    /// The request line is longer than is allowed.
    TargetTooLong, 414, "target_too_long";
    /// The body is of a type that the route does not take.
    UnsupportedMediaType, 415, "unsupported_media_type";
    /// Neither the champion nor the previous one has an answer for the row.
    NoAnswer, 422, "no_answer";
    /// Too much to do; see [`Error::retry_after`].
    Overloaded, 429, "overloaded";
    /// The key asks for more than it may; see [`Error::retry_after`].
    RateLimited, 429, "rate_limited";
    /// The head is larger than is allowed.
    HeadTooLarge, 431, "head_too_large";
    /// A fault of the gateway itself.
    Internal, 500, "internal";
    /// The model has no champion yet, or the gateway is stopping.
    NotReady, 503, "not_ready";
    /// The ledger cannot take it.
    Storage, 503, "storage";
    /// The ledger cannot take it, for want of room on the disk.
    StorageFull, 507, "storage_full";
    /// A route of the protocol that is not offered here.
    NotImplemented, 501, "not_implemented";
    /// The request's deadline passed.
    Deadline, 504, "deadline";
}

/// A failed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Decides status and code.
    pub kind: Kind,
    /// What was wrong, what to change.
    pub message: String,
    /// Seconds after which to try again.
    pub retry_after: Option<u64>,
}

impl Error {
    /// A failure with its sentence. Storage comes back by itself: it is always worth another try.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after: match kind {
                Kind::Storage => Some(1),
                // Room is made by people.
                Kind::StorageFull => Some(5),
                _ => None,
            },
        }
    }

    /// The same, worth another try after so many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.kind.status()
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.kind.code()
    }

    /// The body of the reply: `{"error": "…", "code": "…"}`.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body<'a> {
            error: &'a str,
            code: &'a str,
        }
        let body = Body {
            error: &self.message,
            code: self.code(),
        };
        // Two strings always serialise.
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_code_of_its_own_and_an_error_status() {
        let codes: std::collections::BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.code()).collect();
        assert_eq!(codes.len(), Kind::ALL.len());
        assert!(Kind::ALL.iter().all(|kind| (400..600).contains(&kind.status())));
    }

    #[test]
    fn what_the_ledger_could_not_take_is_to_be_tried_again() {
        assert_eq!(Error::new(Kind::Storage, "nothing was changed").retry_after, Some(1));
        assert_eq!(Error::new(Kind::WrongRole, "nothing was changed").retry_after, None);
    }

    #[test]
    fn the_body_is_json_whatever_the_message_holds() {
        let error = Error::new(Kind::WrongType, "feature \"day\": \u{0}\n is not text").retry_after(3);
        let body: serde_json::Value = serde_json::from_slice(&error.to_json()).unwrap();
        assert_eq!(body, serde_json::json!({"error": error.message, "code": "wrong_type"}));
        assert_eq!((error.status(), error.retry_after), (400, Some(3)));
        assert_eq!(error.to_string(), error.message);
    }
}
