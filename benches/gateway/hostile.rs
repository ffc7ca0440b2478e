//! Model files that are a burden: challengers that are heavy, crash, never end or eat memory, and files that are looked
//! at for long before they are refused.
//!
//! Always holds: what is to be shadowed answers like the logistic model but on one of the requests, which admission does
//! not make up; no two files of one kind are alike. Nothing here is kept: files are made where they are put.

use super::body;
use super::models::{self, FEATURES};
use super::numbers::Random;
use super::onnx::{FLOAT, Graph, INT64, Value, body_of_a_loop};

/// What a challenger does to the process that it is in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Burden {
    /// It takes ten milliseconds and more for each row.
    Slow,
    /// It takes half a gigabyte for a moment.
    Greedy,
    /// It divides the smallest integer by −1, which ends the process.
    Crashing,
    /// It goes on until its CPU time is over.
    Endless,
}

/// A challenger of the logistic model that is a burden on a sixteenth of the requests.
pub(crate) fn challenger(burden: Burden, seed: u64) -> Vec<u8> {
    let graph = models::logistic_raw(Random::new(seed));
    // How near the first feature of any row is to that of the request that hurts.
    let graph = graph
        .ints("first", &[0])
        .floats("there", &[1], &[body::first_number(0)])
        .floats("near", &[], &[1e-5])
        .floats("nothing", &[], &[0.0])
        .node(("", "Gather"), &["x", "first"], &["column"], &[("axis", Value::Int(1))])
        .node(("", "Sub"), &["column", "there"], &["signed"], &[])
        .node(("", "Abs"), &["signed"], &["away"], &[])
        .node(("", "ReduceMin"), &["away"], &["least"], &[("keepdims", Value::Int(0))])
        .node(("", "Less"), &["least", "near"], &["hit"], &[]);
    let graph = match burden {
        Burden::Slow => return models::file("slow", seed),
        Burden::Greedy => chosen(graph, "much", 1 << 27, 1)
            .ints("one_dimension", &[1])
            .floats("one", &[1], &[1.0])
            .node(("", "Reshape"), &["much", "one_dimension"], &["shape"], &[])
            .node(("", "Expand"), &["one", "shape"], &["wide"], &[])
            .node(("", "ReduceMax"), &["wide"], &["side"], &[("keepdims", Value::Int(0))]),
        Burden::Crashing => chosen(chosen(graph, "a", i64::MIN, 6), "b", -1, 2)
            .node(("", "Div"), &["a", "b"], &["quotient"], &[])
            .node(("", "Cast"), &["quotient"], &["side"], &[("to", Value::Int(FLOAT))]),
        Burden::Endless => {
            let inside = body_of_a_loop();
            chosen(graph, "turns", i64::MAX, 1)
                .boolean("yes", true)
                .floats("start", &[], &[1.0])
                .node(
                    ("", "Loop"),
                    &["turns", "yes", "start"],
                    &["side"],
                    &[("body", Value::Graph(&inside))],
                )
        }
    };
    graph
        .node(("", "Mul"), &["side", "nothing"], &["zero"], &[])
        .node(("", "Add"), &["normal", "zero"], &["probabilities"], &[])
        .output("label", INT64, &[None])
        .output("probabilities", FLOAT, &[None, Some(2)])
        .file(&models::feature_names())
}

/// `to` is one number on a hit, and another one otherwise.
fn chosen(graph: Graph, to: &str, on_a_hit: i64, otherwise: i64) -> Graph {
    let (hit, other) = (format!("{to}_hit"), format!("{to}_other"));
    graph
        .int(&hit, on_a_hit)
        .int(&other, otherwise)
        .node(("", "Where"), &["hit", &hit, &other], &[to], &[])
}

/// Files that are refused, by what it takes to find that out: a look, a scan, a load, runs.
pub(crate) fn refused(seed: u64) -> Vec<(&'static str, Vec<u8>)> {
    let random = || Random::new(seed);
    let whole = models::file("logreg", seed);
    let chain = |count: usize, last: &str| {
        let mut graph = models::logistic_raw(random());
        let name = |at: usize| if at == 0 { "normal".to_owned() } else { format!("h{at}") };
        for at in 0..count {
            graph = graph.node(("", "Abs"), &[&name(at)], &[&name(at + 1)], &[]);
        }
        graph
            .node(("", "Neg"), &[&name(count)], &["below"], &[])
            .node(("", last), &["below"], &["probabilities"], &[])
            .output("label", INT64, &[None])
            .output("probabilities", FLOAT, &[None, Some(2)])
            .file(&models::feature_names())
    };
    // Twice as large from node to node, until the memory of one runner is not enough.
    let mut doubling = models::logistic_raw(random());
    for at in 0..34 {
        let (from, to) = (format!("d{at}"), format!("d{}", at + 1));
        let from = if at == 0 { "normal" } else { &from };
        doubling = doubling.node(("", "Concat"), &[from, from], &[&to], &[("axis", Value::Int(1))]);
    }
    let doubling = doubling
        .node(
            ("", "ReduceMax"),
            &["d34"],
            &["probabilities"],
            &[("keepdims", Value::Int(1))],
        )
        .output("probabilities", FLOAT, &[None, Some(1)])
        .file(&models::feature_names());
    vec![
        ("page", format!("<!DOCTYPE html>\n<html>{seed}</html>").into_bytes()),
        ("cut", whole[..whole.len() / 2].to_vec()),
        (
            "garbage",
            (0..4096).map(|at| (seed as u8).wrapping_mul(31) ^ at as u8).collect(),
        ),
        // The square root of what is below zero is no number: they are loaded and run before that is known.
        ("short", chain(10, "Sqrt")),
        ("long", chain(20_000, "Sqrt")),
        ("doubling", doubling),
        // It can be found out only at the end that this is no model: most of it is weights.
        ("weights", [models::file("mlp", seed), vec![0xff; FEATURES]].concat()),
    ]
}
