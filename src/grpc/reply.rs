//! Responses: one message and its trailers, trailers alone, or messages as they come.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};
use hyper::body::{Frame, SizeHint};
use tokio::sync::mpsc;

use super::frame::{CODINGS, ENCODING};
use super::status;
use crate::error::Error;
use crate::http::coding::Coding;
use crate::http::connection::InFlight;
use crate::http::reply as http_reply;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// What the listener answers with.
pub(super) type Answer = Response<Outgoing>;

/// A response's body.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// What is left of one message and its trailers.
    Whole {
        /// The message.
        data: Option<Bytes>,
        /// The status, unless it stands in the head.
        trailers: Option<HeaderMap>,
    },
    /// Messages as they come, the trailers last. The connection is busy as long as they may.
    Stream {
        /// Where they come from.
        frames: mpsc::Receiver<Frame<Bytes>>,
        /// Held, not read.
        _guard: InFlight,
    },
}

impl hyper::body::Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole { data, trailers } => Poll::Ready(match data.take() {
                Some(data) => Some(Ok(Frame::data(data))),
                None => trailers.take().map(|trailers| Ok(Frame::trailers(trailers))),
            }),
            Self::Stream { frames, .. } => frames.poll_recv(cx).map(|frame| frame.map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(
            self,
            Self::Whole {
                data: None,
                trailers: None
            }
        )
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole { data, .. } => SizeHint::with_exact(data.as_ref().map_or(0, |d| d.len() as u64)),
            Self::Stream { .. } => SizeHint::default(),
        }
    }
}

fn answer(body: Outgoing, packed: Option<Coding>) -> Answer {
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC);
    if let Some(coding) = packed {
        headers.insert(ENCODING, HeaderValue::from_static(coding.name()));
    }
    answer
}

/// One message, framed.
pub(super) fn message(data: Bytes, packed: Option<Coding>) -> Answer {
    let (data, trailers) = (Some(data), Some(status::ok()));
    answer(Outgoing::Whole { data, trailers }, packed)
}

/// No message: the status stands in the head.
pub(super) fn failed(error: &Error) -> Answer {
    let body = Outgoing::Whole {
        data: None,
        trailers: None,
    };
    let mut answer = answer(body, None);
    let headers = answer.headers_mut();
    headers.extend(status::failed(error));
    headers.insert("grpc-accept-encoding", CODINGS);
    answer
}

/// Messages as they come.
pub(super) fn stream(frames: mpsc::Receiver<Frame<Bytes>>, guard: InFlight, packed: Option<Coding>) -> Answer {
    answer(Outgoing::Stream { frames, _guard: guard }, packed)
}

/// An answer to somebody who does not speak gRPC.
pub(super) fn plain(error: &Error) -> Answer {
    http_reply::error(error).map(|_| Outgoing::Whole {
        data: Some(error.to_json().into()),
        trailers: None,
    })
}
