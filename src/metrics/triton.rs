//! The names that boards and scalers made for NVIDIA Triton know, on request: `nv_inference_…` per version, cumulative
//! microseconds and all.

use super::page::{Page, number};
use crate::oip::Statistics;

/// What a series says of a version.
type Figure = fn(&Statistics) -> f64;

/// Appends the aliases. `versions` has the model's name, the version's, and what was counted; a model whose requests wait
/// for nobody has none pending.
pub fn write_triton(page: &mut Page, versions: &[Statistics], pending: &[(String, String, u64)]) {
    let labels = |s: &Statistics| [("model", s.name.clone()), ("version", s.version.clone())];
    let each: [(&str, &str, Figure); 8] = [
        ("nv_inference_request_success", "Requests answered.", |s| {
            number(s.inference_stats.success.count)
        }),
        ("nv_inference_count", "Rows answered.", |s| number(s.inference_count)),
        ("nv_inference_exec_count", "Runs of the model.", |s| {
            number(s.execution_count)
        }),
        (
            "nv_inference_request_duration_us",
            "Time of requests, from head to answer, in microseconds.",
            |s| us(s.inference_stats.success.ns),
        ),
        (
            "nv_inference_queue_duration_us",
            "Time that requests waited for a session, in microseconds.",
            |s| us(s.inference_stats.queue.ns),
        ),
        (
            "nv_inference_compute_input_duration_us",
            "Time of reading inputs, in microseconds.",
            |s| us(s.inference_stats.compute_input.ns),
        ),
        (
            "nv_inference_compute_infer_duration_us",
            "Time of running the model, in microseconds.",
            |s| us(s.inference_stats.compute_infer.ns),
        ),
        (
            "nv_inference_compute_output_duration_us",
            "Time of writing outputs, in microseconds.",
            |s| us(s.inference_stats.compute_output.ns),
        ),
    ];
    for (name, help, of) in each {
        page.counters((name, help), versions.iter().map(|s| (labels(s), of(s))));
    }
    let failed = versions.iter().map(|s| {
        let [model, version] = labels(s);
        let failed = number(s.inference_stats.fail.count);
        ([model, version, ("reason", "OTHER".to_owned())], failed)
    });
    page.counters(
        ("nv_inference_request_failure", "Requests that could not be answered."),
        failed,
    );
    let pending = pending.iter().map(|(model, version, waiting)| {
        let labels = [("model", model.clone()), ("version", version.clone())];
        (labels, number(*waiting))
    });
    page.gauges(
        (
            "nv_inference_pending_request_count",
            "Requests that wait for a session.",
        ),
        pending,
    );
}

fn us(ns: u64) -> f64 {
    number(ns / 1_000)
}
