//! Signs by which outputs are told apart.

use super::Output;
use crate::model::onnx::{Classes, Scan};
use crate::model::tensor::{Data, Tensor};

/// The output with the predicted class: by its name, or as the only whole number per row of what is a classifier
/// (detectors count their boxes in one).
pub(super) fn predicted<'a>(whole: &[Output<'a>], classifier: bool) -> Option<Output<'a>> {
    let speaks = |output: &&Output<'_>| {
        let name = output.name.to_ascii_lowercase();
        name.contains("label") || name.contains("class")
    };
    let only = if classifier && whole.len() == 1 {
        whole.first()
    } else {
        None
    };
    whole.iter().find(speaks).or(only).copied()
}

/// A classifier of `ai.onnx.ml` is in the graph.
pub(super) fn has_classifier(scan: &Scan) -> bool {
    let mut operators = scan.operators.keys();
    operators.any(|op| op.starts_with("ai.onnx.ml:") && op.ends_with("Classifier"))
}

/// Values per row, where the tensor has rows.
pub(super) fn width(tensor: &Tensor, rows: usize) -> Option<usize> {
    match tensor.shape() {
        [first] if *first == rows => Some(1),
        [first, width] if *first == rows && *width > 0 => Some(*width),
        _ => None,
    }
}

/// ±1 without class names, and a score that says so or an outlier among the rows: scikit-learn's anomaly detectors,
/// whose score is a value.
pub(super) fn is_anomaly(label: &Output<'_>, scores: &[Output<'_>], rows: usize) -> bool {
    let mut labels = (0..rows).filter_map(|row| label.data.number(row));
    let unit = labels.clone().count() == rows && labels.clone().all(|x| (x.abs() - 1.0).abs() < f64::EPSILON);
    unit && (labels.any(|x| x < 0.0) || scores.iter().any(|output| output.name == "scores"))
}

pub(super) fn class_list(data: &Data) -> Option<Classes> {
    if let Data::Bytes(text) = data {
        return Some(Classes::Names(
            text.iter()
                .map(|name| String::from_utf8_lossy(name).into_owned())
                .collect(),
        ));
    }
    #[expect(clippy::cast_possible_truncation, reason = "class numbers are small and whole")]
    let ints: Option<Vec<i64>> = (0..data.len()).map(|i| data.number(i).map(|x| x as i64)).collect();
    ints.map(Classes::Ints)
}
