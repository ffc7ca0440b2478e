//! Limits of what is done at once: requests above them are shed, none waits in a queue of ours.
//!
//! Labels go through a tower stack, built in one place. Predictions keep off it: cloning the stack and giving a permit of
//! its semaphore back touch memory that all workers touch, once each per request ([`super::places`]).

use std::convert::Infallible;
use std::sync::Arc;

use tower::limit::GlobalConcurrencyLimitLayer;
use tower::{Service, ServiceBuilder};

use super::reply::{self, Answer};
use super::{App, Backend, feedback, infer, predict};
use crate::error::{Error, Kind};

/// Work that the limit counts; its body is read, so that a slow sender holds no place.
#[derive(Debug)]
pub(crate) enum Call {
    Predict(predict::Call),
    Infer(infer::Call),
}

/// Answers a prediction, where there is a place for it.
pub(crate) async fn predict<B: Backend>(app: &App<B>, call: Call) -> Answer {
    let Some(_place) = app.places.take() else {
        return shed();
    };
    match call {
        Call::Predict(call) => predict::answer(app, call).await,
        Call::Infer(call) => infer::answer(app, call).await,
    }
}

/// What takes labels.
pub(crate) trait Work:
    Service<feedback::Call, Response = Answer, Error = tower::BoxError, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<S> Work for S where
    S: Service<feedback::Call, Response = Answer, Error = tower::BoxError, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// The stack around labels. All listeners together keep to one limit.
pub(crate) fn work<B: Backend>(app: Arc<App<B>>) -> impl Work {
    ServiceBuilder::new()
        .load_shed()
        .layer(GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&app.labelling)))
        .service_fn(move |call: feedback::Call| {
            let app = Arc::clone(&app);
            async move { Ok::<_, Infallible>(feedback::answer(&app, call).await) }
        })
}

/// The stack's only error.
pub(crate) fn shed() -> Answer {
    reply::error(&no_place())
}

/// No place for a request.
pub(crate) fn no_place() -> Error {
    Error::new(Kind::Overloaded, "too many requests at once: try again").retry_after(1)
}
