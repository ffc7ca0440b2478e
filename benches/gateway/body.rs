//! The requests: bodies of the same numbers in every form, as bytes ready for the socket.

use super::models::{FEATURES, feature_names};
use super::numbers::Random;

/// Different bodies per case, so that nobody answers from a cache.
const VARIANTS: u64 = 16;

/// How a request writes its numbers down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `/predict`, each row a list of numbers.
    Lists,
    /// `/predict`, each row an object.
    Named,
}

impl Form {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lists => "JSON lists",
            Self::Named => "JSON objects",
        }
    }
}

/// Whole HTTP/1.1 requests of `rows` rows for a model.
pub(crate) fn requests(model: &str, form: Form, rows: usize) -> Vec<Vec<u8>> {
    (0..VARIANTS)
        .map(|variant| {
            let mut random = Random::new(1_000 + variant);
            let numbers: Vec<f32> = (0..rows * FEATURES).map(|_| random.unit()).collect();
            http("localhost", &format!("/models/{model}/predict"), &json(form, &numbers))
        })
        .collect()
}

fn json(form: Form, numbers: &[f32]) -> String {
    let names = feature_names();
    let rows: Vec<String> = numbers
        .chunks(FEATURES)
        .map(|row| {
            let cells: Vec<String> = match form {
                Form::Lists => row.iter().map(|x| format!("{x:.4}")).collect(),
                Form::Named => row.iter().zip(&names).map(|(x, name)| format!("\"{name}\":{x:.4}")).collect(),
            };
            match form {
                Form::Lists => format!("[{}]", cells.join(",")),
                Form::Named => format!("{{{}}}", cells.join(",")),
            }
        })
        .collect();
    format!("{{\"instances\":[{}]}}", rows.join(","))
}

/// A `POST` of JSON.
pub(crate) fn http(host: &str, path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}
