//! The requests: bodies of the same numbers in every form, as bytes ready for the socket.

use super::models::{FEATURES, feature_names};
use super::numbers::Random;
use super::onnx::Message;

/// Different bodies per case, so that nobody answers from a cache.
const VARIANTS: u64 = 16;

/// How a request writes its numbers down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `/predict`, each row a list of numbers.
    Lists,
    /// `/predict`, each row an object.
    Named,
    /// The Open Inference Protocol, numbers as JSON.
    Oip,
    /// The same, numbers as they lie in memory.
    Binary,
    /// The same over gRPC.
    Grpc,
}

impl Form {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lists => "JSON lists",
            Self::Named => "JSON objects",
            Self::Oip => "Open Inference Protocol, JSON",
            Self::Binary => "Open Inference Protocol, binary",
            Self::Grpc => "Open Inference Protocol, gRPC",
        }
    }
}

/// The first number of the first row of a request, as it is written down.
pub(crate) fn first_number(variant: u64) -> f32 {
    let written = format!("{:.4}", Random::new(1_000 + variant).unit());
    written.parse().unwrap_or_default()
}

/// Whole HTTP/1.1 requests (messages of gRPC) of `rows` rows for a model.
pub(crate) fn requests(model: &str, form: Form, rows: usize) -> Vec<Vec<u8>> {
    (0..VARIANTS)
        .map(|variant| {
            let mut random = Random::new(1_000 + variant);
            let numbers: Vec<f32> = (0..rows * FEATURES).map(|_| random.unit()).collect();
            match form {
                Form::Lists | Form::Named => {
                    http("localhost", &format!("/models/{model}/predict"), &json(form, &numbers))
                }
                Form::Oip => http("localhost", &format!("/v2/models/{model}/infer"), &oip(&numbers)),
                Form::Binary => binary(&format!("/v2/models/{model}/infer"), &numbers),
                Form::Grpc => call(model, &numbers),
            }
        })
        .collect()
}

fn json(form: Form, numbers: &[f32]) -> String {
    let names = feature_names();
    let rows: Vec<String> = numbers
        .chunks(FEATURES)
        .map(|row| {
            if form == Form::Named {
                let cells: Vec<String> = row
                    .iter()
                    .zip(&names)
                    .map(|(x, name)| format!("\"{name}\":{x:.4}"))
                    .collect();
                format!("{{{}}}", cells.join(","))
            } else {
                format!("[{}]", list(row))
            }
        })
        .collect();
    format!("{{\"instances\":[{}]}}", rows.join(","))
}

fn list(numbers: &[f32]) -> String {
    let cells: Vec<String> = numbers.iter().map(|x| format!("{x:.4}")).collect();
    cells.join(",")
}

fn oip(numbers: &[f32]) -> String {
    let (rows, data) = (numbers.len() / FEATURES, list(numbers));
    format!(
        "{{\"inputs\":[{{\"name\":\"x\",\"shape\":[{rows},{FEATURES}],\"datatype\":\"FP32\",\"data\":[{data}]}}],\
         \"outputs\":[{{\"name\":\"probabilities\"}}]}}"
    )
}

/// JSON and the numbers behind it, as Triton's client sends them.
fn binary(path: &str, numbers: &[f32]) -> Vec<u8> {
    let (rows, size) = (numbers.len() / FEATURES, size_of_val(numbers));
    let json = format!(
        "{{\"inputs\":[{{\"name\":\"x\",\"shape\":[{rows},{FEATURES}],\"datatype\":\"FP32\",\
         \"parameters\":{{\"binary_data_size\":{size}}}}}],\
         \"outputs\":[{{\"name\":\"probabilities\",\"parameters\":{{\"binary_data\":true}}}}]}}"
    );
    let (head, whole) = (json.len(), json.len() + size);
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nInference-Header-Content-Length: {head}\r\nContent-Length: {whole}\r\n\r\n{json}"
    )
    .into_bytes();
    request.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
    request
}

/// A `ModelInferRequest` with raw contents, as Triton's client sends it.
fn call(model: &str, numbers: &[f32]) -> Vec<u8> {
    let raw: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    let input = Message::default()
        .text(1, "x")
        .text(2, "FP32")
        .int(3, (numbers.len() / FEATURES) as u64)
        .int(3, FEATURES as u64);
    Message::default()
        .text(1, model)
        .part(5, &input)
        .part(6, &Message::default().text(1, "probabilities"))
        .bytes(7, &raw)
        .grpc()
}

/// A `POST` of JSON.
pub(crate) fn http(host: &str, path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}
