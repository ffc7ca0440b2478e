//! Operators that make a tensor as large as one of their inputs says.
//!
//! Where that number comes from the request, a few bytes of it take all memory. Always holds: such an operator counts as
//! harmless only where its sizes stand in the file or are computed from shapes alone, which a request has to fill.

use super::{Node, Types};

/// Operators of the default domain, and which of their inputs are sizes.
const SIZED: [(&str, &[usize]); 18] = [
    ("AffineGrid", &[1]),
    ("BlackmanWindow", &[0]),
    ("CenterCropPad", &[1]),
    ("Col2Im", &[1]),
    ("ConstantOfShape", &[0]),
    ("DFT", &[1]),
    ("Expand", &[1]),
    ("HammingWindow", &[0]),
    ("HannWindow", &[0]),
    ("MaxUnpool", &[2]),
    ("MelWeightMatrix", &[0, 1]),
    ("OneHot", &[1]),
    ("Pad", &[1]),
    ("Range", &[0, 1, 2]),
    ("Resize", &[1, 2, 3]),
    ("STFT", &[1, 3]),
    ("Tile", &[1, 2]),
    ("Upsample", &[1]),
];

/// Whether the node makes as much as a number of the request says.
pub(super) fn asks(node: &Node<'_>, types: &Types<'_>) -> bool {
    if !node.domain.is_empty() {
        return false;
    }
    let inputs = SIZED.iter().find(|(op, _)| *op == node.op).map(|(_, inputs)| *inputs);
    let mut sizes = inputs.into_iter().flatten().filter_map(|&at| node.inputs.get(at));
    sizes.any(|name| !name.is_empty() && !types.settled.contains(name))
}

/// Whether all that the node gives follows from the file and from shapes.
pub(super) fn is_settled(node: &Node<'_>, types: &Types<'_>) -> bool {
    let is_shape = node.domain.is_empty() && matches!(node.op.as_str(), "Shape" | "Size");
    is_shape
        || node
            .inputs
            .iter()
            .all(|name| name.is_empty() || types.settled.contains(name))
}
