//! Inference by the Open Inference Protocol: what REST and gRPC share, and `POST /v2/models/{m}/infer`.
//!
//! Whether bytes stand behind the JSON is told by `Inference-Header-Content-Length` alone: clients send binary bodies as
//! `application/json`, and with no type at all.

use std::sync::Arc;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use super::asking::{self, Counted, Marks};
use super::backend::{Ask, Backend, Model, Reply};
use super::body::Body;
use super::coding::{self, Coding};
use super::reply::{self, Answer};
use super::{App, strict};
use crate::auth::Who;
use crate::champion::VersionInfo;
use crate::decode::{Keys, clip};
use crate::error::{Error, Kind};
use crate::model::tensor::{Datatype, Tensor};
use crate::oip::{self, Asked, Binary, Parsed, Plan};

/// Where the JSON ends and the bytes begin.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// A request whose head was fine.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) body: Option<Body>,
    pub(crate) packed: Option<Coding>,
    model: String,
    version: Option<String>,
    json_length: Option<usize>,
    wanted: Option<Coding>,
    asker: Asker,
    who: Who,
}

/// What any transport says of whoever asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    pub(crate) opted_out: bool,
    pub(crate) deadline: Option<Instant>,
    /// When the head was there.
    pub(crate) start: Instant,
}

impl Call {
    /// What the head says.
    pub(crate) fn from_head(
        headers: &HeaderMap,
        (model, version): (String, Option<String>),
        who: Who,
        start: Instant,
    ) -> Result<Self, Error> {
        Ok(Self {
            body: None,
            packed: coding::sent(headers)?,
            model,
            version,
            json_length: json_length(headers)?,
            wanted: coding::wanted(headers),
            asker: Asker {
                opted_out: strict::opted_out(headers)?,
                deadline: strict::deadline(headers, start)?,
                start,
            },
            who,
        })
    }
}

fn json_length(headers: &HeaderMap) -> Result<Option<usize>, Error> {
    let Some(value) = headers.get(JSON_LENGTH) else {
        return Ok(None);
    };
    let digits = value.to_str().ok().filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
    digits.and_then(|v| v.parse().ok()).map(Some).ok_or_else(|| {
        let text = "Inference-Header-Content-Length is not a number: send the length of the JSON in bytes";
        Error::new(Kind::MalformedBody, text)
    })
}

/// Decodes, asks, encodes.
pub(crate) async fn answer<B: Backend>(app: &App<B>, call: Call) -> Answer {
    match infer(app, call).await {
        Ok(answer) => answer,
        Err(e) => reply::error(&e),
    }
}

async fn infer<B: Backend>(app: &App<B>, call: Call) -> Result<Answer, Error> {
    let read = asking::has_read(app, call.asker.start);
    let (model, wanted) = (asking::model(app, Some(&call.model), &call.who)?, call.wanted);
    let start = call.asker.start;
    let answered = written(app, &model, call, read).await;
    let (body, json_length, counted) = answered.inspect_err(|_| model.failed(start.elapsed()))?;
    let mut answer = match wanted {
        None => reply::json(200, body),
        Some(coding) => {
            let mut answer = reply::json(200, coding::pack(coding, body).await?);
            let name = HeaderValue::from_static(coding.name());
            answer.headers_mut().insert(CONTENT_ENCODING, name);
            answer
        }
    };
    if let Some(length) = json_length {
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, BYTES);
        headers.insert(JSON_LENGTH, HeaderValue::from(length));
    }
    counted.mark(&mut answer);
    Ok(answer)
}

