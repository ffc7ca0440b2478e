//! The Open Inference Protocol, as little of it as one input and one output need.

use std::io::Write;

use serde::Deserialize;

use super::super::Fallible;
use super::super::models::FEATURES;

/// The header with the length of the JSON before binary tensors.
pub(super) const LENGTH: http::HeaderName = http::HeaderName::from_static("inference-header-content-length");

#[derive(Deserialize)]
struct Request {
    inputs: Vec<Input>,
}

#[derive(Deserialize)]
struct Input {
    shape: [usize; 2],
    #[serde(default)]
    data: Vec<f32>,
}

fn only(json: &[u8]) -> Fallible<Input> {
    let mut request: Request = serde_json::from_slice(json)?;
    Ok(request.inputs.pop().ok_or("no input")?)
}

/// The numbers of a JSON body.
pub(super) fn json(body: &[u8]) -> Fallible<Vec<f32>> {
    let input = only(body)?;
    fits(&input, input.data.len())?;
    Ok(input.data)
}

/// The numbers behind the JSON, whose length is `split`.
pub(super) fn binary(body: &[u8], split: usize) -> Fallible<Vec<f32>> {
    let (json, numbers) = body.split_at_checked(split).ok_or("a header beyond the body")?;
    let (numbers, rest) = numbers.as_chunks::<4>();
    fits(&only(json)?, if rest.is_empty() { numbers.len() } else { 0 })?;
    Ok(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

fn fits(input: &Input, numbers: usize) -> Fallible<()> {
    let [rows, columns] = input.shape;
    match columns == FEATURES && rows.checked_mul(columns) == Some(numbers) {
        true => Ok(()),
        false => Err("the shape does not fit the data".into()),
    }
}

/// The answer as JSON.
pub(super) fn write(out: &mut Vec<u8>, model: &str, scores: &[f32]) {
    let rows = scores.len() / 2;
    // Writing into memory does not fail.
    let _ = write!(
        out,
        "{{\"model_name\":\"{model}\",\"outputs\":[{{\"name\":\"probabilities\",\"datatype\":\"FP32\",\"shape\":[{rows},2],\"data\":"
    );
    let _ = serde_json::to_writer(&mut *out, scores);
    out.extend_from_slice(b"}]}");
}

/// The answer with its numbers behind the JSON; gives the length of the JSON.
pub(super) fn write_binary(out: &mut Vec<u8>, model: &str, scores: &[f32]) -> usize {
    let (rows, size) = (scores.len() / 2, size_of_val(scores));
    // Writing into memory does not fail.
    let _ = write!(
        out,
        "{{\"model_name\":\"{model}\",\"outputs\":[{{\"name\":\"probabilities\",\"datatype\":\"FP32\",\"shape\":[{rows},2],\
         \"parameters\":{{\"binary_data_size\":{size}}}}}]}}"
    );
    let split = out.len();
    out.extend(scores.iter().flat_map(|x| x.to_le_bytes()));
    split
}
