//! Handles of the listeners: answers by route and code, durations by outcome, phases of a prediction.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::Counter;

use super::page::{Page, number};
use super::{InFlight, Metrics, Seconds, Unanswered, families};
use crate::auth::Asked;
use crate::error::Kind;
use crate::interference::Tail;

/// Routes as metrics name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the labels")]
pub enum RouteName {
    Predict,
    Infer,
    Feedback,
    Models,
    Health,
    Metrics,
    Admin,
    None,
}

impl RouteName {
    /// As metrics and traces name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        let known = Self::ALL.iter().find(|(route, _)| *route == self);
        known.map_or("none", |(_, name)| name)
    }

    const ALL: [(Self, &'static str); 8] = [
        (Self::Predict, "predict"),
        (Self::Infer, "infer"),
        (Self::Feedback, "feedback"),
        (Self::Models, "models"),
        (Self::Health, "health"),
        (Self::Metrics, "metrics"),
        (Self::Admin, "admin"),
        (Self::None, "none"),
    ];
}

/// Who answered a prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// The champion, all rows.
    #[default]
    Champion,
    /// The previous champion, at least one row.
    Previous,
    /// The version that the client named.
    Pinned,
}

impl Role {
    /// As metrics and traces name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        ROLES.get(self as usize).copied().unwrap_or_default()
    }
}

/// Roles as metrics name them, in their order.
pub(super) const ROLES: [&str; 3] = ["champion", "previous", "pinned"];

/// How a request ended, coarsely enough for a histogram.
const OUTCOMES: [&str; 4] = ["ok", "refused", "shed", "failed"];

fn outcome(code: u16) -> usize {
    match code {
        0..400 => 0,
        429 => 2,
        400..500 => 1,
        _ => 3,
    }
}

/// Handles of the listeners.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    routes: Vec<RouteHandles>,
    /// Time of each phase of a prediction.
    pub phases: Phases,
    /// What the gateway adds to the model's own time.
    pub overhead: Seconds,
    /// The champion's latencies, of which the tail is watched.
    pub tail: Arc<Tail>,
    /// Who is connected.
    pub connections: Arc<Connections>,
    /// Who is asked how many predictions are being answered.
    pub(crate) in_flight: Arc<InFlight>,
    /// Of requests that were mirrored, and of those that chance has held out.
    mirrored: [Seconds; 2],
}

/// Handles of one route.
#[derive(Clone, Debug)]
struct RouteHandles {
    codes: Vec<(u16, Counter)>,
    abandoned: Counter,
    /// By role, then by outcome; other routes than those of predictions have one role.
    durations: Vec<Vec<Seconds>>,
}

/// The phases that a listener sees.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names are the labels")]
pub struct Phases {
    pub read: Seconds,
    pub decode: Seconds,
    pub queue: Seconds,
    pub compute: Seconds,
    pub encode: Seconds,
    /// From the answer to its last byte in the socket's buffer; HTTP/1 only.
    pub write: Seconds,
}

