//! The `/predict` reply, written straight into one buffer.

use std::sync::Arc;

use serde::Serialize;

use super::backend::{Ids, Reply, RowReply};
use crate::each_data;
use crate::model::tensor::{Data, Tensor};
use crate::score::Score;

/// The body of a reply. Numbers are written with the fewest digits that read back the same; a raw output that is
/// not finite becomes `null`.
#[must_use]
pub(super) fn reply(model: &str, reply: &Reply) -> Vec<u8> {
    let rows = Rows {
        ids: &reply.ids,
        rows: &reply.rows,
        outputs: &reply.outputs,
    };
    write(model, &reply.version.name, &reply.version.digest, &rows)
}

/// What of a reply differs from row to row.
struct Rows<'a> {
    ids: &'a Ids,
    rows: &'a [RowReply],
    outputs: &'a [(Arc<str>, Tensor)],
}

fn write(model: &str, version: &str, digest: &str, reply: &Rows<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(192 + reply.rows.len() * 96);
    out.extend_from_slice(b"{\"model\":");
    json(&mut out, model);
    out.extend_from_slice(b",\"version\":");
    json(&mut out, version);
    out.extend_from_slice(b",\"digest\":");
    json(&mut out, digest);
    // One previous champion stands by, so that all rows that it answered name the same.
    if let Some(version) = reply.rows.iter().find_map(|row| row.fallback.as_ref()) {
        out.extend_from_slice(b",\"fallback\":");
        json(&mut out, &**version);
    }
    out.extend_from_slice(b",\"predictions\":[");
    for (at, row) in reply.rows.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        row_reply(&mut out, reply, at, row);
    }
    out.extend_from_slice(b"]}");
    out
}

fn id(out: &mut Vec<u8>, reply: &Rows<'_>, at: usize) {
    match reply.ids {
        Ids::Caller(ids) => json(out, ids.get(at).map_or("", String::as_str)),
        Ids::Generated(id) => {
            // Its letters need no escapes.
            out.push(b'"');
            let row = (reply.rows.len() > 1).then(|| u32::try_from(at).unwrap_or(u32::MAX));
            id.write(row, out);
            out.push(b'"');
        }
    }
}

fn row_reply(out: &mut Vec<u8>, reply: &Rows<'_>, at: usize, row: &RowReply) {
    out.extend_from_slice(b"{\"id\":");
    id(out, reply, at);
    match &row.score {
        Some(Score::Binary(x) | Score::Value(x)) => {
            out.extend_from_slice(b",\"score\":");
            json(out, x);
        }
        Some(Score::Classes(xs)) => {
            out.extend_from_slice(b",\"scores\":");
            json(out, xs);
        }
        None => {}
    }
    if let Some(label) = &row.label {
        out.extend_from_slice(b",\"label\":");
        json(out, label);
    }
    if let Some(version) = &row.fallback {
        out.extend_from_slice(b",\"fallback\":");
        json(out, &**version);
    }
    if row.explore {
        out.extend_from_slice(b",\"explore\":true");
    }
    if !reply.outputs.is_empty() {
        out.extend_from_slice(b",\"outputs\":{");
        for (i, (name, tensor)) in reply.outputs.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            json(out, &**name);
            out.push(b':');
            row_of(out, tensor, at, reply.rows.len());
        }
        out.push(b'}');
    }
    out.push(b'}');
}

/// Row `at` of a tensor, or all of it where its first axis is not the rows.
fn row_of(out: &mut Vec<u8>, tensor: &Tensor, at: usize, rows: usize) {
    let shape = tensor.shape();
    match shape.split_first() {
        Some((&first, inner)) if first == rows => {
            let width = tensor.row_len();
            nested(out, tensor.data(), inner, at * width);
        }
        _ => nested(out, tensor.data(), shape, 0),
    }
}

/// The block of this shape that begins at element `from`, as nested lists.
fn nested(out: &mut Vec<u8>, data: &Data, shape: &[usize], from: usize) {
    let Some((&length, inner)) = shape.split_first() else {
        element(out, data, from);
        return;
    };
    let step: usize = inner.iter().product();
    out.push(b'[');
    for i in 0..length {
        if i > 0 {
            out.push(b',');
        }
        nested(out, data, inner, from + i * step);
    }
    out.push(b']');
}

fn element(out: &mut Vec<u8>, data: &Data, at: usize) {
    each_data!(data, v => json(out, &v.get(at).map(|x| Plain(*x))), t => json(out, &t.get(at).map(String::from_utf8_lossy)));
}

