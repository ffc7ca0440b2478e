//! From a call to its RPC and back.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Method, Request, Response, Version};
use hyper::body::Incoming;
use prost::Message;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::frame::{self, Codings};
use super::pb::{health as pb_health, inference as pb};
use super::reflection::Index;
use super::reply::{self, Answer, Outgoing};
use super::{Code, Rpc, about, gate, health, infer};
use crate::auth::Who;
use crate::decode::clip;
use crate::error::{Error, Kind};
use crate::http::body;
use crate::http::connection::InFlight;
use crate::http::infer::Asker;
use crate::http::listener::{Background, Entry};
use crate::http::{App, Backend, Limits, models, strict};
use crate::metrics::{Connections, GrpcMetrics, Role, Seconds};
use crate::trace::{Caller, Ended};

/// Most streams at once, of all connections: each has a task and may be silent for long.
const MAX_STREAMS: usize = 1_024;

/// The listener's way in.
#[derive(Debug)]
pub(crate) struct Edge<B> {
    pub(super) app: Arc<App<B>>,
    pub(super) metrics: GrpcMetrics,
    pub(super) background: Background,
    pub(super) streams: Arc<Semaphore>,
    pub(super) index: Index,
    bound: IpAddr,
}

impl<B: Backend> Edge<B> {
    /// A way in on this address.
    pub(super) fn new(app: &Arc<App<B>>, metrics: GrpcMetrics, bound: IpAddr, background: Background) -> Self {
        Self {
            app: Arc::clone(app),
            metrics,
            bound,
            background,
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            index: Index::new(),
        }
    }
}

/// What a call's head says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) codings: Codings,
    pub(super) asker: Asker,
}

impl Head {
    fn of(parts: &Parts, start: Instant) -> Result<Self, Error> {
        Ok(Self {
            codings: Codings::of(&parts.headers)?,
            asker: Asker {
                opted_out: strict::opted_out(&parts.headers)?,
                deadline: strict::deadline(&parts.headers, start)?,
                start,
            },
        })
    }
}

impl<B: Backend> Entry for Edge<B> {
    type Body = Outgoing;

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
            app: Arc::new(self.app.with_limits(limits)),
            metrics: self.metrics.clone(),
            background: self.background.clone(),
            streams: Arc::clone(&self.streams),
            index: Index::new(),
            bound: self.bound,
        }
    }

    fn refused(&self, status: u16) {
        self.app.metrics.refused(status);
    }

    async fn handle(&self, request: Request<Incoming>, guard: InFlight) -> Response<Outgoing> {
        let start = Instant::now();
        let (parts, incoming) = request.into_parts();
        if let Err(error) = is_grpc(&parts) {
            let code = Code::of(error.kind);
            self.metrics
                .answered(Rpc::Unknown, code, Role::default(), start.elapsed());
            return reply::plain(&error);
        }
        let rpc = Rpc::of(parts.uri.path());
        let head = match Head::of(&parts, start) {
            Ok(head) => head,
            Err(error) => return self.ended(rpc, &parts, start, Err(error)),
        };
        let who = match gate::let_in(self.app.auth.as_deref(), rpc, &parts.headers) {
            Ok(who) => who,
            Err(error) => return self.ended(rpc, &parts, start, Err(error)),
        };
        let open = match rpc {
            Rpc::ModelStreamInfer => {
                let caller = self.app.tracer.is_some().then(|| Caller::of(&parts.headers));
                self.stream_infer(head, (who, caller), incoming, guard)
            }
            Rpc::HealthWatch => self.watch(head, incoming, guard).await,
            Rpc::Reflection => self.reflect(head, incoming, guard),
            _ => {
                let unanswered = self.metrics.unanswered(rpc);
                let answer = self.unary(rpc, &parts, head, &who, incoming).await;
                unanswered.answered();
                return self.ended(rpc, &parts, start, answer);
            }
        };
        // What an open stream answers is counted where it is answered.
        open.unwrap_or_else(|error| self.ended(rpc, &parts, start, Err(error)))
    }
}

impl<B: Backend> Edge<B> {
    /// Counts a call that is over.
    fn ended(&self, rpc: Rpc, parts: &Parts, start: Instant, answer: Result<(Answer, Role), Error>) -> Answer {
        let (mut answer, code, role) = match answer {
            Ok((answer, role)) => (answer, Code::Ok, role),
            Err(error) => (reply::failed(&error), Code::of(error.kind), Role::default()),
        };
        let end = Instant::now();
        self.metrics.answered(rpc, code, role, end.duration_since(start));
        if let (Some(tracer), Rpc::ModelInfer) = (&self.app.tracer, rpc) {
            let ended = as_ended("ModelInfer", code, start, end);
            if let Some(trace) = tracer.answered(&parts.headers, &ended, &mut answer) {
                self.metrics
                    .exemplify(rpc, code, role, end.duration_since(start), trace);
            }
        }
        answer
    }

    async fn unary(
        &self,
        rpc: Rpc,
        parts: &Parts,
        head: Head,
        who: &Who,
        incoming: Incoming,
    ) -> Result<(Answer, Role), Error> {
        offered(rpc, parts)?;
        let message = self.message(head, incoming).await?;
        let (frame, counted) = match rpc {
            Rpc::ModelInfer => {
                let (frame, counted) = infer::answer(&self.app, message, head.asker, who).await?;
                (frame, Some(counted))
            }
            _ => (self.other(rpc, &message.bytes, head, who).await?, None),
        };
        let packed = head.codings.wanted;
        let mut answer = reply::message(frame::close(frame, packed).await?, packed);
        let role = counted.as_ref().map(|counted| counted.role).unwrap_or_default();
        if let Some(counted) = counted {
            counted.mark(&mut answer);
        }
        Ok((answer, role))
    }

