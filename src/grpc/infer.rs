//! `ModelInfer`: decode, ask, encode; one way for a call of its own and for a message in a stream.

use std::sync::Arc;

use tokio::time::Instant;

use super::{answer, request};
use crate::auth::Who;
use crate::error::Error;
use crate::http::asking::{self, Counted};
use crate::http::backend::Model;
use crate::http::body::Body;
use crate::http::infer::{self, Answered, Asker};
use crate::http::{App, Backend, stack};
use crate::oip::Reply;

/// The answer's frame, not closed, and who gave it.
///
/// # Errors
/// No place, a request that does not fit, or nobody who answers it in time.
pub(super) async fn answer<B: Backend>(
    app: &App<B>,
    message: Body,
    asker: Asker,
    who: &Who,
) -> Result<(Vec<u8>, Counted), Error> {
    let read = asking::has_read(app, asker.start);
    // The limit of all listeners; held until the answer is written.
    let _place = app.places.take().ok_or_else(stack::no_place)?;
    let sent = request::read(&message.bytes);
    drop(message);
    let sent = sent?;
    let model = asking::model(app, Some(&sent.model), who)?;
    let answered = written(app, &model, sent, (asker, who), read).await;
    answered.inspect_err(|_| model.failed(asker.start.elapsed()))
}

async fn written<B: Backend>(
    app: &App<B>,
    model: &Arc<B::Model>,
    sent: request::Sent,
    (asker, who): (Asker, &Who),
    read: Instant,
) -> Result<(Vec<u8>, Counted), Error> {
    let pinned = sent
        .version
        .as_deref()
        .map(|name| infer::version(&**model, name))
        .transpose()?;
    let is_pinned = pinned.is_some();
    let mut request = sent.request;
    let id = std::mem::take(&mut request.id);
    let prepared = infer::prepare(&**model, request, pinned, asker)?;
    let Answered { reply, outputs, marks } = infer::ask(app, model, prepared, who, (asker.start, read)).await?;
    let frame = answer::frame(&Reply {
        model: model.name(),
        version: &reply.version.name,
        id: &id,
        prediction_id: reply.id,
        fallback: infer::fallback(&reply),
        explore: reply.explored().as_deref(),
        outputs: &outputs,
    });
    Ok((frame, asking::count(app, model.name(), &reply, is_pinned, marks)))
}
