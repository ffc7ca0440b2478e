//! Calls with a stream of messages: read one, answer it, go on, in order.
//!
//! Always holds: at most one message of a stream is being read or answered, and at most one answer waits for a client
//! that does not take it; a stream that says nothing, or whose client takes nothing, for `idle_timeout` is ended; so it
//! is at its deadline, and when the gateway stops. Leaves to others: what a message means.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Frame, Incoming};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::edge::{Edge, Head, as_ended};
use super::frame::{self, PREFIX};
use super::pb::inference::ModelStreamInferResponse;
use super::reply::{self, Answer};
use super::{Code, Rpc, answer, infer, reflection, status};
use crate::auth::Who;
use crate::error::{Error, Kind};
use crate::http::body::{self, Body};
use crate::http::connection::InFlight;
use crate::http::infer::Asker;
use crate::http::{App, Backend, asking, stack};
use crate::metrics::{GrpcMetrics, Role};
use crate::trace::Caller;

/// Answers to messages, one by one.
pub(super) trait Each: Send + 'static {
    /// The answer's frame, not closed. An error ends the stream.
    fn answer(&mut self, message: Body) -> impl Future<Output = Result<Vec<u8>, Error>> + Send;
}

/// The messages of a call, as they arrive.
struct Messages {
    incoming: Incoming,
    buffer: BytesMut,
}

impl Messages {
    /// The next message; `None` at the end.
    async fn next<B>(&mut self, app: &App<B>, head: Head) -> Result<Option<Body>, Error> {
        let max = app.limits.max_body_bytes;
        let mut share = None;
        let mut whole_by = None;
        loop {
            if let Some((packed, length)) = frame::head(&self.buffer, max)?
                && self.buffer.len() - PREFIX >= length
            {
                let _ = self.buffer.split_to(PREFIX);
                let bytes = self.buffer.split_to(length).freeze();
                let message = Body::of(bytes, share);
                return frame::unpacked(message, packed, head.codings.sent, &app.limits, &app.buffered)
                    .await
                    .map(Some);
            }
            body::grow(&mut share, self.buffer.len(), &app.buffered)?;
            let (by, patience) = match self.buffer.is_empty() {
                true => (Instant::now() + app.limits.idle_timeout, app.limits.idle_timeout),
                // Of the message as a whole: a byte now and then must not hold its memory for ever.
                false => {
                    let patience = app.limits.body_timeout;
                    (*whole_by.get_or_insert_with(|| Instant::now() + patience), patience)
                }
            };
            let chunk = timeout_at(by, body::next(&mut self.incoming)).await;
            match chunk.map_err(|_| silent(patience))?? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(super::wire::malformed()),
            }
        }
    }
}

fn silent(patience: Duration) -> Error {
    Error::new(
        Kind::Timeout,
        format!("no whole message came, or none was taken, for {patience:?}: open a new stream"),
    )
}

/// Where a stream's answers go.
pub(super) struct Answers {
    frames: mpsc::Sender<Frame<Bytes>>,
    patience: Duration,
}

impl Answers {
    /// A place for answers, and the answer that carries them.
    pub(super) fn new(head: Head, patience: Duration, guard: InFlight) -> (Self, Answer) {
        let (frames, receiver) = mpsc::channel(1);
        (
            Self { frames, patience },
            reply::stream(receiver, guard, head.codings.wanted),
        )
    }

    /// Hands an answer over; false when nobody takes it.
    pub(super) async fn give(&self, frame: Bytes) -> bool {
        self.frames
            .send_timeout(Frame::data(frame), self.patience)
            .await
            .is_ok()
    }

    /// The last word.
    pub(super) async fn end(&self, ended: &Result<(), Error>) {
        let trailers = match ended {
            Ok(()) => status::ok(),
            Err(error) => status::failed(error),
        };
        let _ = self.frames.send_timeout(Frame::trailers(trailers), self.patience).await;
    }

    /// The client has gone.
    pub(super) async fn closed(&self) {
        self.frames.closed().await;
    }
}

/// What ends a stream from outside: its client's going, its deadline, the gateway's stopping.
pub(super) async fn until_ended(
    work: impl Future<Output = Result<(), Error>>,
    answers: &Answers,
    head: Head,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let forever = Instant::now() + Duration::from_secs(365 * 24 * 3_600);
    tokio::select! {
        ended = timeout_at(head.asker.deadline.unwrap_or(forever), work) => ended.unwrap_or_else(|_| Err(asking::late())),
        () = answers.closed() => Ok(()),
        () = stop.cancelled() => {
            Err(Error::new(Kind::NotReady, "the gateway is stopping: open a stream to another one").retry_after(1))
        }
    }
}

