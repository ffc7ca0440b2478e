//! From a request to its route and back.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, EXPECT};
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::connection::InFlight;
use super::listener::Entry;
use super::reply::{self, Answer};
use super::route::{self, Face, Route};
use super::stack::{self, Call, Work};
use super::{App, Backend, Limits, admin, body, coding, feedback, gate, health, infer, models, predict, strict};
use crate::auth::Who;
use crate::error::{Error, Kind};
use crate::metrics::{Connections, Format, Role, RouteName, Seconds, write_listeners};
use crate::trace::Ended;

/// One listener's way in.
#[derive(Debug)]
pub(crate) struct Edge<B, W> {
    pub(crate) face: Face,
    pub(crate) bound: IpAddr,
    pub(crate) is_tls: bool,
    pub(crate) app: Arc<App<B>>,
    pub(crate) work: W,
    pub(crate) tracker: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl<B: Backend, W: Work> Entry for Edge<B, W> {
    type Body = Full<Bytes>;

    fn limits(&self) -> &Limits {
        &self.app.limits
    }

    fn write_time(&self) -> &Seconds {
        &self.app.metrics.phases.write
    }

    fn connections(&self) -> &Connections {
        &self.app.metrics.connections
    }

    fn with_limits(&self, limits: &Limits) -> Self {
        Self {
            face: self.face,
            bound: self.bound,
            is_tls: self.is_tls,
            app: Arc::new(self.app.with_limits(limits)),
            work: self.work.clone(),
            tracker: self.tracker.clone(),
            stop: self.stop.clone(),
        }
    }

    fn refused(&self, status: u16) {
        self.app.metrics.refused(status);
    }

    async fn handle(&self, request: Request<Incoming>, guard: InFlight) -> Response<Self::Body> {
        let start = Instant::now();
        let (parts, mut incoming) = request.into_parts();
        let (name, mut answer) = match self.route(&parts) {
            Ok(route) => {
                let name = name_of(&route);
                let unanswered = self.app.metrics.unanswered(name);
                let answer = match gate::let_in(self.app.auth.as_deref(), self.face, &route, &parts.headers) {
                    Ok(who) => self.answer(route, who, &parts, &mut incoming, start).await,
                    Err(error) => Err(error),
                };
                unanswered.answered();
                (name, answer.unwrap_or_else(|e| reply::error(&e)))
            }
            Err(answer) => (RouteName::None, *answer),
        };
        let role = answer.extensions().get::<Role>().copied().unwrap_or_default();
        let end = Instant::now();
        let took = end.duration_since(start);
        self.app.metrics.answered(name, answer.status().as_u16(), role, took);
        if let (Some(tracer), RouteName::Predict | RouteName::Infer | RouteName::Feedback) = (&self.app.tracer, name) {
            let code = answer.status().as_u16();
            let ended = Ended {
                route: name.name(),
                code: ("http.response.status_code", code),
                failed: code >= 500,
                start: start.into_std(),
                end: end.into_std(),
            };
            if let Some(trace) = tracer.answered(&parts.headers, &ended, &mut answer) {
                self.app.metrics.exemplify(name, code, role, took, trace);
            }
        }
        // A client that asks before it sends is told not to; one that was too slow has had its time.
        let waits = parts.headers.contains_key(EXPECT) || answer.status() == StatusCode::REQUEST_TIMEOUT;
        if waits || incoming.is_end_stream() {
            guard.answered(matches!(name, RouteName::Predict | RouteName::Infer), end);
        } else {
            self.drain(incoming, guard);
        }
        answer
    }
}

impl<B: Backend, W: Work> Edge<B, W> {
    /// Lets a body go by that the client is still to send: it reads the answer only when it has sent all. Until then
    /// the request counts as in flight.
    fn drain(&self, rest: Incoming, guard: InFlight) {
        let (app, stop) = (Arc::clone(&self.app), self.stop.clone());
        self.tracker.spawn(async move {
            let _guard = guard;
            tokio::select! {
                () = body::drain(rest, &app.limits) => {}
                () = stop.cancelled() => {}
            }
        });
    }

