//! The `/predict` reply, written straight into one buffer.

use serde::Serialize;

use super::backend::{Reply, RowReply};
use crate::each_data;
use crate::model::tensor::{Data, Tensor};
use crate::score::Score;

/// The body of a reply. Numbers are written with the fewest digits that read back the same; a raw output that is
/// not finite becomes `null`.
#[must_use]
pub(super) fn reply(model: &str, reply: &Reply) -> Vec<u8> {
    let mut out = Vec::with_capacity(192 + reply.rows.len() * 96);
    out.extend_from_slice(b"{\"model\":");
    json(&mut out, model);
    out.extend_from_slice(b",\"version\":");
    json(&mut out, &*reply.version);
    out.extend_from_slice(b",\"digest\":");
    json(&mut out, &*reply.digest);
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

fn row_reply(out: &mut Vec<u8>, reply: &Reply, at: usize, row: &RowReply) {
    out.extend_from_slice(b"{\"id\":");
    json(out, &row.id);
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
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::model::head::LabelValue;
    use crate::model::tensor::Text;

    fn row(id: &str, score: Option<Score>, label: Option<LabelValue>) -> RowReply {
        RowReply {
            id: id.into(),
            score,
            label,
            fallback: None,
        }
    }

    fn written(rows: Vec<RowReply>, outputs: Vec<(&str, Tensor)>) -> Value {
        let full = Reply {
            version: "v\"1".into(),
            digest: "sha256:00".into(),
            rows,
            outputs: outputs.into_iter().map(|(n, t)| (n.into(), t)).collect(),
            queue: Duration::ZERO,
            compute: Duration::ZERO,
        };
        serde_json::from_slice(&reply("elec2", &full)).unwrap()
    }

    #[test]
    fn a_reply_names_model_version_and_digest_and_has_a_row_per_row() {
        let mut b = row("b", Some(Score::Binary(0.1 + 0.2)), Some(LabelValue::Text("UP".into())));
        b.fallback = Some("old".into());
        let rows = vec![
            row("a", Some(Score::Binary(0.81)), Some(LabelValue::Int(1))),
            b,
            row("c", Some(Score::Classes([0.25, 0.75].into())), Some(LabelValue::Int(2))),
            row("d", Some(Score::Value(-1e300)), None),
        ];
        let expected = json!({"model": "elec2", "version": "v\"1", "digest": "sha256:00", "predictions": [
            {"id": "a", "score": 0.81, "label": 1},
            {"id": "b", "score": 0.1 + 0.2, "label": "UP", "fallback": "old"},
            {"id": "c", "scores": [0.25, 0.75], "label": 2},
            {"id": "d", "score": -1e300},
        ]});
        assert_eq!(written(rows, vec![]), expected);
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
        let out = written(vec![row("a", None, None), row("b", None, None)], outputs);
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
