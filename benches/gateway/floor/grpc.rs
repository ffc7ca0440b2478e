//! gRPC as thin as it goes: `ModelInfer` on hyper's HTTP/2, its message read and written field by field.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};

use super::super::Fallible;
use super::super::models::FEATURES;
use super::super::onnx::Message;
use super::{compute, with_seat};

/// Fields of `ModelInferRequest`.
const MODEL: u64 = 1;
const RAW_INPUT: u64 = 7;
/// Compressed or not, and the length, before each message.
const PREFIX: usize = 5;

pub(super) async fn answer(
    request: Request<Incoming>,
) -> Fallible<Response<impl Body<Data = Bytes, Error = std::convert::Infallible>>> {
    let body = request.into_body().collect().await?.to_bytes();
    let (model, raw) = read(body.get(PREFIX..).ok_or("no message")?)?;
    let (numbers, _) = raw.as_chunks::<4>();
    let rows: Vec<f32> = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    if rows.is_empty() || !rows.len().is_multiple_of(FEATURES) {
        return Err("no whole rows".into());
    }
    let reply = with_seat(model, |seat| {
        let mut reply = Vec::new();
        compute(seat, &rows, |scores| reply = write(model, scores))?;
        Ok(reply)
    })?;
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(Bytes::from(reply)).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(body);
    let content = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(http::header::CONTENT_TYPE, content);
    Ok(response)
}

/// The model's name and its only raw input.
fn read(mut message: &[u8]) -> Fallible<(&str, &[u8])> {
    let (mut model, mut raw) = ("", &[][..]);
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let length = varint(&mut message)?;
        if key & 7 != 2 {
            return Err("only fields with a length are known here".into());
        }
        let (field, rest) = message
            .split_at_checked(usize::try_from(length)?)
            .ok_or("a field beyond the message")?;
        match key >> 3 {
            MODEL => model = std::str::from_utf8(field)?,
            RAW_INPUT => raw = field,
            _ => {}
        }
        message = rest;
    }
    Ok((model, raw))
}

fn varint(bytes: &mut &[u8]) -> Fallible<u64> {
    let mut n = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or("the message ends early")?;
        *bytes = rest;
        n |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(n);
        }
    }
    Err("a number is too long".into())
}

fn write(model: &str, scores: &[f32]) -> Vec<u8> {
    let raw: Vec<u8> = scores.iter().flat_map(|x| x.to_le_bytes()).collect();
    let output = Message::default()
        .text(1, "probabilities")
        .text(2, "FP32")
        .int(3, scores.len() as u64 / 2)
        .int(3, 2);
    Message::default().text(1, model).part(5, &output).bytes(6, &raw).grpc()
}