    fn route(&self, parts: &Parts) -> Result<Route, Box<Answer>> {
        let refused = |e: Error| Box::new(reply::error(&e));
        strict::head(parts).map_err(refused)?;
        if self.face == Face::Admin {
            // Where each request bears a key, which no web page has, the listener may be known by any name.
            let bound = self.app.auth.is_none().then_some(self.bound);
            strict::own_host(parts, bound, self.is_tls).map_err(refused)?;
        }
        route::find(self.face, &parts.method, parts.uri.path()).map_err(|e| Box::new(reply::no_route(&e)))
    }

    async fn answer(
        &self,
        route: Route,
        who: Who,
        parts: &Parts,
        incoming: &mut Incoming,
        start: Instant,
    ) -> Result<Answer, Error> {
        let app = &*self.app;
        let backend = &*app.backend;
        Ok(match route {
            Route::Predict(model) => {
                let mut call = predict::Call::from_head(&parts.headers, model, who, start)?;
                call.body = Some(body::read(incoming, &app.limits, &app.buffered).await?);
                stack::predict(app, Call::Predict(call)).await
            }
            Route::Feedback => {
                strict::encoding(&parts.headers)?;
                if feedback::is_stream(&parts.headers) {
                    return feedback::stream(app, &who, incoming).await;
                }
                strict::not_foreign_type(&parts.headers)?;
                let body = body::read(incoming, &app.limits, &app.buffered).await?;
                self.label(feedback::Call { body, who }).await
            }
            Route::Infer(of) => {
                let mut call = infer::Call::from_head(&parts.headers, of, who, start)?;
                let mut body = body::read(incoming, &app.limits, &app.buffered).await?;
                if let Some(coding) = call.packed {
                    body = coding::unpack(coding, body, &app.limits, &app.buffered).await?;
                }
                call.body = Some(body);
                stack::predict(app, Call::Infer(call)).await
            }
            Route::Server => models::server(),
            Route::ModelNames => models::names(backend),
            Route::Metadata((model, version)) => {
                reply::value(200, &models::metadata(backend, &model, version.as_deref())?)
            }
            Route::Config((model, version)) => {
                let (metadata, max_rows) = models::config(backend, &model, version.as_deref())?;
                reply::value(200, &metadata.config(max_rows))
            }
            Route::Statistics(of) => {
                let (model, version) = of.map_or((None, None), |(model, version)| (Some(model), version));
                let counted = models::statistics(backend, model.as_deref(), version.as_deref())?;
                reply::value(200, &serde_json::json!({"model_stats": counted}))
            }
            Route::Index => {
                let body = body::read(incoming, &app.limits, &app.buffered).await?;
                models::asked_index(backend, &body.bytes)?
            }
            Route::Repository(model, load) => {
                models::may_control(app, self.bound)?;
                let deadline = models::deadline(&parts.headers)?;
                let body = body::read(incoming, &app.limits, &app.buffered).await?;
                models::no_overrides(&body.bytes)?;
                models::control(backend, &model, load, deadline).await?;
                reply::empty()
            }
            Route::NotOffered(what) => return Err(models::not_offered(what)),
            Route::OpenApi => health::openapi(),
            Route::Live => health::live(backend),
            Route::Ready | Route::ModelReady(_) if self.stop.is_cancelled() => health::stopping(),
            Route::Ready => health::ready(backend),
            Route::ModelReady((model, version)) => health::model_ready(backend, &model, version.as_deref()),
            Route::Metrics => scrape(app, &parts.headers).await?,
            Route::Models => reply::value(200, &backend.models()),
            Route::Ledger => reply::value(200, &backend.ledger()),
            Route::Model(model) => reply::value(200, &backend.model_view(&model).await?),
            Route::Monitor(model) => reply::value(200, &backend.monitor(&model)?),
            Route::Report(model) => admin::report(backend, &model, parts.uri.query()).await?,
            Route::Sample(model) => admin::sample(backend, &model, parts.uri.query()).await?,
            Route::Retrainings(model) => reply::value(200, &backend.retrainings(&model).await?),
            Route::Decisions(model) => reply::value(200, &backend.decisions(&model).await?),
            Route::Decision(model, n) => reply::value(200, &backend.decision(&model, n).await?),
            Route::Versions(model, of) => reply::value(200, &backend.versions(&model, of).await?),
            Route::Held(model, whose) => reply::value(200, &backend.held(&model, whose).await?),
            Route::Erase(model) => {
                strict::json_type(&parts.headers)?;
                strict::encoding(&parts.headers)?;
                let body = body::read(incoming, &app.limits, &app.buffered).await?;
                admin::erase(backend, &model, &body.bytes, &who).await?
            }
            Route::Retrain(model) => {
                strict::json_type(&parts.headers)?;
                strict::encoding(&parts.headers)?;
                let body = body::read(incoming, &app.limits, &app.buffered).await?;
                admin::retrain(backend, &model, &body.bytes, &who).await?
            }
            Route::RotateKey => {
                strict::json_type(&parts.headers)?;
                strict::encoding(&parts.headers)?;
                let body = body::read(incoming, &app.limits, &app.buffered).await?;
                admin::rotate_key(backend, &body.bytes, &who).await?
            }
            Route::Act(model, action) => {
                strict::json_type(&parts.headers)?;
                strict::encoding(&parts.headers)?;
                let body = body::read(incoming, &app.limits, &app.buffered).await?;
                admin::act(backend, &model, action, &body.bytes, &who).await?
            }
        })
    }

