//! What a request can be refused for: one kind per stable code, and its one mapping to an HTTP status.
//!
//! Always holds: the answer is JSON with a string `error` (what was wrong, what to change) and a stable `code`.

use std::time::Duration;

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the codes")]
pub enum Kind {
    BadJson,
    BadRequest,
    WrongType,
    WrongShape,
    OutOfRange,
    MissingValue,
    MissingFeature,
    MissingInput,
    UnknownFeature,
    UnknownInput,
    UnknownOutput,
    DuplicateKey,
    EmptyRequest,
    TooManyRows,
    Forbidden,
    UnknownModel,
    UnknownVersion,
    NotFound,
    MethodNotAllowed,
    Timeout,
    WrongRole,
    TooLarge,
    UnsupportedMedia,
    NoAnswer,
    Shed,
    Internal,
    NotReady,
    Deadline,
}

impl Kind {
    /// HTTP status.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Forbidden => 403,
            Self::UnknownModel | Self::UnknownVersion | Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Timeout => 408,
            Self::WrongRole => 409,
            Self::TooLarge => 413,
            Self::UnsupportedMedia => 415,
            Self::NoAnswer => 422,
            Self::Shed => 429,
            Self::Internal => 500,
            Self::NotReady => 503,
            Self::Deadline => 504,
            _ => 400,
        }
    }

    /// Stable code for programs.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::BadJson => "bad_json",
            Self::BadRequest => "bad_request",
            Self::WrongType => "wrong_type",
            Self::WrongShape => "wrong_shape",
            Self::OutOfRange => "out_of_range",
            Self::MissingValue => "missing_value",
            Self::MissingFeature => "missing_feature",
            Self::MissingInput => "missing_input",
            Self::UnknownFeature => "unknown_feature",
            Self::UnknownInput => "unknown_input",
            Self::UnknownOutput => "unknown_output",
            Self::DuplicateKey => "duplicate_key",
            Self::EmptyRequest => "empty_request",
            Self::TooManyRows => "too_many_rows",
            Self::Forbidden => "forbidden",
            Self::UnknownModel => "unknown_model",
            Self::UnknownVersion => "unknown_version",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Timeout => "timeout",
            Self::WrongRole => "wrong_role",
            Self::TooLarge => "too_large",
            Self::UnsupportedMedia => "unsupported_media",
            Self::NoAnswer => "no_answer",
            Self::Shed => "shed",
            Self::Internal => "internal",
            Self::NotReady => "not_ready",
            Self::Deadline => "deadline",
        }
    }
}

/// A refused request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// Why, for programs.
    pub kind: Kind,
    /// What was wrong and what to change, for people.
    pub message: String,
    /// When to try again, where that helps.
    pub retry_after: Option<Duration>,
}

impl Error {
    /// A refusal without a time to try again.
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after: None,
        }
    }

    /// The body of the answer.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::json!({"error": self.message, "code": self.kind.code()})
            .to_string()
            .into_bytes()
    }
}
