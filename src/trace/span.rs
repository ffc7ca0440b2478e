//! A request as spans: one for all of it, and one for each phase.

use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};

use super::context::Context;
use super::{Ended, Request};

/// When a prediction reached each point of its way.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the names of the phases")]
pub struct Moments {
    pub read: Instant,
    pub decoded: Instant,
    pub queue: Duration,
    pub compute: Duration,
    pub answered: Instant,
    pub encoded: Instant,
}

/// What was asked and who answered.
#[derive(Debug, Clone)]
pub struct Told {
    /// The model.
    pub model: String,
    /// The version that answered.
    pub version: String,
    /// The first row's id.
    pub id: String,
    /// `champion`, `previous`, `pinned`.
    pub role: &'static str,
    /// Rows.
    pub rows: usize,
    /// When.
    pub moments: Moments,
}

/// All spans of a request, itself first.
pub(super) fn of(own: &Context, parent: Option<&Context>, request: &Request<'_>) -> Vec<Span> {
    let Ended {
        route,
        code,
        failed,
        start,
        end,
    } = request.ended;
    let mut attributes = vec![
        pair("dethrone.route", text(route)),
        pair(code.0, number(i64::from(code.1))),
    ];
    if let Some(told) = request.told {
        attributes.extend([
            pair("dethrone.model", text(&told.model)),
            pair("dethrone.version", text(&told.version)),
            pair("dethrone.role", text(told.role)),
            pair("dethrone.prediction_id", text(&told.id)),
            pair("dethrone.rows", number(i64::try_from(told.rows).unwrap_or(i64::MAX))),
        ]);
    }
    let mut spans = vec![Span {
        name: route.to_owned(),
        kind: SpanKind::Server.into(),
        trace_state: own.state.clone(),
        parent_span_id: parent.map(|parent| parent.span.to_vec()).unwrap_or_default(),
        attributes,
        status: failed.then(|| Status {
            code: StatusCode::Error.into(),
            ..Status::default()
        }),
        ..between(own, start, end)
    }];
    if let Some(told) = request.told {
        let Moments {
            read,
            decoded,
            queue,
            compute,
            answered,
            encoded,
        } = told.moments;
        // A run begins when the waiting ends; how long both took is known, and when the answer was there.
        let begun = answered.checked_sub(compute).unwrap_or(decoded).max(decoded);
        let phases = [
            ("read", start, read),
            ("decode", read, decoded),
            ("queue", begun.checked_sub(queue).unwrap_or(decoded).max(decoded), begun),
            ("compute", begun, answered),
            ("encode", answered, encoded),
        ];
        for (name, start, end) in phases {
            let inner = Context::new(Some(own));
            spans.push(Span {
                name: name.to_owned(),
                kind: SpanKind::Internal.into(),
                parent_span_id: own.span.to_vec(),
                ..between(&inner, start, end)
            });
        }
    }
    spans
}

fn between(context: &Context, start: Instant, end: Instant) -> Span {
    Span {
        trace_id: context.trace.to_vec(),
        span_id: context.span.to_vec(),
        start_time_unix_nano: crate::time::ns_at(start),
        end_time_unix_nano: crate::time::ns_at(end.max(start)),
        ..Span::default()
    }
}

pub(super) fn pair(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

pub(super) fn text(value: &str) -> any_value::Value {
    any_value::Value::StringValue(value.to_owned())
}

fn number(value: i64) -> any_value::Value {
    any_value::Value::IntValue(value)
}
