//! `POST /predict`.

use http::HeaderMap;
use tokio::time::Instant;

use super::backend::{Ask, Backend, Model};
use super::body::Body;
use super::reply::{self, Answer};
use super::{App, encode, strict};
use crate::decode::{PredictBody, clip};
use crate::error::{Error, Kind};
use crate::metrics::Role;

/// A request whose head was fine.
#[derive(Debug)]
pub(crate) struct Call {
    model: Option<String>,
    pub(crate) body: Option<Body>,
    opted_out: bool,
    deadline: Option<Instant>,
    start: Instant,
}

impl Call {
    /// What the head says.
    pub(crate) fn from_head(headers: &HeaderMap, model: Option<String>, start: Instant) -> Result<Self, Error> {
        strict::encoding(headers)?;
        strict::not_foreign_type(headers)?;
        Ok(Self {
            model,
            body: None,
            opted_out: strict::opted_out(headers)?,
            deadline: strict::deadline(headers, start)?,
            start,
        })
    }
}

/// Decodes, asks, encodes. An answer that is not the champion's says so in its extensions: its latency is not the
/// champion's either.
pub(crate) async fn answer<B: Backend>(app: &App<B>, call: Call) -> Answer {
    match predict(app, call).await {
        Ok((body, Role::Champion)) => reply::json(200, body),
        Ok((body, role)) => {
            let mut answer = reply::json(200, body);
            answer.extensions_mut().insert(role);
            answer
        }
        Err(e) => reply::error(&e),
    }
}

/// The reply's body, and who answered.
async fn predict<B: Backend>(app: &App<B>, call: Call) -> Result<(Vec<u8>, Role), Error> {
    let phases = &app.metrics.phases;
    let read = Instant::now();
    phases.read.record(read.duration_since(call.start));
    let (model, ask) = decode(&*app.backend, &call)?;
    let decoded = Instant::now();
    phases.decode.record(decoded.duration_since(read));
    let (deadline, pinned) = (ask.deadline, ask.version.is_some());
    if deadline.is_some_and(|deadline| deadline <= decoded) {
        return Err(late());
    }
    let answering = app.backend.answer(&model, ask);
    let answer = match deadline {
        None => answering.await?,
        Some(deadline) => tokio::time::timeout_at(deadline, answering)
            .await
            .map_err(|_| late())??,
    };
    let answered = Instant::now();
    let body = encode::reply(model.name(), &answer);
    let done = Instant::now();
    phases.encode.record(done.duration_since(answered));
    phases.queue.record(answer.queue);
    phases.compute.record(answer.compute);
    let total = done.duration_since(read);
    app.metrics
        .overhead
        .record(total.saturating_sub(answer.queue + answer.compute));
    let role = match pinned {
        true => Role::Pinned,
        false if answer.rows.iter().any(|row| row.fallback.is_some()) => Role::Previous,
        false => Role::Champion,
    };
    Ok((body, role))
}

fn late() -> Error {
    Error::new(
        Kind::Deadline,
        "the deadline passed before the answer was there: allow more time or send fewer rows",
    )
}

fn decode<B: Backend>(backend: &B, call: &Call) -> Result<(std::sync::Arc<B::Model>, Ask), Error> {
    let bytes = call.body.as_ref().map_or(&[][..], |b| &b.bytes);
    let mut body = PredictBody::parse(bytes)?;
    let model = backend.resolve(name(call.model.as_deref(), body.model())?)?;
    let interface = model.interface().ok_or_else(|| {
        Error::new(
            Kind::NotReady,
            format!("model '{}' has no champion: {}", model.name(), model.waiting_for()),
        )
        .retry_after(1)
    })?;
    let batch = interface.form.read(body.source()?, interface.rules)?;
    let keys = body.keys(batch.rows())?;
    let ask = Ask {
        batch,
        keys,
        version: body.version().map(str::to_owned),
        outputs: body.outputs(),
        shadow: body.shadow() && !call.opted_out,
        deadline: call.deadline,
    };
    Ok((model, ask))
}

/// The model of the path and the model of the body must agree.
fn name<'a>(path: Option<&'a str>, body: Option<&'a str>) -> Result<Option<&'a str>, Error> {
    match (path, body) {
        (Some(path), Some(body)) if path != body => {
            let (path, body) = (clip(path), clip(body));
            let text = format!("the path names the model '{path}', the body '{body}': name one");
            Err(Error::new(Kind::BadRequest, text))
        }
        (path, body) => Ok(path.or(body)),
    }
}
