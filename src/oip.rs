//! The Open Inference Protocol v2 without its transport: requests as typed tensors, what a model takes and gives, and
//! answers as tensors again. REST (`http::infer`) and gRPC (`grpc`) stand in front of it.
//!
//! Always holds: a tensor's elements fit its shape before anything is allocated for them; every size and product that
//! a client claims is checked; what clients send and get does not depend on who is champion.
//! Leaves to others: bodies and their limits (`http`), who answers (`champion`).

pub mod contract;
mod lenient;
mod outputs;
mod request;
mod rows;
pub mod statistics;
mod write;

pub use contract::{Contract, Metadata};
pub use outputs::Plan;
pub use request::{Asked, Binary, Parsed, parse};
pub use rows::{raw, rows};
pub use statistics::{Counters, Statistics};
pub use write::{Reply, reply};

use crate::error::{Error, Kind};
use crate::model::tensor::raw::{self as bytes, Misread};
use crate::model::tensor::{Datatype, Tensor};

/// Deepest shape that is read; no operator takes more axes.
const MAX_RANK: usize = 32;

/// What the server does beyond the protocol's core.
pub const EXTENSIONS: [&str; 5] = [
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "statistics",
    "parameters",
];

/// How the protocol calls this runtime; clients only show it.
pub const PLATFORM: &str = "onnxruntime_onnx";

/// A request, its tensors decoded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Request {
    /// The caller's name for the request, given back; empty: none.
    pub id: String,
    /// Names and tensors, in the order sent.
    pub inputs: Vec<(String, Tensor)>,
    /// Names of the outputs that are wanted; empty: all.
    pub outputs: Vec<String>,
}

/// A datatype by its name.
///
/// # Errors
/// It is none of the protocol's.
pub fn datatype(input: &str, name: &str) -> Result<Datatype, Error> {
    Datatype::parse(name).ok_or_else(|| {
        let (input, name) = (crate::decode::clip(input), crate::decode::clip(name));
        let known = Datatype::ALL.map(Datatype::name).join(", ");
        Error::new(
            Kind::WrongType,
            format!("input '{input}' has the datatype '{name}': send one of {known}"),
        )
    })
}

/// A shape as sent, and how many elements it holds.
///
/// # Errors
/// Negative, too deep, or beyond all memory.
pub fn shape(input: &str, sent: &[i64]) -> Result<(Vec<usize>, usize), Error> {
    let wrong = |why: &str| {
        let input = crate::decode::clip(input);
        Error::new(Kind::WrongShape, format!("input '{input}': {why}"))
    };
    if sent.len() > MAX_RANK {
        return Err(wrong("the shape has more than 32 dimensions: send fewer"));
    }
    let dimensions: Option<Vec<usize>> = sent.iter().map(|&d| usize::try_from(d).ok()).collect();
    let dimensions =
        dimensions.ok_or_else(|| wrong("the shape has a negative dimension: send the sizes of the data"))?;
    // A dimension of 0 makes the others no smaller.
    let product = |least: usize| {
        dimensions
            .iter()
            .try_fold(1usize, |product, &d| product.checked_mul(d.max(least)))
    };
    let (Some(count), Some(_)) = (product(0), product(1)) else {
        return Err(wrong("the shape's product overflows: send the sizes of the data"));
    };
    Ok((dimensions, count))
}

/// A tensor from its little-endian bytes (the protocol's binary tensor data), all of them.
///
/// # Errors
/// The bytes are none, too few, or too many.
pub fn tensor(input: &str, datatype: Datatype, sent: &[i64], raw: &[u8]) -> Result<Tensor, Error> {
    let (shape, count) = shape(input, sent)?;
    let name = || crate::decode::clip(input);
    let sized = |expected: usize| {
        let text = format!(
            "input '{}' has {} bytes, and {count} elements of {datatype} take {expected}: send as many bytes as the shape says",
            name(),
            raw.len()
        );
        Error::new(Kind::MalformedBody, text)
    };
    if let Some(size) = datatype.size() {
        let expected = count.checked_mul(size).ok_or_else(|| sized(usize::MAX))?;
        if expected != raw.len() {
            return Err(sized(expected));
        }
    }
    let (data, rest) = bytes::read(datatype, count, raw).map_err(|misread| {
        let why = match misread {
            Misread::Short => format!("its bytes end before its {count} elements: send 4 bytes of length before each"),
            Misread::NoBoolean => "a BOOL is one byte, 0 or 1".to_owned(),
            Misread::TooMuchText => "too much text in one tensor: send fewer rows".to_owned(),
        };
        Error::new(Kind::MalformedBody, format!("input '{}': {why}", name()))
    })?;
    if !rest.is_empty() {
        let text = format!(
            "input '{}' has {} bytes behind its {count} elements: send none",
            name(),
            rest.len()
        );
        return Err(Error::new(Kind::MalformedBody, text));
    }
    Tensor::new(shape, data)
        .ok_or_else(|| Error::new(Kind::WrongShape, format!("input '{}' does not fill its shape", name())))
}
