//! `grpc.health.v1.Health`: the same readiness that `/v2/health/ready` tells.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;

use super::edge::{Edge, Head, read};
use super::frame;
use super::pb::health::health_check_response::ServingStatus;
use super::pb::health::{HealthCheckRequest, HealthCheckResponse};
use super::reply::Answer;
use super::stream::{Answers, until_ended};
use super::{Code, Rpc};
use crate::decode::clip;
use crate::error::{Error, Kind};
use crate::http::connection::InFlight;
use crate::http::{Backend, stack};
use crate::metrics::Role;

/// How often a watch looks: readiness changes a few times in a process's life.
const LOOK: Duration = Duration::from_millis(250);
/// What can be asked for beside the server as a whole.
const SERVICE: &str = "inference.GRPCInferenceService";

fn status<B: Backend>(backend: &B, service: &str, stopping: bool) -> ServingStatus {
    match (service, backend.ready()) {
        ("" | SERVICE, Ok(())) if !stopping => ServingStatus::Serving,
        ("" | SERVICE, _) => ServingStatus::NotServing,
        _ => ServingStatus::ServiceUnknown,
    }
}

/// `Check`.
pub(super) fn check<B: Backend>(backend: &B, service: &str, stopping: bool) -> Result<HealthCheckResponse, Error> {
    match status(backend, service, stopping) {
        ServingStatus::ServiceUnknown => {
            let text = format!("no service '{}': ask for '' or '{SERVICE}'", clip(service));
            Err(Error::new(Kind::NotFound, text))
        }
        status => Ok(HealthCheckResponse { status: status.into() }),
    }
}

impl<B: Backend> Edge<B> {
    /// `Watch`: the status now, then each change.
    pub(super) async fn watch(&self, head: Head, incoming: Incoming, guard: InFlight) -> Result<Answer, Error> {
        let place = Arc::clone(&self.streams)
            .try_acquire_owned()
            .map_err(|_| stack::no_place())?;
        let asked: HealthCheckRequest = read(&self.message(head, incoming).await?.bytes)?;
        self.metrics
            .answered(Rpc::HealthWatch, Code::Ok, Role::default(), head.asker.start.elapsed());
        let (answers, answer) = Answers::new(head, self.app.limits.idle_timeout, guard);
        let (app, stop) = (Arc::clone(&self.app), self.background.stop.clone());
        self.background.tracker.spawn(async move {
            let work = async {
                let mut told = None;
                loop {
                    let now = status(&*app.backend, &asked.service, stop.is_cancelled());
                    if told != Some(now) {
                        told = Some(now);
                        let frame = frame::of(&HealthCheckResponse { status: now.into() });
                        if !answers.give(frame::close(frame, head.codings.wanted).await?).await {
                            return Ok(());
                        }
                    }
                    tokio::time::sleep(LOOK).await;
                }
            };
            let ended = until_ended(work, &answers, head, &stop).await;
            answers.end(&ended).await;
            drop(place);
        });
        Ok(answer)
    }
}
