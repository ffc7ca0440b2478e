//! Handles of the gRPC listener: answers by RPC and code, durations by outcome. In a stream each message counts.

use std::time::Duration;

use metrics::Counter;

use super::{Metrics, ROLES, Role, Seconds, Unanswered, families};
use crate::grpc::{Code, Rpc};

/// How an RPC ended, coarsely enough for a histogram; the words are those of the HTTP listeners.
const OUTCOMES: [&str; 4] = ["ok", "refused", "shed", "failed"];

fn outcome(code: Code) -> usize {
    match code {
        Code::Ok => 0,
        Code::ResourceExhausted => 2,
        Code::Internal | Code::Unavailable | Code::DeadlineExceeded => 3,
        _ => 1,
    }
}

/// Handles of the listener.
#[derive(Clone, Debug)]
pub struct GrpcMetrics {
    rpcs: Vec<RpcHandles>,
}

/// Handles of one RPC.
#[derive(Clone, Debug)]
struct RpcHandles {
    /// In the order of [`Code::ALL`].
    codes: Vec<(Code, Counter)>,
    abandoned: Counter,
    /// By role, then by outcome; RPCs other than inference have one role.
    durations: Vec<Vec<Seconds>>,
}

impl GrpcMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let rpcs = Rpc::ALL.iter().map(|(rpc, name)| RpcHandles::new(metrics, *rpc, name));
        Self { rpcs: rpcs.collect() }
    }

    /// A call of this trace took so long: an example of what is counted.
    pub(crate) fn exemplify(&self, rpc: Rpc, code: Code, role: Role, took: Duration, trace: [u8; 16]) {
        let durations = self
            .rpcs
            .get(rpc as usize)
            .and_then(|all| all.durations.get(role as usize));
        if let Some(histogram) = durations.and_then(|by_outcome| by_outcome.get(outcome(code))) {
            histogram.exemplify(took, trace);
        }
    }

    /// A call of one message that has begun; it is abandoned where this goes before its answer.
    pub(crate) fn unanswered(&self, rpc: Rpc) -> Unanswered<'_> {
        Unanswered::new(self.rpcs.get(rpc as usize).map(|handles| &handles.abandoned))
    }

    /// Counts an answer.
    pub fn answered(&self, rpc: Rpc, code: Code, role: Role, took: Duration) {
        let Some(handles) = self.rpcs.get(rpc as usize) else {
            return;
        };
        if let Some((_, counter)) = handles.codes.iter().find(|(c, _)| *c == code) {
            counter.increment(1);
        }
        let durations = handles.durations.get(role as usize);
        if let Some(histogram) = durations.and_then(|by_outcome| by_outcome.get(outcome(code))) {
            histogram.record(took);
        }
    }
}

impl RpcHandles {
    fn new(metrics: &Metrics, rpc: Rpc, name: &'static str) -> Self {
        let count = |&(code, word, _): &(Code, &'static str, i32)| {
            let labels = vec![("rpc", name.into()), ("code", word.into())];
            (code, metrics.count(families::GRPC_REQUESTS, labels))
        };
        let durations = |role: &'static str| -> Vec<Seconds> {
            let one = |outcome: &'static str| {
                let labels = vec![("rpc", name.into()), ("role", role.into()), ("outcome", outcome.into())];
                metrics.seconds(families::GRPC_DURATION, labels)
            };
            OUTCOMES.into_iter().map(one).collect()
        };
        let infers = matches!(rpc, Rpc::ModelInfer | Rpc::ModelStreamInfer);
        let roles: &[&'static str] = if infers { &ROLES } else { &["none"] };
        Self {
            codes: Code::ALL.iter().map(count).collect(),
            abandoned: metrics.count(families::GRPC_ABANDONED, vec![("rpc", name.into())]),
            durations: roles.iter().map(|role| durations(role)).collect(),
        }
    }
}