    async fn label(&self, call: feedback::Call) -> Answer {
        self.work.clone().oneshot(call).await.unwrap_or_else(|_| stack::shed())
    }
}

/// A scrape, in the format that is liked best, made where no request waits for it.
async fn scrape<B: Backend>(app: &App<B>, headers: &HeaderMap) -> Result<Answer, Error> {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::accepted(accept.unwrap_or_default());
    let (backend, crowd) = (Arc::clone(&app.backend), app.places.crowd());
    let (connections, auth) = (Arc::clone(&app.metrics.connections), app.auth.clone());
    let written = tokio::task::spawn_blocking(move || {
        let mut page = backend.metrics();
        let asked = auth.map(|auth| auth.asked()).unwrap_or_default();
        write_listeners(&mut page, crowd, &connections, &asked);
        format.write(&page)
    });
    let written = written
        .await
        .map_err(|_| Error::new(Kind::NotReady, "the gateway is stopping"))?;
    Ok(reply::metrics(format.content_type(), written))
}

fn name_of(route: &Route) -> RouteName {
    match route {
        Route::Predict(_) => RouteName::Predict,
        Route::Infer(_) => RouteName::Infer,
        Route::Feedback => RouteName::Feedback,
        Route::Server | Route::OpenApi | Route::Live | Route::Ready | Route::ModelReady(_) => RouteName::Health,
        Route::ModelNames | Route::Metadata(_) | Route::Config(_) | Route::Statistics(_) => RouteName::Models,
        Route::Index | Route::Repository(..) | Route::NotOffered(_) => RouteName::Models,
        Route::Metrics => RouteName::Metrics,
        Route::Models
        | Route::Ledger
        | Route::RotateKey
        | Route::Model(_)
        | Route::Decisions(_)
        | Route::Monitor(_)
        | Route::Report(_)
        | Route::Sample(_)
        | Route::Retrainings(_)
        | Route::Retrain(_)
        | Route::Decision(..)
        | Route::Act(..)
        | Route::Held(..)
        | Route::Versions(..)
        | Route::Erase(_) => RouteName::Admin,
    }
}
