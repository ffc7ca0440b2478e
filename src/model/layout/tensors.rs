//! The `tensors` interface: the first champion's inputs and outputs, matched by name.

use std::ops::Range;

use crate::batch::Batch;
use crate::model::signature::{Signature, TensorSpec};
use crate::model::tensor::Tensor;

/// For each of the version's inputs its number in the interface.
pub(super) fn bind(signature: &Signature, interface: &Signature) -> Result<Vec<usize>, String> {
    for known in &interface.inputs {
        if !signature.inputs.iter().any(|own| own.name == known.name) {
            return Err(format!("the version has no input {}, and the model has", known.name));
        }
    }
    for known in &interface.outputs {
        let Some(own) = signature.outputs.iter().find(|own| own.name == known.name) else {
            return Err(format!("the version has no output {}, and the model has", known.name));
        };
        // Exporters declare an output's rows as they like; what is returned is probed.
        differs("output", own, known, 1)?;
    }
    if signature.crossed != interface.crossed {
        let (own, known) = if signature.crossed { ("no ", "") } else { ("", "no ") };
        return Err(format!("the first axis is {own}rows here and {known}rows in the model"));
    }
    let number = |own: &TensorSpec| {
        let at = interface.inputs.iter().position(|known| known.name == own.name);
        let known = at.and_then(|at| Some((at, interface.inputs.get(at)?)));
        let (at, known) =
            known.ok_or_else(|| format!("the model has no input {}, and the version needs it", own.name))?;
        differs("input", own, known, 0).map(|()| at)
    };
    signature.inputs.iter().map(number).collect()
}

fn differs(what: &str, own: &TensorSpec, known: &TensorSpec, from_axis: usize) -> Result<(), String> {
    let name = &own.name;
    if own.datatype != known.datatype {
        return Err(format!(
            "{what} {name} is {} here and {} in the model",
            own.datatype, known.datatype
        ));
    }
    let axes = own.shape.iter().zip(&known.shape).skip(from_axis);
    let fits = own.shape.len() == known.shape.len() && axes.into_iter().all(|(&a, &b)| a == b || a == -1 || b == -1);
    if fits {
        return Ok(());
    }
    Err(format!(
        "{what} {name} has the shape {:?} here and {:?} in the model",
        own.shape, known.shape
    ))
}

/// The interface's tensors in the version's order, the parts joined along the first axis.
pub(super) fn feeds(order: &[usize], batched: bool, parts: &[(&Batch, Range<usize>)]) -> Result<Vec<Tensor>, String> {
    if !batched && parts.len() != 1 {
        return Err(format!("the version takes one request at a time, got {}", parts.len()));
    }
    order.iter().map(|&number| joined(number, parts)).collect()
}

fn joined(number: usize, parts: &[(&Batch, Range<usize>)]) -> Result<Tensor, String> {
    let mut pieces = Vec::with_capacity(parts.len());
    for (batch, range) in parts {
        let Batch::Tensors { inputs, rows } = batch else {
            return Err("the request holds named features, and the model takes tensors".into());
        };
        let tensor = inputs
            .get(number)
            .ok_or_else(|| format!("the request has no input {number}"))?;
        let piece = if *range == (0..*rows) {
            tensor.clone()
        } else {
            let slice = tensor.slice_rows(range.start, range.end);
            slice.ok_or_else(|| format!("rows {range:?} of {rows} were asked for"))?
        };
        pieces.push(piece);
    }
    match <[Tensor; 1]>::try_from(pieces) {
        Ok([only]) => Ok(only),
        Err(pieces) => {
            let pieces: Vec<&Tensor> = pieces.iter().collect();
            Tensor::concat(&pieces).ok_or_else(|| "the requests' tensors differ in shape and cannot be joined".into())
        }
    }
}
