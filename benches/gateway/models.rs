//! The measured models, made here from a seed: nothing is downloaded, and every run measures the same files.
//!
//! All take [`FEATURES`] numbers per row and give `probabilities`, `[rows, 2]`. The weights are random: what a model
//! says means nothing, what it costs is what such a model costs.

use std::fs;
use std::io;
use std::path::Path;

use super::numbers::Random;
use super::onnx::{FLOAT, Graph, INT64, Value};

/// Numbers per row.
pub(crate) const FEATURES: usize = 30;
/// Models by name.
pub(crate) const ALL: [&str; 4] = ["logreg", "trees", "mlp", "slow"];

const ML: &str = "ai.onnx.ml";
/// Width of the middle layers of the perceptron: 30 × 1000 + 1000 × 1000 + 1000 × 2 weights.
const WIDTH: usize = 1_000;
/// The slow one: so many positions of this width, and so many layers over them.
const POSITIONS: usize = 64;
const CHANNELS: usize = 256;
const LAYERS: usize = 72;

/// What clients call the features.
pub(crate) fn feature_names() -> Vec<String> {
    (0..FEATURES).map(|k| format!("feature_{k:02}")).collect()
}

/// Bytes of a model; other seeds give other weights in the same form.
pub(crate) fn file(model: &str, seed: u64) -> Vec<u8> {
    let random = Random::new(seed);
    let graph = match model {
        "trees" => trees(random),
        "mlp" => perceptron(random),
        "slow" => slow(random),
        _ => logistic(random),
    };
    graph.file(&feature_names())
}

/// Lays down a models directory: of each model the versions `v1`, `v2`, …, the first of which is the champion.
/// `settings` are more lines of `model.toml`.
pub(crate) fn lay_down(dir: &Path, models: &[&str], versions: u64, settings: &str) -> io::Result<()> {
    for model in models {
        let dir = dir.join(model);
        fs::create_dir_all(&dir)?;
        // Labels never come: evidence is not what is measured.
        fs::write(
            dir.join("model.toml"),
            format!("champion = \"v1\"\n{settings}\n[policy]\nmode = \"off\"\n"),
        )?;
        for version in 1..=versions {
            fs::write(dir.join(format!("v{version}.onnx")), file(model, version))?;
        }
    }
    Ok(())
}

fn weights(random: &mut Random, inputs: usize, outputs: usize) -> Vec<f32> {
    // Keeps the variance from layer to layer (He, 2015), so that nothing overflows or dies.
    let most = (6.0 / inputs as f32).sqrt();
    (0..inputs * outputs)
        .map(|_| most * (2.0 * random.unit() - 1.0))
        .collect()
}

/// As scikit-learn's exporter writes it.
fn logistic(random: Random) -> Graph {
    logistic_to(random, "probabilities")
        .output("label", INT64, &[None])
        .output("probabilities", FLOAT, &[None, Some(2)])
}

/// The same without its outputs, to be made something else of: `label` and `normal`.
pub(crate) fn logistic_raw(random: Random) -> Graph {
    logistic_to(random, "normal")
}

fn logistic_to(mut random: Random, probabilities: &str) -> Graph {
    let w = weights(&mut random, FEATURES, 1);
    let both: Vec<f32> = w.iter().map(|x| -x).chain(w.iter().copied()).collect();
    Graph::new(FEATURES)
        .node(
            (ML, "LinearClassifier"),
            &["x"],
            &["label", "raw"],
            &[
                ("classlabels_ints", Value::Ints(&[0, 1])),
                ("coefficients", Value::Floats(&both)),
                ("intercepts", Value::Floats(&[-0.1, 0.1])),
                ("multi_class", Value::Int(1)),
                ("post_transform", Value::Text("LOGISTIC")),
            ],
        )
        .node(
            (ML, "Normalizer"),
            &["raw"],
            &[probabilities],
            &[("norm", Value::Text("L1"))],
        )
}

