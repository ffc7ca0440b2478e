//! Responses: always a whole body with its length, so that head and body leave in one write.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use super::route::NoRoute;
use crate::error::{Error, Kind};

const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"dethrone\"");

/// What every route answers with.
pub(crate) type Answer = Response<Full<Bytes>>;

/// Exactly this: clients compare it without a charset.
const JSON: HeaderValue = HeaderValue::from_static("application/json");

fn answer(status: u16, kind: HeaderValue, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

/// JSON that is already bytes.
pub(crate) fn json(status: u16, body: impl Into<Bytes>) -> Answer {
    answer(status, JSON, body)
}

/// A value as JSON.
pub(crate) fn value<T: Serialize>(status: u16, value: &T) -> Answer {
    // Our own reply types have string keys and finite numbers: they serialise.
    json(status, serde_json::to_vec(value).unwrap_or_default())
}

/// Nothing but the status.
pub(crate) fn empty() -> Answer {
    Response::new(Full::default())
}

/// A scrape.
pub(crate) fn metrics(kind: &'static str, body: Vec<u8>) -> Answer {
    answer(200, HeaderValue::from_static(kind), body)
}

/// An error.
pub(crate) fn error(error: &Error) -> Answer {
    let mut answer = json(error.status(), error.to_json());
    if let Some(seconds) = error.retry_after {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if error.kind == Kind::Unauthenticated {
        answer.headers_mut().insert(WWW_AUTHENTICATE, CHALLENGE);
    }
    answer
}

/// An error of routing.
pub(crate) fn no_route(refused: &NoRoute) -> Answer {
    let mut answer = error(&refused.error);
    if let Some(allow) = refused.allow {
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    }
    answer
}
