//! Health (Open Inference Protocol). Bodies are JSON because a widespread client parses them.

use serde_json::json;

use super::backend::Backend;
use super::infer;
use super::reply::{self, Answer};
use crate::error::{Error, Kind};

/// `GET /openapi.json`: the data listener's routes, for people and their tools.
pub(crate) fn openapi() -> Answer {
    reply::json(200, include_bytes!("openapi.json").to_vec())
}

/// `GET /v2/health/live`: the process answers.
pub(crate) fn live<B: Backend>(backend: &B) -> Answer {
    reply::value(200, &json!({"live": true, "ready": backend.ready().is_ok()}))
}

/// `GET /v2/health/ready`: requests can be answered.
pub(crate) fn ready<B: Backend>(backend: &B) -> Answer {
    match backend.ready() {
        Ok(()) => match backend.degraded() {
            Some(why) => reply::value(200, &json!({"live": true, "ready": true, "degraded": why})),
            None => reply::value(200, &json!({"live": true, "ready": true})),
        },
        Err(why) => {
            let code = Kind::NotReady.code();
            reply::value(503, &json!({"live": true, "ready": false, "error": why, "code": code}))
        }
    }
}

/// The same, and that of a model, while the gateway is stopping: whoever balances sends elsewhere.
pub(crate) fn stopping() -> Answer {
    let why = "the gateway is stopping: send to another one";
    let code = Kind::NotReady.code();
    reply::value(503, &json!({"live": true, "ready": false, "error": why, "code": code}))
}

/// `GET /v2/models/{m}/ready`, or of one of its versions.
pub(crate) fn model_ready<B: Backend>(backend: &B, model: &str, version: Option<&str>) -> Answer {
    let ready = backend.model_ready(model).and_then(|()| match version {
        Some(version) => infer::version(&*backend.resolve(Some(model))?, version).map(drop),
        None => Ok(()),
    });
    match ready {
        Ok(()) => reply::value(200, &json!({"name": model, "ready": true})),
        Err(Error { kind, message, .. }) => {
            let body = json!({"name": model, "ready": false, "error": message, "code": kind.code()});
            reply::value(kind.status(), &body)
        }
    }
}
