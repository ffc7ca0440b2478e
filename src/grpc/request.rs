//! `ModelInferRequest`, from its bytes into typed tensors.
//!
//! Always holds: a tensor is allocated once, for elements that the message really holds; tensors come either all as
//! `raw_input_contents` or all as typed `contents`, as the protocol wants it; parameters are skipped where they stand,
//! but for one that would change the meaning. Leaves to others: whether the model wants these tensors (`oip`).

use super::contents;
use super::wire::{self, Value, bytes, fields, text};
use crate::decode::clip;
use crate::error::{Error, Kind};
use crate::model::tensor::{Datatype, Tensor};
use crate::oip;

/// Most inputs, and most outputs, of one request: more than any interface has, and little enough to allocate for.
const MAX_TENSORS: usize = 4_096;
/// Most axes that are read; whether a model takes so many is for others to say.
const MAX_AXES: usize = 256;

/// A request as sent.
#[derive(Debug, PartialEq)]
pub(super) struct Sent {
    pub(super) model: String,
    /// `None` where it is empty.
    pub(super) version: Option<String>,
    pub(super) request: oip::Request,
}

/// An input before its elements are read.
struct Input<'a> {
    name: &'a str,
    datatype: &'a str,
    shape: Vec<i64>,
    contents: Option<&'a [u8]>,
}

/// Reads a message.
///
/// # Errors
/// The first thing that is wrong, with the input's name.
pub(super) fn read(message: &[u8]) -> Result<Sent, Error> {
    let (mut model, mut version, mut id) = ("", "", "");
    let mut inputs: Vec<Input<'_>> = Vec::new();
    let mut outputs = Vec::new();
    let mut raw: Vec<&[u8]> = Vec::new();
    for field in fields(message) {
        let (number, value) = field?;
        match number {
            1 => model = text(value)?,
            2 => version = text(value)?,
            3 => id = text(value)?,
            5 => push(&mut inputs, input(bytes(value)?)?)?,
            6 => push(&mut outputs, output(bytes(value)?)?)?,
            7 => push(&mut raw, bytes(value)?)?,
            _ => {}
        }
    }
    let inputs = match raw.is_empty() {
        true => inputs.into_iter().map(typed).collect::<Result<_, _>>()?,
        false => paired(inputs, &raw)?,
    };
    Ok(Sent {
        model: model.to_owned(),
        version: (!version.is_empty()).then(|| version.to_owned()),
        request: oip::Request {
            id: id.to_owned(),
            inputs,
            outputs,
        },
    })
}

fn push<T>(list: &mut Vec<T>, item: T) -> Result<(), Error> {
    if list.len() == MAX_TENSORS {
        let text = format!("more than {MAX_TENSORS} inputs, outputs or raw_input_contents: send fewer");
        return Err(Error::new(Kind::BadRequest, text));
    }
    list.push(item);
    Ok(())
}

fn input(message: &[u8]) -> Result<Input<'_>, Error> {
    let mut input = Input {
        name: "",
        datatype: "",
        shape: Vec::new(),
        contents: None,
    };
    for field in fields(message) {
        let (number, value) = field?;
        match number {
            1 => input.name = text(value)?,
            2 => input.datatype = text(value)?,
            3 => axes(&mut input.shape, value)?,
            4 => parameter(bytes(value)?)?,
            5 if input.contents.is_some() => {
                let name = clip(input.name);
                let text = format!("input '{name}' has two contents: send one");
                return Err(Error::new(Kind::MalformedBody, text));
            }
            5 => input.contents = Some(bytes(value)?),
            _ => {}
        }
    }
    Ok(input)
}

/// Dimensions, packed or one by one.
fn axes(shape: &mut Vec<i64>, value: Value<'_>) -> Result<(), Error> {
    let mut add = |axis: u64| {
        if shape.len() == MAX_AXES {
            let text = format!("a shape has more than {MAX_AXES} dimensions: send fewer");
            return Err(Error::new(Kind::WrongShape, text));
        }
        shape.push(axis.cast_signed());
        Ok(())
    };
    match value {
        Value::Varint(axis) => add(axis),
        Value::Bytes(mut packed) => {
            while !packed.is_empty() {
                add(wire::varint(&mut packed).ok_or_else(wire::malformed)?)?;
            }
            Ok(())
        }
        _ => Err(wire::malformed()),
    }
}

/// An input's parameters say nothing that matters here, but for the one that says that its bytes are elsewhere.
fn parameter(entry: &[u8]) -> Result<(), Error> {
    for field in fields(entry) {
        if field? == (1, Value::Bytes(b"shared_memory_region")) {
            let text = "shared memory is not offered: send the tensor's bytes in raw_input_contents";
            return Err(Error::new(Kind::NotImplemented, text));
        }
    }
    Ok(())
}

fn output(message: &[u8]) -> Result<String, Error> {
    let mut name = "";
    for field in fields(message) {
        if let (1, value) = field? {
            name = text(value)?;
        }
    }
    Ok(name.to_owned())
}

/// An input with its typed elements.
fn typed(input: Input<'_>) -> Result<(String, Tensor), Error> {
    let datatype = datatype(&input)?;
    let tensor = contents::read(input.name, datatype, &input.shape, input.contents.unwrap_or_default())?;
    Ok((input.name.to_owned(), tensor))
}

/// Inputs with their raw bytes.
fn paired(inputs: Vec<Input<'_>>, raw: &[&[u8]]) -> Result<Vec<(String, Tensor)>, Error> {
    if raw.len() != inputs.len() {
        let (sent, wanted) = (raw.len(), inputs.len());
        let text = format!("{sent} raw_input_contents for {wanted} inputs: send one per input, in the inputs' order");
        return Err(Error::new(Kind::MalformedBody, text));
    }
    let pairs = inputs.into_iter().zip(raw);
    let tensors = pairs.map(|(input, raw)| {
        if input.contents.is_some_and(|contents| !contents.is_empty()) {
            let name = clip(input.name);
            let text = format!("input '{name}' has contents beside raw_input_contents: send all inputs one way");
            return Err(Error::new(Kind::MalformedBody, text));
        }
        let tensor = oip::tensor(input.name, datatype(&input)?, &input.shape, raw)?;
        Ok((input.name.to_owned(), tensor))
    });
    tensors.collect()
}

fn datatype(input: &Input<'_>) -> Result<Datatype, Error> {
    oip::datatype(input.name, input.datatype)
}

#[cfg(test)]
mod tests;
