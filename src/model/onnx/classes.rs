//! Where files keep their class names: in classifier nodes, in ZipMap, in metadata.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::wire::{Value, fields, push_ints, text};
use super::{Classes, ScanError};

/// Key under which [`cut_zipmap`](super::cut_zipmap) leaves the names that it cut out with the node.
pub(super) const CUT_CLASSES: &str = "dethrone.classes";

/// More bytes, and more names, than the classes of a classifier that is served row by row take.
const MOST_CLASSES: usize = 10_000;

/// More classes than any classifier has, and the bytes that their numbers may take.
const MOST_LABELS: usize = 1_000_000;
const MOST_BYTES: usize = MOST_LABELS * 10;

/// What the nodes say.
#[derive(Default)]
pub(super) struct Found {
    zipmap: Option<Classes>,
    /// The last one counts: it is the nearest to the outputs.
    classifier: Option<Classes>,
    /// scikit-learn's exporter looks labels up in an initializer of this name where no node knows them.
    constant: Option<Classes>,
}

impl Found {
    /// Takes up an attribute of an `ai.onnx.ml` node.
    pub(super) fn attribute(&mut self, op: &str, bytes: &[u8]) -> Result<(), ScanError> {
        let place = match op {
            "ZipMap" => &mut self.zipmap,
            _ if op.ends_with("Classifier") => &mut self.classifier,
            _ => return Ok(()),
        };
        if let Some(classes) = labels(bytes)? {
            *place = Some(classes);
        }
        Ok(())
    }

    /// Takes up an initializer of the main graph.
    pub(super) fn initializer(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        if self.constant.is_none() {
            self.constant = constant(bytes)?;
        }
        Ok(())
    }

    /// The names nearest to the outputs; CatBoost's metadata before its tree, which may know only numbers.
    pub(super) fn decide(self, metadata: &BTreeMap<String, String>) -> Option<Classes> {
        let json = |key: &str| {
            metadata
                .get(key)
                .and_then(|value| serde_json::from_str::<Json>(value).ok())
        };
        let cut = json(CUT_CLASSES).as_ref().and_then(list);
        let catboost = json("class_params").and_then(|params| params.get("class_names").and_then(list));
        let stated = || json("classes").as_ref().and_then(list);
        self.zipmap
            .or(cut)
            .or(catboost)
            .or(self.classifier)
            .or(self.constant)
            .or_else(stated)
    }
}

/// The class names in the `config.json` that Hugging Face keeps beside a model (`id2label`).
#[must_use]
pub fn config_classes(config: &str) -> Option<Classes> {
    let config: Json = serde_json::from_str(config).ok()?;
    let labels = config.get("id2label")?.as_object()?;
    let name = |i: usize| labels.get(&i.to_string())?.as_str().map(str::to_owned);
    let names: Option<Vec<String>> = (0..labels.len()).map(name).collect();
    names.filter(|names| !names.is_empty()).map(Classes::Names)
}

/// A JSON list of names or whole numbers.
fn list(json: &Json) -> Option<Classes> {
    let items = json.as_array().filter(|items| !items.is_empty())?;
    if let Some(ints) = items.iter().map(whole).collect::<Option<Vec<i64>>>() {
        return Some(Classes::Ints(ints));
    }
    let name = |item: &Json| match item {
        Json::String(name) => Some(name.clone()),
        Json::Bool(_) | Json::Number(_) => Some(item.to_string()),
        _ => None,
    };
    items.iter().map(name).collect::<Option<_>>().map(Classes::Names)
}

/// A whole number, also where it is written as `1.0`.
fn whole(json: &Json) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
    let from_float = |x: f64| (x.fract().abs() < f64::EPSILON && x.abs() < 1e15).then_some(x as i64);
    json.as_i64().or_else(|| json.as_f64().and_then(from_float))
}

/// The class names in an attribute that holds some.
pub(super) fn labels(attribute: &[u8]) -> Result<Option<Classes>, ScanError> {
    let (mut name, mut ints, mut names) = (String::new(), Vec::new(), Vec::new());
    for field in fields(attribute) {
        if let Some(bytes) = field?.bytes(1) {
            name = text(bytes);
        }
    }
    // Others may be as long as the forest has nodes.
    if !name.starts_with("classlabels_") {
        return Ok(None);
    }
    for field in fields(attribute) {
        let field = field?;
        match (field.number, field.value) {
            (8 | 9, Value::Bytes(bytes)) if bytes.len() > MOST_BYTES || names.len() + ints.len() > MOST_LABELS => {
                return Err(ScanError(format!(
                    "its classifier has more than {MOST_LABELS} classes, which is the limit"
                )));
            }
            (8, value) => push_ints(&mut ints, value)?,
            (9, Value::Bytes(bytes)) => names.push(text(bytes)),
            _ => {}
        }
    }
    Ok(match name.as_str() {
        "classlabels_ints" | "classlabels_int64s" if !ints.is_empty() => Some(Classes::Ints(ints)),
        "classlabels_strings" if !names.is_empty() => Some(Classes::Names(names)),
        _ => None,
    })
}

/// The elements of a tensor named `classes` of whole numbers or text.
fn constant(tensor: &[u8]) -> Result<Option<Classes>, ScanError> {
    const INT32: u64 = 6;
    const INT64: u64 = 7;
    let (mut name, mut kind, mut ints, mut names, mut raw) = (&[][..], 0, Vec::new(), Vec::new(), &[][..]);
    for field in fields(tensor) {
        let field = field?;
        match (field.number, field.value) {
            (8, Value::Bytes(bytes)) => name = bytes,
            (2, Value::Varint(x)) => kind = x,
            // A longer list is some table, not class names.
            (5 | 7, Value::Bytes(packed)) if packed.len() > MOST_CLASSES => return Ok(None),
            (5 | 7, value) if ints.len() < MOST_CLASSES => push_ints(&mut ints, value)?,
            (6, Value::Bytes(bytes)) if names.len() < MOST_CLASSES => names.push(text(bytes)),
            (9, Value::Bytes(bytes)) if bytes.len() <= MOST_CLASSES => raw = bytes,
            _ => {}
        }
    }
    if name != b"classes" {
        return Ok(None);
    }
    match kind {
        INT64 => ints.extend(raw.as_chunks().0.iter().map(|&word| i64::from_le_bytes(word))),
        INT32 => ints.extend(
            raw.as_chunks()
                .0
                .iter()
                .map(|&word| i64::from(i32::from_le_bytes(word))),
        ),
        _ => {}
    }
    if !names.is_empty() {
        return Ok(Some(Classes::Names(names)));
    }
    Ok(((kind == INT64 || kind == INT32) && !ints.is_empty()).then_some(Classes::Ints(ints)))
}
