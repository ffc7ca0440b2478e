//! `POST /feedback`: a JSON body, or a stream of lines.

use http::HeaderMap;
use hyper::body::Incoming;

use super::backend::Model;
use super::body::{self, Body};
use super::reply::{self, Answer};
use super::{App, Backend, asking, strict};
use crate::auth::Who;
use crate::decode::{self, Invalid, Item, Line, LineSplitter, MAX_LINE_BYTES};
use crate::error::{Error, Kind};
use crate::protocol::{FeedbackReply, StreamReply};

/// Lines that are handed to the ledger together.
const CHUNK: usize = 1_000;

/// A JSON body.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) body: Body,
    pub(crate) who: Who,
}

/// True for newline-delimited JSON.
pub(crate) fn is_stream(headers: &HeaderMap) -> bool {
    let known = ["application/x-ndjson", "application/ndjson", "application/jsonl"];
    known.contains(&strict::media_type(headers).as_str())
}

/// Answers a JSON body.
pub(crate) async fn answer<B: Backend>(app: &App<B>, call: Call) -> Answer {
    match labels(app, &call.body.bytes, &call.who).await {
        Ok(answer) => answer,
        Err(e) => reply::error(&e),
    }
}

async fn labels<B: Backend>(app: &App<B>, bytes: &[u8], who: &Who) -> Result<Answer, Error> {
    let read = decode::feedback(bytes, app.limits.max_labels)?;
    let model = read.model.as_deref();
    // A body whose own model does not exist is refused as a whole.
    let mut resolved = None;
    if model.is_some() || read.items.iter().flatten().any(|item| item.model.is_none()) {
        resolved = Some(asking::model(app, model, who)?);
    } else if read.items.iter().all(Result::is_err) {
        resolved = app.backend.resolve(None).ok();
    }
    may_label(who, &read.items)?;
    let results = app.backend.feedback(model, read.items, who.name()).await?;
    let accepted = results.iter().filter(|r| r.status == "accepted").count();
    Ok(reply::value(
        200,
        &FeedbackReply {
            model: model.or(resolved.as_deref().map(Model::name)),
            accepted,
            results: &results,
        },
    ))
}

/// Whether the key is for the models that the items name by themselves, and for so many labels.
fn may_label(who: &Who, items: &[Item]) -> Result<(), Error> {
    for model in items.iter().flatten().filter_map(|item| item.model.as_deref()) {
        who.may_model(model)?;
    }
    who.spend_rows(items.len())
}

/// Reads lines as they come, and answers when the last is on disk.
pub(crate) async fn stream<B: Backend>(app: &App<B>, who: &Who, incoming: &mut Incoming) -> Result<Answer, Error> {
    let Ok(_place) = app.streams.try_acquire() else {
        let text = "too many label streams at once: try again";
        return Err(Error::new(Kind::Overloaded, text).retry_after(1));
    };
    let mut lines = Lines::default();
    let mut splitter = LineSplitter::default();
    loop {
        let chunk = tokio::time::timeout(app.limits.body_timeout, body::next(incoming)).await;
        let chunk =
            chunk.map_err(|_| lines.broken(&Error::new(Kind::Timeout, "the stream stood still for too long")))?;
        let Some(chunk) = chunk.map_err(|e| lines.broken(&e))? else {
            break;
        };
        splitter.push(&chunk, |line| lines.add(line));
        lines.flush(app, who, CHUNK).await?;
    }
    splitter.finish(|line| lines.add(line));
    lines.flush(app, who, 1).await?;
    Ok(reply::value(200, &lines.reply))
}

/// Lines that wait for the ledger, and what became of the others.
#[derive(Default)]
struct Lines {
    line: u64,
    waiting: Vec<(u64, Item)>,
    reply: StreamReply,
}

impl Lines {
    fn add(&mut self, line: Line<'_>) {
        self.line += 1;
        let item = match line {
            Line::Text(text) if text.iter().all(u8::is_ascii_whitespace) => return,
            Line::Text(text) => decode::feedback_line(text),
            Line::TooLong => Err(Invalid {
                id: None,
                error: format!("the line is longer than {MAX_LINE_BYTES} bytes: send one label per line"),
            }),
        };
        self.waiting.push((self.line, item));
    }

    /// Hands on what waits, in groups of at most [`CHUNK`], while there are `least` or more.
    async fn flush<B: Backend>(&mut self, app: &App<B>, who: &Who, least: usize) -> Result<(), Error> {
        while self.waiting.len() >= least {
            let rest = self.waiting.split_off(self.waiting.len().min(CHUNK));
            let group = std::mem::replace(&mut self.waiting, rest);
            let (numbers, items): (Vec<u64>, Vec<Item>) = group.into_iter().unzip();
            self.may_go_on(app, who, &items).map_err(|e| self.broken(&e))?;
            let stored = app.backend.feedback(None, items, who.name()).await;
            let stored = stored.map_err(|e| self.broken(&e))?;
            for (line, status) in numbers.into_iter().zip(stored) {
                self.reply.add(line, status);
            }
        }
        Ok(())
    }

    /// Whether the key, which may have been taken back meanwhile, is for these lines.
    fn may_go_on<B: Backend>(&self, app: &App<B>, who: &Who, items: &[Item]) -> Result<(), Error> {
        if who.name().is_none() {
            return Ok(());
        }
        who.in_force()?;
        if items.iter().flatten().any(|item| item.model.is_none()) {
            asking::model(app, None, who)?;
        }
        may_label(who, items)
    }

    /// What is on disk stays: the message says how far the stream came.
    fn broken(&self, e: &Error) -> Error {
        let stored: u64 = self.reply.counts.values().sum();
        let text = format!(
            "{} ({stored} lines were dealt with before; sending all again is harmless)",
            e.message
        );
        Error {
            kind: e.kind,
            message: text,
            retry_after: e.retry_after,
        }
    }
}