/// The body of the answer, the length of its JSON where bytes follow, and who answered.
async fn written<B: Backend>(
    app: &App<B>,
    model: &Arc<B::Model>,
    call: Call,
    read: Instant,
) -> Result<(Vec<u8>, Option<usize>, Counted), Error> {
    let bytes = call.body.as_ref().map_or(&[][..], |body| &body.bytes);
    let pinned = call
        .version
        .as_deref()
        .map(|name| version(&**model, name))
        .transpose()?;
    let (request, binary) = match oip::parse(bytes, call.json_length)? {
        Asked::Named(Parsed { request, binary }) => (request, binary),
        Asked::Raw(bytes) => {
            let interface = asking::interface(&**model)?;
            let request = oip::raw(bytes, &interface.contract, pinned.as_deref())?;
            (request, Binary::all())
        }
    };
    let id = request.id.clone();
    let prepared = prepare(&**model, request, pinned, call.asker)?;
    has_json_form(&prepared.plan, &binary)?;
    drop(call.body);
    let Answered { reply, outputs, marks } = ask(app, model, prepared, &call.who, (call.asker.start, read)).await?;
    let explored = reply.explored();
    let parts = oip::Reply {
        model: model.name(),
        version: &reply.version.name,
        id: &id,
        prediction_id: reply.id,
        fallback: fallback(&reply),
        explore: explored.as_deref(),
        outputs: &outputs,
    };
    let (body, json_length) = oip::reply(&parts, &binary)?;
    let counted = asking::count(app, model.name(), &reply, call.version.is_some(), marks);
    Ok((body, json_length, counted))
}

/// Refused before it is computed.
fn has_json_form(plan: &Plan, binary: &Binary) -> Result<(), Error> {
    for (at, (name, datatype)) in plan.outputs().enumerate() {
        if datatype == Datatype::Fp16 && !binary.of(at) {
            let text =
                format!("output '{name}' is FP16, which has no JSON form: ask for it with \"binary_data\": true");
            return Err(Error::new(Kind::WrongType, text));
        }
    }
    Ok(())
}

/// A request that is ready to be asked.
#[derive(Debug)]
pub(crate) struct Prepared {
    ask: Ask,
    plan: Plan,
}

/// An answer that is ready to be written.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) reply: Reply,
    pub(crate) outputs: Vec<(Arc<str>, Tensor)>,
    pub(crate) marks: Marks,
}

/// The loaded version of this name, or of the number under which its statistics stand.
///
/// # Errors
/// There is none.
pub(crate) fn version<M: Model>(model: &M, name: &str) -> Result<Arc<VersionInfo>, Error> {
    asking::interface(model)?;
    let versions = model.versions();
    let named = versions.iter().find(|info| info.name == name);
    if let Some(info) = named.or_else(|| versions.iter().find(|info| info.number() == name)) {
        return Ok(Arc::clone(info));
    }
    let names: Vec<&str> = versions.iter().map(|info| info.name.as_str()).collect();
    let text = format!("no loaded version '{}'; loaded are {}", clip(name), names.join(", "));
    Err(Error::new(Kind::UnknownVersion, text))
}

/// Rows and wanted outputs of a request, checked against the model.
///
/// # Errors
/// The first thing that does not fit.
pub(crate) fn prepare<M: Model>(
    model: &M,
    request: oip::Request,
    pinned: Option<Arc<VersionInfo>>,
    asker: Asker,
) -> Result<Prepared, Error> {
    let interface = asking::interface(model)?;
    let (contract, pinned) = (&interface.contract, pinned.as_deref());
    let names = request.outputs.clone();
    let (batch, native) = oip::rows(request, (contract, &interface.form, interface.rules), pinned)?;
    let plan = Plan::of(contract, pinned, native, &names)?;
    let ask = Ask {
        batch,
        keys: Keys::default(),
        version: pinned.map(|info| info.name.clone()),
        outputs: plan.wanted(),
        shadow: !asker.opted_out,
        deadline: asker.deadline,
        crowded: false,
    };
    Ok(Prepared { ask, plan })
}

/// Asks, and gives the outputs that the request wants. `from` is when its head and its body were there.
///
/// # Errors
/// Nobody can answer it in time.
pub(crate) async fn ask<B: Backend>(
    app: &App<B>,
    model: &Arc<B::Model>,
    prepared: Prepared,
    who: &Who,
    from: (Instant, Instant),
) -> Result<Answered, Error> {
    let Prepared { ask, plan } = prepared;
    let decoded = Instant::now();
    let mut reply = asking::ask(app, model, ask, who, decoded).await?;
    let marks = Marks {
        start: from.0,
        read: from.1,
        decoded,
        answered: Instant::now(),
    };
    let outputs = plan.fill(&mut reply)?;
    Ok(Answered { reply, outputs, marks })
}

/// The version that answered rows in the champion's place.
pub(crate) fn fallback(reply: &Reply) -> Option<&str> {
    reply.rows.iter().find_map(|row| row.fallback.as_deref())
}
