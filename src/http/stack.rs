//! The tower stack, built in one place: requests above the limit are shed, none waits in a queue of ours.

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
    Feedback(feedback::Call),
}

/// What answers calls.
pub(crate) trait Work:
    Service<Call, Response = Answer, Error = tower::BoxError, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<S> Work for S where
    S: Service<Call, Response = Answer, Error = tower::BoxError, Future: Send> + Clone + Send + Sync + 'static
{
}

/// The stack around the routes that do work. All listeners together keep to one limit.
pub(crate) fn work<B: Backend>(app: Arc<App<B>>) -> impl Work {
    ServiceBuilder::new()
        .load_shed()
        .layer(GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&app.in_flight)))
        .service_fn(move |call: Call| {
            let app = Arc::clone(&app);
            async move {
                Ok::<_, Infallible>(match call {
                    Call::Predict(call) => predict::answer(&app, call).await,
                    Call::Infer(call) => infer::answer(&app, call).await,
                    Call::Feedback(call) => feedback::answer(&app, call).await,
                })
            }
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