/// 100 boosted trees of depth 3.
fn trees(mut random: Random) -> Graph {
    const TREES: u64 = 100;
    const INNER: u64 = 7;
    const NODES: u64 = 15;
    let mut nodes: [Vec<u64>; 5] = Default::default();
    let (mut values, mut modes) = (Vec::new(), Vec::new());
    let mut leaves: [Vec<u64>; 3] = Default::default();
    let mut leaf_weights = Vec::new();
    for tree in 0..TREES {
        for node in 0..NODES {
            let is_inner = node < INNER;
            let feature = if is_inner { random.below(FEATURES as u64) } else { 0 };
            let (yes, no) = if is_inner { (2 * node + 1, 2 * node + 2) } else { (0, 0) };
            for (list, value) in nodes.iter_mut().zip([tree, node, feature, yes, no]) {
                list.push(value);
            }
            values.push(if is_inner { random.unit() } else { 0.0 });
            modes.push(if is_inner { "BRANCH_LEQ" } else { "LEAF" });
            if !is_inner {
                for (list, value) in leaves.iter_mut().zip([tree, node, 0]) {
                    list.push(value);
                }
                leaf_weights.push(0.2 * (random.unit() - 0.5));
            }
        }
    }
    let [tree_ids, node_ids, feature_ids, yes, no] = &nodes;
    let [leaf_trees, leaf_nodes, leaf_classes] = &leaves;
    Graph::new(FEATURES)
        .node(
            (ML, "TreeEnsembleClassifier"),
            &["x"],
            &["label", "probabilities"],
            &[
                ("nodes_treeids", Value::Ints(tree_ids)),
                ("nodes_nodeids", Value::Ints(node_ids)),
                ("nodes_featureids", Value::Ints(feature_ids)),
                ("nodes_values", Value::Floats(&values)),
                ("nodes_modes", Value::Texts(&modes)),
                ("nodes_truenodeids", Value::Ints(yes)),
                ("nodes_falsenodeids", Value::Ints(no)),
                ("class_treeids", Value::Ints(leaf_trees)),
                ("class_nodeids", Value::Ints(leaf_nodes)),
                ("class_ids", Value::Ints(leaf_classes)),
                ("class_weights", Value::Floats(&leaf_weights)),
                ("classlabels_int64s", Value::Ints(&[0, 1])),
                ("base_values", Value::Floats(&[0.05])),
                ("post_transform", Value::Text("LOGISTIC")),
            ],
        )
        .output("label", INT64, &[None])
        .output("probabilities", FLOAT, &[None, Some(2)])
}

fn layer(graph: Graph, random: &mut Random, from: &str, to: &str, (inputs, outputs): (usize, usize)) -> Graph {
    let (w, b) = (format!("{to}_w"), format!("{to}_b"));
    graph
        .floats(&w, &[inputs, outputs], &weights(random, inputs, outputs))
        .floats(&b, &[outputs], &vec![0.01; outputs])
        .node(("", "Gemm"), &[from, &w, &b], &[to], &[])
}

fn classes(graph: Graph, from: &str) -> Graph {
    graph
        .node(("", "Softmax"), &[from], &["probabilities"], &[])
        .output("probabilities", FLOAT, &[None, Some(2)])
}

/// One million weights in three layers.
fn perceptron(mut random: Random) -> Graph {
    let graph =
        layer(Graph::new(FEATURES), &mut random, "x", "a", (FEATURES, WIDTH)).node(("", "Relu"), &["a"], &["b"], &[]);
    let graph = layer(graph, &mut random, "b", "c", (WIDTH, WIDTH)).node(("", "Relu"), &["c"], &["d"], &[]);
    classes(layer(graph, &mut random, "d", "e", (WIDTH, 2)), "e")
}

/// Ten milliseconds and more on one core in few bytes: a row becomes 64 positions, and 72 layers go over each.
fn slow(mut random: Random) -> Graph {
    let wide = POSITIONS * CHANNELS;
    let mut graph = layer(Graph::new(FEATURES), &mut random, "x", "wide", (FEATURES, wide))
        .ints("positions", &[-1, POSITIONS as i64, CHANNELS as i64])
        .ints("flat", &[-1, wide as i64])
        .node(("", "Reshape"), &["wide", "positions"], &["h0"], &[]);
    for k in 0..LAYERS {
        let (from, w, product, to) = (format!("h{k}"), format!("w{k}"), format!("m{k}"), format!("h{}", k + 1));
        graph = graph
            .floats(&w, &[CHANNELS, CHANNELS], &weights(&mut random, CHANNELS, CHANNELS))
            .node(("", "MatMul"), &[&from, &w], &[&product], &[])
            .node(("", "Relu"), &[&product], &[&to], &[]);
    }
    let graph = graph.node(("", "Reshape"), &[&format!("h{LAYERS}"), "flat"], &["back"], &[]);
    classes(layer(graph, &mut random, "back", "e", (wide, 2)), "e")
}