/// A number of any datatype; half floats are written as single ones.
struct Plain<T>(T);

macro_rules! plain {
    ($($t:ty),*) => {
        $(impl Serialize for Plain<$t> {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                self.0.serialize(s)
            }
        })*
    };
}
plain!(bool, u8, u16, u32, u64, i8, i16, i32, i64, f32, f64);

impl Serialize for Plain<half::f16> {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        f32::from(self.0).serialize(s)
    }
}

fn json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Writing JSON of plain values into memory does not fail.
    let _ = serde_json::to_writer(out, value);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::head::LabelValue;
    use crate::model::tensor::Text;

    fn row(score: Option<Score>, label: Option<LabelValue>) -> RowReply {
        RowReply {
            score,
            label,
            fallback: None,
            explore: false,
        }
    }

    fn written(rows: &[RowReply], ids: &Ids, outputs: Vec<(&str, Tensor)>) -> Value {
        let outputs: Vec<(Arc<str>, Tensor)> = outputs.into_iter().map(|(n, t)| (n.into(), t)).collect();
        let rows = Rows {
            ids,
            rows,
            outputs: &outputs,
        };
        serde_json::from_slice(&write("elec2", "v\"1", "sha256:00", &rows)).unwrap()
    }

    fn called(names: &[&str]) -> Ids {
        Ids::Caller(Arc::new(names.iter().map(|&n| n.to_owned()).collect()))
    }

    #[test]
    fn generated_ids_are_written_as_the_labels_will_name_them() {
        let id = crate::id::IdKey::new([7; 16]).id_of(1 << 40);
        let ids = Ids::Generated(id);
        let (one, two) = (vec![row(None, None)], vec![row(None, None), row(None, None)]);
        let name = |rows: &[RowReply], at: usize| written(rows, &ids, vec![])["predictions"][at]["id"].clone();
        assert_eq!(name(&one, 0), json!(id.to_string()));
        assert_eq!(name(&two, 0), json!(format!("{id}.0")));
        assert_eq!(name(&two, 1), json!(format!("{id}.1")));
    }

    #[test]
    fn a_reply_names_model_version_and_digest_and_has_a_row_per_row() {
        let mut b = row(Some(Score::Binary(0.1 + 0.2)), Some(LabelValue::Text("UP".into())));
        b.fallback = Some("old".into());
        let rows = vec![
            row(Some(Score::Binary(0.81)), Some(LabelValue::Int(1))),
            b,
            row(Some(Score::Classes([0.25, 0.75].into())), Some(LabelValue::Int(2))),
            row(Some(Score::Value(-1e300)), None),
        ];
        let expected = json!({"model": "elec2", "version": "v\"1", "digest": "sha256:00", "fallback": "old", "predictions": [
            {"id": "a", "score": 0.81, "label": 1},
            {"id": "b\"", "score": 0.1 + 0.2, "label": "UP", "fallback": "old"},
            {"id": "c", "scores": [0.25, 0.75], "label": 2},
            {"id": "d", "score": -1e300},
        ]});
        assert_eq!(written(&rows, &called(&["a", "b\"", "c", "d"]), vec![]), expected);
    }

    #[test]
    fn raw_outputs_come_by_row_and_what_is_not_finite_is_null() {
        let mut text = Text::default();
        text.push(b"x");
        text.push(b"\xff");
        let tensor = |shape: &[usize], data| Tensor::new(shape.to_vec(), data).unwrap();
        let outputs = vec![
            (
                "p",
                tensor(&[2, 2], Data::Fp32(vec![0.1, 0.9, f32::NAN, f32::INFINITY])),
            ),
            ("n", tensor(&[2], Data::Int64(vec![i64::MIN, 7]))),
            ("t", tensor(&[2, 1], Data::Bytes(text))),
            ("all", tensor(&[1, 1], Data::Uint64(vec![u64::MAX]))),
        ];
        let out = written(&[row(None, None), row(None, None)], &called(&["a", "b"]), outputs);
        let of = |row: usize| out["predictions"][row]["outputs"].clone();
        let text = serde_json::to_string(&of(0)["p"]).unwrap();
        assert_eq!(text, "[0.1,0.9]");
        assert_eq!(of(0)["n"], json!(i64::MIN));
        assert_eq!(
            of(1),
            json!({"p": [null, null], "n": 7, "t": ["\u{fffd}"], "all": [[u64::MAX]]})
        );
    }
}