impl HttpMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let phase = |name: &'static str| metrics.seconds(families::PHASE, vec![("phase", name.into())]);
        Self {
            routes: RouteName::ALL
                .iter()
                .map(|(_, name)| RouteHandles::new(metrics, name))
                .collect(),
            phases: Phases {
                read: phase("read"),
                decode: phase("decode"),
                queue: phase("queue"),
                compute: phase("compute"),
                encode: phase("encode"),
                write: phase("write"),
            },
            overhead: metrics.seconds(families::OVERHEAD, Vec::new()),
            tail: metrics.tail(),
            connections: Arc::default(),
            in_flight: Arc::clone(&metrics.in_flight),
            mirrored: ["yes", "no"].map(|is| metrics.seconds(families::MIRRORED, vec![("mirrored", is.into())])),
        }
    }

    /// The latencies of the champion's answers that were mirrored, or held out.
    #[must_use]
    pub fn mirrored(&self, is_mirrored: bool) -> &Seconds {
        let [yes, no] = &self.mirrored;
        if is_mirrored { yes } else { no }
    }

    /// Counts a request that was refused before it had a route; it took no time.
    pub fn refused(&self, code: u16) {
        let handles = self.routes.get(RouteName::None as usize);
        if let Some((_, counter)) = handles.and_then(|route| route.codes.iter().find(|(c, _)| *c == code)) {
            counter.increment(1);
        }
    }

    /// A request of this trace took so long: an example of what is counted.
    pub(crate) fn exemplify(&self, route: RouteName, code: u16, role: Role, took: Duration, trace: [u8; 16]) {
        let durations = self
            .routes
            .get(route as usize)
            .and_then(|all| all.durations.get(role as usize));
        if let Some(histogram) = durations.and_then(|by_outcome| by_outcome.get(outcome(code))) {
            histogram.exemplify(took, trace);
        }
    }

    /// A request that has begun; it is abandoned where this goes before its answer.
    pub(crate) fn unanswered(&self, route: RouteName) -> Unanswered<'_> {
        Unanswered::new(self.routes.get(route as usize).map(|handles| &handles.abandoned))
    }

    /// Counts an answer.
    pub fn answered(&self, route: RouteName, code: u16, role: Role, took: Duration) {
        let Some(handles) = self.routes.get(route as usize) else {
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

impl RouteHandles {
    fn new(metrics: &Metrics, route: &'static str) -> Self {
        let mut codes: Vec<u16> = Kind::ALL.iter().map(|kind| kind.status()).collect();
        codes.push(200);
        codes.sort_unstable();
        codes.dedup();
        let count = |code: u16| {
            let labels = vec![("route", route.into()), ("code", code.to_string().into())];
            (code, metrics.count(families::REQUESTS, labels))
        };
        let durations = |role: &'static str| -> Vec<Seconds> {
            let one = |outcome: &'static str| {
                let labels = vec![
                    ("route", route.into()),
                    ("role", role.into()),
                    ("outcome", outcome.into()),
                ];
                metrics.seconds(families::DURATION, labels)
            };
            OUTCOMES.into_iter().map(one).collect()
        };
        let roles: &[&'static str] = if matches!(route, "predict" | "infer") {
            &ROLES
        } else {
            &["none"]
        };
        Self {
            codes: codes.into_iter().map(count).collect(),
            abandoned: metrics.count(families::ABANDONED, vec![("route", route.into())]),
            durations: roles.iter().map(|role| durations(role)).collect(),
        }
    }
}

/// Connections that are open, by listener.
#[derive(Debug, Default)]
pub struct Connections(Mutex<BTreeMap<&'static str, Arc<AtomicU64>>>);

impl Connections {
    /// The count of a listener.
    #[must_use]
    pub fn of(&self, listener: &'static str) -> Arc<AtomicU64> {
        Arc::clone(self.lock().entry(listener).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Arc<AtomicU64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keys that have series; of a file with more the first by name.
const MOST_KEYS: usize = 1_000;

/// How many are being answered, and how long others wait.
#[derive(Debug, Clone, Copy)]
pub struct Crowd {
    /// Predictions that are being answered.
    pub in_flight: usize,
    /// For a thread that serves requests.
    pub wait: Duration,
    /// Share of the predictions that are let in.
    pub admitted: f64,
}

/// Appends what the listeners are doing now, and what was asked with each key.
pub fn write_listeners(page: &mut Page, crowd: Crowd, connections: &Connections, asked: &[Asked]) {
    page.gauge(families::IN_FLIGHT, number(crowd.in_flight as u64));
    page.gauge(families::LAG, crowd.wait.as_secs_f64());
    page.gauge(families::ADMITTED, crowd.admitted);
    let open: Vec<(&'static str, u64)> = connections
        .lock()
        .iter()
        .map(|(listener, open)| (*listener, open.load(Ordering::Relaxed)))
        .collect();
    let open = open.iter();
    page.gauges(
        families::CONNECTIONS,
        open.map(|(listener, open)| ([("listener", (*listener).to_owned())], number(*open))),
    );
    let asked = asked.get(..MOST_KEYS).unwrap_or(asked);
    let requests = asked.iter().flat_map(|one| {
        let all = [
            ("allowed", one.allowed),
            ("forbidden", one.forbidden),
            ("limited", one.limited),
        ];
        all.map(|(what, count)| ([("key", one.key.clone()), ("what", what.to_owned())], number(count)))
    });
    page.counters(families::KEY_REQUESTS, requests);
    let rows = asked.iter().map(|one| ([("key", one.key.clone())], number(one.rows)));
    page.counters(families::KEY_ROWS, rows);
}
