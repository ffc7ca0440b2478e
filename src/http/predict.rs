//! `POST /predict`.

use std::sync::Arc;

use http::HeaderMap;
use tokio::time::Instant;

use super::asking::{self, Counted, Marks};
use super::backend::{Ask, Backend, Model};
use super::body::Body;
use super::reply::{self, Answer};
use super::{App, encode, strict};
use crate::auth::Who;
use crate::decode::{PredictBody, clip};
use crate::error::{Error, Kind};

/// A request whose head was fine.
#[derive(Debug)]
pub(crate) struct Call {
    model: Option<String>,
    pub(crate) body: Option<Body>,
    opted_out: bool,
    deadline: Option<Instant>,
    who: Who,
    start: Instant,
}

impl Call {
    /// What the head says.
    pub(crate) fn from_head(
        headers: &HeaderMap,
        model: Option<String>,
        who: Who,
        start: Instant,
    ) -> Result<Self, Error> {
        strict::encoding(headers)?;
        strict::not_foreign_type(headers)?;
        Ok(Self {
            model,
            body: None,
            opted_out: strict::opted_out(headers)?,
            deadline: strict::deadline(headers, start)?,
            who,
            start,
        })
    }
}

/// Decodes, asks, encodes.
pub(crate) async fn answer<B: Backend>(app: &App<B>, call: Call) -> Answer {
    match predict(app, call).await {
        Ok((body, counted)) => {
            let mut answer = reply::json(200, body);
            counted.mark(&mut answer);
            answer
        }
        Err(e) => reply::error(&e),
    }
}

/// The reply's body, and who answered.
async fn predict<B: Backend>(app: &App<B>, call: Call) -> Result<(Vec<u8>, Counted), Error> {
    let read = asking::has_read(app, call.start);
    let bytes = call.body.as_ref().map_or(&[][..], |b| &b.bytes);
    let body = PredictBody::parse(bytes)?;
    let model = asking::model(app, name(call.model.as_deref(), body.model())?, &call.who)?;
    let answered = rows(app, &model, &call, body, read).await;
    if answered.is_err() {
        model.failed(call.start.elapsed());
    }
    answered
}

async fn rows<B: Backend>(
    app: &App<B>,
    model: &Arc<B::Model>,
    call: &Call,
    body: PredictBody<'_>,
    read: Instant,
) -> Result<(Vec<u8>, Counted), Error> {
    let ask = decode(&**model, call, body).map_err(|error| match (error.kind, &call.body) {
        (Kind::MalformedJson, Some(body)) => PredictBody::complaint(&body.bytes).unwrap_or(error),
        _ => error,
    })?;
    let (decoded, pinned) = (Instant::now(), ask.version.is_some());
    let reply = asking::ask(app, model, ask, &call.who, decoded).await?;
    let answered = Instant::now();
    let body = encode::reply(model.name(), &reply);
    let marks = Marks {
        start: call.start,
        read,
        decoded,
        answered,
    };
    Ok((body, asking::count(app, model.name(), &reply, pinned, marks)))
}

fn decode<M: Model>(model: &M, call: &Call, mut body: PredictBody<'_>) -> Result<Ask, Error> {
    let interface = asking::interface(model)?;
    let batch = interface.form.read(body.source()?, interface.rules)?;
    let keys = body.keys(batch.rows())?;
    Ok(Ask {
        batch,
        keys,
        version: body.version().map(str::to_owned),
        outputs: body.outputs(),
        shadow: body.shadow() && !call.opted_out,
        deadline: call.deadline,
        crowded: false,
    })
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
