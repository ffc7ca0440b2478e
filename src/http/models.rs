//! What the Open Inference Protocol tells of the server and its models, and its repository.

use std::net::IpAddr;

use http::HeaderMap;
use serde_json::{Value, json};

use super::backend::{Backend, IndexEntry, Model};
use super::reply::{self, Answer};
use super::{App, asking, infer};
use crate::champion::VersionInfo;
use crate::decode::{clip, text, whole};
use crate::error::{Error, Kind};
use crate::oip::{EXTENSIONS, Metadata, Statistics};

/// Longest time that a client waits for a model to be loaded, unless it says so itself.
const LOADING: std::time::Duration = std::time::Duration::from_secs(60);

/// `GET /v2`.
pub(crate) fn server() -> Answer {
    let version = env!("CARGO_PKG_VERSION");
    reply::value(
        200,
        &json!({"name": "dethrone", "version": version, "extensions": EXTENSIONS}),
    )
}

/// `GET /v2/models`.
pub(crate) fn names<B: Backend>(backend: &B) -> Answer {
    let names: Vec<String> = backend.all().iter().map(|model| model.name().to_owned()).collect();
    reply::value(200, &json!({"models": names}))
}

/// Inputs and outputs of a model, or of one of its versions.
///
/// # Errors
/// Unknown, or not ready.
pub(crate) fn metadata<B: Backend>(backend: &B, model: &str, version: Option<&str>) -> Result<Metadata, Error> {
    let model = backend.resolve(Some(model))?;
    if let Some(version) = version {
        let info = infer::version(&*model, version)?;
        return Ok(Metadata::of_version(model.name(), &info));
    }
    let interface = asking::interface(&*model)?;
    let versions = model.versions().iter().map(|info| info.name.clone()).collect();
    Ok(interface.contract.metadata(model.name(), versions))
}

/// The configuration, and how many rows a request may have.
///
/// # Errors
/// As [`metadata`].
pub(crate) fn config<B: Backend>(backend: &B, model: &str, version: Option<&str>) -> Result<(Metadata, usize), Error> {
    let described = metadata(backend, model, version)?;
    let interface = asking::interface(&*backend.resolve(Some(model))?)?;
    Ok((described, interface.rules.max_rows))
}

/// What the versions of a model, or of all models, have done.
///
/// # Errors
/// As [`metadata`].
pub(crate) fn statistics<B: Backend>(
    backend: &B,
    model: Option<&str>,
    version: Option<&str>,
) -> Result<Vec<Statistics>, Error> {
    let Some(name) = model else {
        let all = backend.all();
        return Ok(all.iter().flat_map(|model| counted(&**model)).collect());
    };
    let model = backend.resolve(Some(name))?;
    match version {
        Some(version) => {
            let info = infer::version(&*model, version)?;
            Ok(vec![read(&*model, &info)])
        }
        None => {
            asking::interface(&*model)?;
            Ok(counted(&*model))
        }
    }
}

fn counted<M: Model>(model: &M) -> Vec<Statistics> {
    let versions = model.versions();
    versions.iter().map(|info| read(model, info)).collect()
}

/// Under a number, because the clients that know this extension read one: the load generator ends at a word.
fn read<M: Model>(model: &M, info: &VersionInfo) -> Statistics {
    info.counters.read(model.name(), &info.number(), &info.name)
}

/// Models and their loaded versions; `ready` keeps those that can answer.
pub(crate) fn index<B: Backend>(backend: &B, ready: bool) -> Vec<IndexEntry> {
    let of = |model: std::sync::Arc<B::Model>| -> Vec<IndexEntry> {
        let entry = |version, state, reason| IndexEntry {
            name: model.name().to_owned(),
            version,
            state,
            reason,
        };
        let versions = model.versions();
        if versions.is_empty() && !ready {
            return vec![entry(None, "UNAVAILABLE", model.waiting_for())];
        }
        let loaded = versions
            .iter()
            .map(|info| entry(Some(info.name.clone()), "READY", String::new()));
        loaded.collect()
    };
    backend.all().into_iter().flat_map(of).collect()
}

/// `POST /v2/repository/index`: an empty body, or `{"ready": true}`.
pub(crate) fn asked_index<B: Backend>(backend: &B, body: &[u8]) -> Result<Answer, Error> {
    let body = object(body)?;
    let ready = match body.get("ready") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(ready)) => *ready,
        Some(_) => return Err(Error::new(Kind::WrongType, "'ready' is neither true nor false")),
    };
    Ok(reply::value(200, &index(backend, ready)))
}

/// Whether clients of a listener at this address may load and unload.
///
/// # Errors
/// They may not, and what to set.
pub(crate) fn may_control<B: Backend>(app: &App<B>, bound: IpAddr) -> Result<(), Error> {
    if app.limits.repository_control || bound.to_canonical().is_loopback() {
        return Ok(());
    }
    Err(Error::new(
        Kind::Forbidden,
        "models are loaded and unloaded from this machine only: set repository_control = true to allow it from elsewhere",
    ))
}

/// A model's directory is looked at again, or the model is let go.
///
/// # Errors
/// There is no such model, or it does not answer in time.
pub(crate) async fn control<B: Backend>(
    backend: &B,
    model: &str,
    load: bool,
    deadline: Option<tokio::time::Instant>,
) -> Result<(), Error> {
    if !load {
        return backend.unload(model).await;
    }
    let until = deadline.unwrap_or_else(|| tokio::time::Instant::now() + LOADING);
    match tokio::time::timeout_at(until, backend.load(model)).await {
        Ok(loaded) => loaded,
        Err(_) => {
            let why = backend.resolve(Some(model)).map(|model| model.waiting_for());
            let text = format!("model '{}' does not answer yet: {}", clip(model), why?);
            Err(Error::new(Kind::NotReady, text).retry_after(1))
        }
    }
}

/// The body of a load or unload, which may override nothing.
///
/// # Errors
/// It does.
pub(crate) fn no_overrides(body: &[u8]) -> Result<(), Error> {
    let body = object(body)?;
    let parameters = match body.get("parameters") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Object(parameters)) => parameters,
        Some(_) => return Err(Error::new(Kind::WrongType, "'parameters' is no object")),
    };
    refuse_overrides(parameters.keys().map(String::as_str))
}

/// A client must not replace what the directory holds.
///
/// # Errors
/// A parameter that would.
pub(crate) fn refuse_overrides<'a>(mut parameters: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    let Some(key) = parameters.find(|key| *key == "config" || key.starts_with("file:")) else {
        return Ok(());
    };
    let text = format!(
        "the parameter '{}' would override the model: change its directory instead, and load without it",
        clip(key)
    );
    Err(Error::new(Kind::Unsupported, text))
}

fn object(body: &[u8]) -> Result<serde_json::Map<String, Value>, Error> {
    let body = text(body)?;
    if body.trim().is_empty() {
        return Ok(serde_json::Map::new());
    }
    serde_json::from_str(body).map_err(|e| whole(body, &e))
}

/// The deadline of a head, for what is no prediction.
///
/// # Errors
/// It is no time.
pub(crate) fn deadline(headers: &HeaderMap) -> Result<Option<tokio::time::Instant>, Error> {
    super::strict::deadline(headers, tokio::time::Instant::now())
}

/// A route of the protocol's extensions that is not there.
pub(crate) fn not_offered(what: &str) -> Error {
    Error::new(
        Kind::NotImplemented,
        format!("{what} is not offered here: see GET /v2 for what is"),
    )
}