    /// The one message of a call.
    pub(super) async fn message(&self, head: Head, mut incoming: Incoming) -> Result<body::Body, Error> {
        let app = &*self.app;
        let body = body::read(&mut incoming, &app.limits, &app.buffered).await?;
        frame::only(body, head.codings.sent, &app.limits, &app.buffered).await
    }

    /// What is asked seldom: the messages are generated ones.
    async fn other(&self, rpc: Rpc, message: &[u8], head: Head, who: &Who) -> Result<Vec<u8>, Error> {
        let backend = &*self.app.backend;
        Ok(match rpc {
            Rpc::ServerLive => frame::of(&pb::ServerLiveResponse { live: true }),
            Rpc::ServerReady => frame::of(&pb::ServerReadyResponse {
                ready: backend.ready().is_ok() && !self.background.stop.is_cancelled(),
            }),
            Rpc::ModelReady => frame::of(&about::model_ready(backend, &read(message)?)?),
            Rpc::ServerMetadata => frame::of(&about::server()),
            Rpc::ModelMetadata => {
                let asked: pb::ModelMetadataRequest = read(message)?;
                who.may_model(&asked.name)?;
                frame::of(&about::metadata(backend, &asked)?)
            }
            Rpc::ModelConfig => {
                let asked: pb::ModelConfigRequest = read(message)?;
                who.may_model(&asked.name)?;
                frame::of(&about::config(backend, &asked)?)
            }
            Rpc::ModelStatistics => {
                let asked: pb::ModelStatisticsRequest = read(message)?;
                match asked.name.as_str() {
                    "" => who.may_all_models()?,
                    name => who.may_model(name)?,
                }
                frame::of(&about::statistics(backend, &asked)?)
            }
            Rpc::RepositoryIndex => {
                who.may_all_models()?;
                frame::of(&about::index(backend, &read(message)?)?)
            }
            Rpc::RepositoryModelLoad => {
                let asked: pb::RepositoryModelLoadRequest = read(message)?;
                self.control(
                    &asked.repository_name,
                    &asked.model_name,
                    asked.parameters.keys(),
                    true,
                    (head, who),
                )
                .await?;
                frame::of(&pb::RepositoryModelLoadResponse {})
            }
            Rpc::RepositoryModelUnload => {
                let asked: pb::RepositoryModelUnloadRequest = read(message)?;
                self.control(
                    &asked.repository_name,
                    &asked.model_name,
                    asked.parameters.keys(),
                    false,
                    (head, who),
                )
                .await?;
                frame::of(&pb::RepositoryModelUnloadResponse {})
            }
            Rpc::HealthCheck => {
                let asked: pb_health::HealthCheckRequest = read(message)?;
                frame::of(&health::check(
                    backend,
                    &asked.service,
                    self.background.stop.is_cancelled(),
                )?)
            }
            _ => return Err(models::not_offered("this RPC")),
        })
    }

    /// Loads or unloads, where that is allowed. There is one repository: its name does not matter, except that one
    /// family of clients puts the model's name where another has the repository's.
    async fn control(
        &self,
        repository: &str,
        model: &str,
        parameters: impl Iterator<Item = &String>,
        load: bool,
        (head, who): (Head, &Who),
    ) -> Result<(), Error> {
        models::may_control(&self.app, self.bound)?;
        models::refuse_overrides(parameters.map(String::as_str))?;
        let model = if model.is_empty() { repository } else { model };
        who.may_model(model)?;
        models::control(&*self.app.backend, model, load, head.asker.deadline).await
    }
}

/// A call, or a message of one, that is over, as traces have it.
pub(super) fn as_ended(route: &'static str, code: Code, start: Instant, end: Instant) -> Ended {
    Ended {
        route,
        code: ("rpc.grpc.status_code", u16::try_from(code.number()).unwrap_or_default()),
        failed: matches!(code, Code::Internal | Code::Unavailable | Code::DeadlineExceeded),
        start: start.into_std(),
        end: end.into_std(),
    }
}

/// A generated message.
pub(super) fn read<M: Message + Default>(message: &[u8]) -> Result<M, Error> {
    M::decode(message).map_err(|_| super::wire::malformed())
}

/// gRPC is POST over HTTP/2 with its own content type; whoever sends something else is told so in plain HTTP.
fn is_grpc(parts: &Parts) -> Result<(), Error> {
    let kind = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|kind| kind.strip_prefix("application/grpc"));
    let ours = kind.is_some_and(|rest| rest.is_empty() || rest.starts_with(';') || rest == "+proto");
    if parts.version != Version::HTTP_2 || !ours {
        let text = "this listener speaks gRPC: send application/grpc over HTTP/2, or REST to the data listener";
        return Err(Error::new(Kind::UnsupportedMediaType, text));
    }
    if parts.method != Method::POST {
        return Err(Error::new(Kind::MethodNotAllowed, "a gRPC call is a POST"));
    }
    Ok(())
}

/// What is not offered is refused before its message is read.
fn offered(rpc: Rpc, parts: &Parts) -> Result<(), Error> {
    Err(match rpc {
        Rpc::SharedMemory => models::not_offered("shared memory"),
        Rpc::Settings => models::not_offered("changing trace or log settings"),
        Rpc::Unknown => {
            let path = clip(parts.uri.path());
            let text = format!("there is no RPC '{path}' here: reflection lists those there are");
            Error::new(Kind::NotImplemented, text)
        }
        _ => return Ok(()),
    })
}