impl<B: Backend> Edge<B> {
    /// `ModelStreamInfer`.
    pub(super) fn stream_infer(
        &self,
        head: Head,
        (who, caller): (Who, Option<Caller>),
        incoming: Incoming,
        guard: InFlight,
    ) -> Result<Answer, Error> {
        let each = InferEach {
            app: Arc::clone(&self.app),
            metrics: self.metrics.clone(),
            asker: head.asker,
            who,
            caller,
        };
        self.stream(Rpc::ModelStreamInfer, head, incoming, guard, each)
    }

    /// `ServerReflectionInfo`.
    pub(super) fn reflect(&self, head: Head, incoming: Incoming, guard: InFlight) -> Result<Answer, Error> {
        let each = ReflectEach {
            index: self.index.clone(),
            metrics: self.metrics.clone(),
        };
        self.stream(Rpc::Reflection, head, incoming, guard, each)
    }

    fn stream(
        &self,
        rpc: Rpc,
        head: Head,
        incoming: Incoming,
        guard: InFlight,
        mut each: impl Each,
    ) -> Result<Answer, Error> {
        let place = Arc::clone(&self.streams)
            .try_acquire_owned()
            .map_err(|_| stack::no_place())?;
        let (answers, answer) = Answers::new(head, self.app.limits.idle_timeout, guard);
        let (app, metrics, stop) = (
            Arc::clone(&self.app),
            self.metrics.clone(),
            self.background.stop.clone(),
        );
        self.background.tracker.spawn(async move {
            let mut messages = Messages {
                incoming,
                buffer: BytesMut::new(),
            };
            let work = async {
                while let Some(message) = messages.next(&app, head).await? {
                    let frame = each.answer(message).await?;
                    if !answers.give(frame::close(frame, head.codings.wanted).await?).await {
                        break;
                    }
                }
                Ok(())
            };
            let ended = until_ended(work, &answers, head, &stop).await;
            if let Err(error) = &ended {
                metrics.answered(rpc, Code::of(error.kind), Role::default(), head.asker.start.elapsed());
            }
            answers.end(&ended).await;
            drop(place);
        });
        Ok(answer)
    }
}

/// Inference in a stream.
struct InferEach<B> {
    app: Arc<App<B>>,
    metrics: GrpcMetrics,
    asker: Asker,
    who: Who,
    /// Of whom there is to tell, where anybody is told.
    caller: Option<Caller>,
}

impl<B: Backend> Each for InferEach<B> {
    async fn answer(&mut self, message: Body) -> Result<Vec<u8>, Error> {
        let asker = Asker {
            start: Instant::now(),
            ..self.asker
        };
        // A key that is taken back ends its streams.
        self.who.in_force()?;
        let answer = match self.who.spend_request() {
            Ok(()) => infer::answer(&self.app, message, asker, &self.who).await,
            Err(error) => Err(error),
        };
        let (code, role) = match &answer {
            Ok((_, counted)) => (Code::Ok, counted.role),
            Err(error) => (Code::of(error.kind), Role::default()),
        };
        let end = Instant::now();
        let took = end.duration_since(asker.start);
        self.metrics.answered(Rpc::ModelStreamInfer, code, role, took);
        if let (Some(tracer), Some(caller)) = (&self.app.tracer, &self.caller) {
            let told = answer.as_ref().ok().and_then(|(_, counted)| counted.told.as_deref());
            let ended = as_ended("ModelStreamInfer", code, asker.start, end);
            if let Some(trace) = tracer.answered_in_stream(caller, &ended, told) {
                self.metrics.exemplify(Rpc::ModelStreamInfer, code, role, took, trace);
            }
        }
        Ok(match answer {
            Ok((frame, _)) => answer::in_stream(&frame),
            Err(error) => frame::of(&ModelStreamInferResponse {
                error_message: error.message,
                infer_response: None,
            }),
        })
    }
}

/// Reflection.
struct ReflectEach {
    index: reflection::Index,
    metrics: GrpcMetrics,
}

impl Each for ReflectEach {
    async fn answer(&mut self, message: Body) -> Result<Vec<u8>, Error> {
        let start = Instant::now();
        let answer = self.index.answer(super::edge::read(&message.bytes)?);
        self.metrics
            .answered(Rpc::Reflection, Code::Ok, Role::default(), start.elapsed());
        Ok(frame::of(&answer))
    }
}
