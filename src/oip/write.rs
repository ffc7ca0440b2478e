//! An answer as JSON, with its binary tensors behind it.

use std::sync::Arc;

use serde::Serialize;

use super::Binary;
use crate::error::{Error, Kind};
use crate::id::PredictionId;
use crate::model::tensor::{Data, Datatype, Tensor, raw};

/// What an answer says.
#[derive(Debug)]
pub struct Reply<'a> {
    /// The model.
    pub model: &'a str,
    /// The version that answered.
    pub version: &'a str,
    /// The caller's name for the request; empty: none.
    pub id: &'a str,
    /// By which labels name its rows.
    pub prediction_id: PredictionId,
    /// The version that answered rows in its place.
    pub fallback: Option<&'a str>,
    /// Rows in the exploration slice, joined by commas.
    pub explore: Option<&'a str>,
    /// Names and tensors.
    pub outputs: &'a [(Arc<str>, Tensor)],
}

/// The body, and the length of its JSON where bytes stand behind it.
///
/// # Errors
/// A tensor that has no JSON form and was not asked for as bytes.
pub fn reply(reply: &Reply<'_>, binary: &Binary) -> Result<(Vec<u8>, Option<usize>), Error> {
    let sized = |(at, (_, tensor)): (usize, &(Arc<str>, Tensor))| match binary.of(at) {
        true => 96 + raw::len(tensor.data()),
        false => 96 + tensor.data().len() * 12,
    };
    let room: usize = reply.outputs.iter().enumerate().map(sized).sum();
    let mut out = Vec::with_capacity(256 + room);
    out.extend_from_slice(b"{\"model_name\":");
    json(&mut out, reply.model);
    out.extend_from_slice(b",\"model_version\":");
    json(&mut out, reply.version);
    if !reply.id.is_empty() {
        out.extend_from_slice(b",\"id\":");
        json(&mut out, reply.id);
    }
    out.extend_from_slice(b",\"parameters\":{\"prediction_id\":\"");
    // Its letters need no escapes.
    reply.prediction_id.write(None, &mut out);
    out.extend_from_slice(b"\",\"version\":");
    json(&mut out, reply.version);
    if let Some(fallback) = reply.fallback {
        out.extend_from_slice(b",\"fallback\":");
        json(&mut out, fallback);
    }
    if let Some(explore) = reply.explore {
        out.extend_from_slice(b",\"explore\":");
        json(&mut out, explore);
    }
    out.extend_from_slice(b"},\"outputs\":[");
    for (at, (name, tensor)) in reply.outputs.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        output(&mut out, name, tensor, binary.of(at))?;
    }
    out.extend_from_slice(b"]}");
    let length = out.len();
    let mut is_binary = false;
    for (at, (_, tensor)) in reply.outputs.iter().enumerate() {
        if binary.of(at) {
            is_binary = true;
            raw::write(tensor.data(), &mut out);
        }
    }
    Ok((out, is_binary.then_some(length)))
}

fn output(out: &mut Vec<u8>, name: &str, tensor: &Tensor, binary: bool) -> Result<(), Error> {
    out.extend_from_slice(b"{\"name\":");
    json(out, name);
    out.extend_from_slice(b",\"shape\":");
    json(out, tensor.shape());
    out.extend_from_slice(b",\"datatype\":\"");
    out.extend_from_slice(tensor.datatype().name().as_bytes());
    if binary {
        out.extend_from_slice(b"\",\"parameters\":{\"binary_data_size\":");
        json(out, &raw::len(tensor.data()));
        out.extend_from_slice(b"}}");
        return Ok(());
    }
    if tensor.datatype() == Datatype::Fp16 {
        let text = format!("output '{name}' is FP16, which has no JSON form: ask for it with \"binary_data\": true");
        return Err(Error::new(Kind::WrongType, text));
    }
    out.extend_from_slice(b"\",\"data\":[");
    elements(out, tensor.data());
    out.extend_from_slice(b"]}");
    Ok(())
}

/// The elements, row-major; a number that is not finite becomes `null`.
fn elements(out: &mut Vec<u8>, data: &Data) {
    macro_rules! list {
        ($values:expr) => {
            for (at, value) in $values.enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                json(out, &value);
            }
        };
    }
    match data {
        Data::Bool(values) => list!(values.iter()),
        Data::Uint8(values) => list!(values.iter()),
        Data::Uint16(values) => list!(values.iter()),
        Data::Uint32(values) => list!(values.iter()),
        Data::Uint64(values) => list!(values.iter()),
        Data::Int8(values) => list!(values.iter()),
        Data::Int16(values) => list!(values.iter()),
        Data::Int32(values) => list!(values.iter()),
        Data::Int64(values) => list!(values.iter()),
        Data::Fp16(values) => list!(values.iter().map(|x| f32::from(*x))),
        Data::Fp32(values) => list!(values.iter()),
        Data::Fp64(values) => list!(values.iter()),
        Data::Bytes(text) => list!(text.iter().map(String::from_utf8_lossy)),
    }
}

fn json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Writing JSON of plain values into memory does not fail.
    let _ = serde_json::to_writer(out, value);
}
