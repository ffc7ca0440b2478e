//! The way of a decoded request, whatever protocol it came by: within its deadline, timed and counted.

use std::sync::Arc;
use std::task::Poll;

use http::Response;
use tokio::time::Instant;

use super::App;
use super::backend::{Ask, Backend, Interface, Model, Reply};
use crate::auth::{Scope, Who};
use crate::error::{Error, Kind};
use crate::metrics::Role;
use crate::oip::statistics::Times;
use crate::time::ms_at;
use crate::trace::{Moments, Told};

/// When a request reached each point of its way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Marks {
    /// Its head was there.
    pub(crate) start: Instant,
    /// Its body was there.
    pub(crate) read: Instant,
    /// Its rows were decoded.
    pub(crate) decoded: Instant,
    /// Its answer was computed.
    pub(crate) answered: Instant,
}

/// How a model's requests are read.
///
/// # Errors
/// It has no champion yet.
pub(crate) fn interface<M: Model>(model: &M) -> Result<Arc<Interface>, Error> {
    model.interface().ok_or_else(|| {
        let text = format!("model '{}' has no champion: {}", model.name(), model.waiting_for());
        Error::new(Kind::NotReady, text).retry_after(1)
    })
}

/// The model that is asked, where whoever asks may. One who may not does not learn which there are.
///
/// # Errors
/// That, or there is no such model.
pub(crate) fn model<B: Backend>(app: &App<B>, name: Option<&str>, who: &Who) -> Result<Arc<B::Model>, Error> {
    if let Some(name) = name {
        who.may_model(name)?;
    }
    let model = app.backend.resolve(name)?;
    who.may_model(model.name())?;
    Ok(model)
}

/// A body is there; gives when. What comes of it is not known yet.
pub(crate) fn has_read<B: Backend>(app: &App<B>, start: Instant) -> Instant {
    let read = Instant::now();
    app.metrics.phases.read.record(read.duration_since(start));
    read
}

/// The answer, unless the deadline comes first: the request's own, or that of the settings.
pub(crate) async fn ask<B: Backend>(
    app: &App<B>,
    model: &Arc<B::Model>,
    mut ask: Ask,
    who: &Who,
    decoded: Instant,
) -> Result<Reply, Error> {
    let deadline = ask.deadline.unwrap_or(decoded + app.limits.default_timeout);
    let lag = app.places.lag();
    // It has waited already, before anybody knew of it.
    let deadline = deadline.checked_sub(lag.waited()).unwrap_or(deadline);
    ask.crowded = lag.sheds();
    if deadline <= decoded {
        return Err(late());
    }
    if ask.version.is_some() {
        who.may(&[Scope::Pin])?;
    }
    who.spend_rows(ask.batch.rows())?;
    ask.deadline = Some(deadline);
    let mut answering = std::pin::pin!(app.backend.answer(model, ask));
    // Most answers are there at once: then no timer is made.
    if let Poll::Ready(reply) = std::future::poll_fn(|context| Poll::Ready(answering.as_mut().poll(context))).await {
        return reply;
    }
    tokio::time::timeout_at(deadline, answering).await.map_err(|_| late())?
}

/// An answer that was counted.
#[derive(Debug)]
pub(crate) struct Counted {
    /// Who gave it.
    pub(crate) role: Role,
    /// What there is to tell of it, where anybody is told.
    pub(crate) told: Option<Box<Told>>,
}

impl Counted {
    /// Hands on what is unusual: an answer that is not the champion's says so in its extensions, because its latency is not
    /// the champion's either.
    pub(crate) fn mark<T>(self, answer: &mut Response<T>) {
        if self.role != Role::Champion {
            answer.extensions_mut().insert(self.role);
        }
        if let Some(told) = self.told {
            answer.extensions_mut().insert(told);
        }
    }
}

/// Counts an answer that has just been encoded, and says who gave it.
pub(crate) fn count<B: Backend>(app: &App<B>, model: &str, reply: &Reply, pinned: bool, marks: Marks) -> Counted {
    let Marks {
        start,
        read,
        decoded,
        answered,
    } = marks;
    let done = Instant::now();
    let phases = &app.metrics.phases;
    phases.decode.record(decoded.duration_since(read));
    phases.queue.record(reply.queue);
    phases.compute.record(reply.compute);
    phases.encode.record(done.duration_since(answered));
    let added = done.duration_since(read).saturating_sub(reply.queue + reply.compute);
    app.metrics.overhead.record(added);
    let times = Times {
        total: done.duration_since(start),
        queue: reply.queue,
        input: decoded.duration_since(read),
        infer: reply.compute,
        output: done.duration_since(answered),
    };
    let now_ms = ms_at(done.into_std());
    reply.version.counters.answered(reply.rows.len(), times, now_ms);
    let role = match pinned {
        true => Role::Pinned,
        false if reply.rows.iter().any(|row| row.fallback.is_some()) => Role::Previous,
        false => Role::Champion,
    };
    if role == Role::Champion {
        app.metrics.tail.record(done.duration_since(read));
        if let Some(is_mirrored) = reply.mirrored {
            app.metrics.mirrored(is_mirrored).record(done.duration_since(read));
        }
    }
    let told = app.tracer.is_some().then(|| {
        Box::new(Told {
            model: model.to_owned(),
            version: reply.version.name.clone(),
            id: reply.id.to_string(),
            role: role.name(),
            rows: reply.rows.len(),
            moments: Moments {
                read: read.into_std(),
                decoded: decoded.into_std(),
                queue: reply.queue,
                compute: reply.compute,
                answered: answered.into_std(),
                encoded: done.into_std(),
            },
        })
    });
    Counted { role, told }
}

/// The deadline came first.
pub(crate) fn late() -> Error {
    Error::new(
        Kind::Deadline,
        "the deadline passed before the answer was there: allow more time or send fewer rows",
    )
}
