//! serde_json's errors in our words, and the few helpers that every reader shares.

use serde::de;
use serde_json::error::Category;

use crate::error::{Error, Kind};

/// Longest piece of a client's text that an error repeats.
const MAX_ECHO: usize = 64;
/// Beyond these no nearest name is looked for: the search is for people's typing errors, not for machines.
const MAX_NEAREST: usize = 4_096;

/// The body as text: UTF-8, without a byte order mark.
pub(crate) fn text(body: &[u8]) -> Result<&str, Error> {
    if body.starts_with(b"\xef\xbb\xbf") {
        return Err(Error::new(
            Kind::MalformedJson,
            "the body begins with a byte order mark: send UTF-8 without one",
        ));
    }
    std::str::from_utf8(body).map_err(|e| {
        Error::new(
            Kind::MalformedJson,
            format!("the body is not UTF-8 (byte {}): send JSON in UTF-8", e.valid_up_to()),
        )
    })
}

/// A client's name or value, short enough to repeat in an error.
pub(crate) fn clip(text: &str) -> String {
    if text.chars().count() <= MAX_ECHO {
        return text.to_owned();
    }
    text.chars().take(MAX_ECHO).chain(['…']).collect()
}

/// `; did you mean 'x'?` for the known name closest to `name`, or nothing.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    if name.len() > MAX_ECHO {
        return String::new();
    }
    known
        .take(MAX_NEAREST)
        .filter(|k| k.len() <= MAX_ECHO)
        .map(|k| (strsim::damerau_levenshtein(name, k), k))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, k)| *distance <= 1 + k.len() / 3)
        .map(|(_, k)| format!("; did you mean '{k}'?"))
        .unwrap_or_default()
}

/// Keeps our own error aside, because serde's can only carry text, and stops the parser.
pub(super) fn stop<E: de::Error>(fault: &mut Option<Error>, error: Error) -> E {
    fault.get_or_insert(error);
    E::custom("refused")
}

/// Words of the parser for people who know JSON and not Rust.
const OURS: [(&str, &str); 8] = [
    ("invalid type: map,", "invalid type: object,"),
    ("invalid type: sequence,", "invalid type: list,"),
    ("expected a sequence", "expected a list"),
    ("expected a map", "expected an object"),
    ("expected f64", "expected a number"),
    ("expected i64", "expected an integer"),
    ("expected u64", "expected an integer from 0 on"),
    ("expected any valid JSON value", "expected a value"),
];

/// What serde_json had to say, without its position.
pub(super) fn words(error: &serde_json::Error) -> String {
    let mut text = error.to_string();
    if let Some(at) = text.rfind(" at line ") {
        text.truncate(at);
    }
    for (theirs, ours) in OURS {
        // What a client has sent comes before it and stays as it is.
        if let Some(at) = text.rfind(theirs) {
            text.replace_range(at..at + theirs.len(), ours);
        }
    }
    // Of a long text that a client has sent the end goes, not what was expected in its place.
    match text.rfind(", expected ").and_then(|at| text.split_at_checked(at)) {
        Some((sent, expected)) => format!("{}{}", clip(sent), clip(expected)),
        None => clip(&text),
    }
}

/// An error of serde_json about a piece of a body, located by `place` (`row 3, feature 'x'`).
pub(super) fn located(place: &str, error: &serde_json::Error) -> Error {
    let said = words(error);
    if said.contains("number out of range") {
        return Error::new(
            Kind::WrongType,
            format!("{place}: the number does not fit 64 bits: send a finite number"),
        );
    }
    match error.classify() {
        Category::Data if said.contains("duplicate field") => {
            Error::new(Kind::DuplicateKey, format!("{place}: {said}: send each key once"))
        }
        Category::Data => Error::new(Kind::WrongType, format!("{place}: {said}")),
        _ => Error::new(Kind::MalformedJson, format!("{place}: {said}: send valid JSON")),
    }
}

/// An error of serde_json about a whole body.
pub(crate) fn whole(body: &str, error: &serde_json::Error) -> Error {
    if error.classify() == Category::Data {
        return located("the body", error);
    }
    if near_not_a_number(body, error) {
        return Error::new(
            Kind::MalformedJson,
            "NaN and Infinity are not JSON: send null for a missing number and set missing = \"nan\" for the model",
        );
    }
    if words(error).contains("number out of range") {
        return located("the body", error);
    }
    Error::new(
        Kind::MalformedJson,
        format!(
            "the body is not JSON: {} at line {} column {}",
            words(error),
            error.line(),
            error.column()
        ),
    )
}

/// True when the parser stumbled over a bare `NaN` or `Infinity`.
fn near_not_a_number(body: &str, error: &serde_json::Error) -> bool {
    let Some(line) = body.split('\n').nth(error.line().saturating_sub(1)) else {
        return false;
    };
    let from = error.column().saturating_sub(2);
    let near = line.as_bytes().get(from..).unwrap_or_default();
    let near = near.get(..10).unwrap_or(near).to_ascii_lowercase();
    [&b"nan"[..], b"inf"]
        .iter()
        .any(|word| near.windows(3).take(3).any(|w| w == *word))
}
