//! Properties of every reader: no input panics, and what is accepted is what a slow reader finds.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::batch::{Batch, Cell, Feature, Presence, Schema};
use crate::model::signature::{Signature, TensorSpec};
use crate::model::tensor::{Data, Datatype};

const NAMES: [(&str, Datatype); 4] = [
    ("f", Datatype::Fp32),
    ("d", Datatype::Fp64),
    ("i", Datatype::Int64),
    ("s", Datatype::Bytes),
];
const RULES: Rules = Rules {
    missing: Missing::Nan,
    unknown: Unknown::Ignore,
    max_rows: 64,
};

fn schema() -> Arc<Schema> {
    Arc::new(Schema::new(NAMES.map(|(name, datatype)| Feature {
        name: name.into(),
        datatype,
    })))
}

fn signature() -> Signature {
    let spec = |(name, datatype): (&str, Datatype)| TensorSpec {
        name: name.into(),
        datatype,
        shape: vec![-1, 2],
    };
    Signature {
        inputs: NAMES.map(spec).to_vec(),
        outputs: Vec::new(),
        crossed: false,
    }
}

/// Every reader, on bytes that may be anything.
fn read_all(body: &[u8]) {
    let schema = schema();
    if let Ok(mut read) = PredictBody::parse(body) {
        let _ = (read.outputs(), read.keys(1), read.source());
    }
    if let Ok(text) = std::str::from_utf8(body) {
        let _ = instances(text, &schema, &[0, 1, 2, 3], RULES);
        let _ = columns(text, &schema, RULES);
        let _ = tensors(text, &signature(), rules(64));
    }
    let _ = (feedback(body, 64), feedback_line(body));
}

/// A valid row: features in any order, some left out, some unknown.
fn row() -> impl Strategy<Value = Vec<(String, Value)>> {
    let f = prop_oneof![
        any::<f32>()
            .prop_filter("finite", |x| x.is_finite())
            .prop_map(|x| json!(x)),
        any::<i32>().prop_map(|x| json!(x)),
        Just(Value::Null)
    ];
    let d = prop_oneof![
        any::<f64>()
            .prop_filter("finite", |x| x.is_finite())
            .prop_map(|x| json!(x)),
        any::<u64>().prop_map(|x| json!(x))
    ];
    let keys = (
        proptest::option::of(f.prop_map(|v| ("f".to_owned(), v))),
        proptest::option::of(d.prop_map(|v| ("d".to_owned(), v))),
        proptest::option::of(any::<i64>().prop_map(|v| ("i".to_owned(), json!(v)))),
        proptest::option::of(any::<String>().prop_map(|v| ("s".to_owned(), json!(v)))),
        proptest::option::of(Just(("other".to_owned(), json!([{"deep": [null]}])))),
    );
    keys.prop_map(|(a, b, c, d, e)| [a, b, c, d, e].into_iter().flatten().collect())
        .prop_shuffle()
}

fn object(row: &[(String, Value)]) -> String {
    let pairs: Vec<String> = row.iter().map(|(k, v)| format!("{}:{v}", json!(k))).collect();
    format!("{{{}}}", pairs.join(" , "))
}

/// What a slow reader makes of a cell.
fn same(rows: &crate::batch::Rows, at: usize, feature: u32, sent: Option<&Value>) -> bool {
    match (sent, rows.get(at, feature)) {
        (None, None) => rows.presence(at, feature) == Presence::Absent,
        (Some(Value::Null), None) => rows.presence(at, feature) == Presence::Missing,
        (Some(v), Some(Cell::Float(x))) => v.as_f64() == Some(x),
        (Some(v), Some(Cell::Int(x))) => v.as_i64() == Some(x),
        (Some(v), Some(Cell::Text(x))) => v.as_str() == Some(x),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn doubles_are_read_to_the_last_bit(bits in any::<u64>(), digits in "[0-9]{1,25}\\.[0-9]{1,25}e-?[0-9]{1,2}") {
        for text in [format!("{:e}", f64::from_bits(bits)), digits] {
            let exact: f64 = text.parse().unwrap();
            let lead = text.trim_start_matches('-');
            let is_json = exact.is_finite() && (!lead.starts_with('0') || lead.starts_with("0."));
            if !is_json {
                continue;
            }
            let rows = instances(&format!("[{{\"d\":{text}}}]"), &schema(), &[], RULES).unwrap();
            let Some(Cell::Float(read)) = rows.get(0, 1) else { panic!("{text}") };
            prop_assert_eq!(read.to_bits(), exact.to_bits(), "{}", text);
        }
    }

    #[test]
    fn rows_are_what_a_slow_reader_finds(rows in prop::collection::vec(row(), 1..8)) {
        let text = format!("[{}]", rows.iter().map(|r| object(r)).collect::<Vec<_>>().join(","));
        let slow: Vec<serde_json::Map<String, Value>> = serde_json::from_str(&text).unwrap();
        let fast = instances(&text, &schema(), &[], RULES).unwrap();
        prop_assert_eq!(fast.len(), slow.len());
        for (at, slow) in slow.iter().enumerate() {
            for (feature, (name, _)) in (0u32..).zip(NAMES) {
                prop_assert!(same(&fast, at, feature, slow.get(name)), "row {} {} of {}", at, name, text);
            }
        }
    }

    #[test]
    fn tensors_and_columns_are_what_was_sent(values in prop::collection::vec((any::<f32>(), any::<i64>()), 1..20)) {
        let values: Vec<(f32, i64)> = values.into_iter().filter(|(f, _)| f.is_finite()).collect();
        prop_assume!(!values.is_empty());
        let (f, i): (Vec<f32>, Vec<i64>) = values.iter().copied().unzip();
        let two = |v: Value| json!([v, v]);
        let shapes = json!({
            "f": f.iter().map(|x| two(json!(x))).collect::<Vec<_>>(),
            "d": f.iter().flat_map(|x| [x, x]).collect::<Vec<_>>(),
            "i": i.iter().map(|x| two(json!(x))).collect::<Vec<_>>(),
            "s": i.iter().map(|x| two(json!(x.to_string()))).collect::<Vec<_>>(),
        });
        let Batch::Tensors { inputs, rows } = tensors(&shapes.to_string(), &signature(), rules(64)).unwrap() else {
            panic!("not tensors")
        };
        prop_assert_eq!(rows, values.len());
        prop_assert_eq!(inputs[0].data(), &Data::Fp32(f.iter().flat_map(|x| [*x, *x]).collect()));
        prop_assert_eq!(inputs[1].shape(), &[rows, 2]);
        prop_assert_eq!(inputs[2].data(), &Data::Int64(i.iter().flat_map(|x| [*x, *x]).collect()));
        let by_column = json!({"i": i, "f": f.iter().map(|x| [x]).collect::<Vec<_>>()});
        let read = columns(&by_column.to_string(), &schema(), RULES).unwrap();
        for (row, (f, i)) in values.iter().enumerate() {
            prop_assert_eq!(read.get(row, 0), Some(Cell::Float(f64::from(*f))));
            prop_assert_eq!(read.get(row, 2), Some(Cell::Int(*i)));
        }
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        read_all(text.as_bytes());
    }
}

/// Bodies that reach every branch when bent a little.
const CORPUS: [&str; 10] = [
    r#"{"model":"m","instances":[{"f":0.5,"d":1e10,"i":7,"s":"x"}],"ids":["a"],"context":[{"k":1}],"outputs":["y"]}"#,
    r#"[{"f":0.5,"d":1e10,"i":-7,"s":"\u00e4\ud83d\ude00"},{"s":"","f":null}]"#,
    r#"[[0.5,1e10,7,"x"],[1,2,3,"y"]]"#,
    r#"{"f":[1,2],"d":[[1],[2]],"i":[3,4],"s":["a","b"]}"#,
    r#"{"f":[[1,2]],"d":[1,2],"i":[[9007199254740993,-1]],"s":[["a","b"]]}"#,
    r#"{"model":"m","labels":[{"id":"a","label":1,"weight":0.5,"rewards":{"0":-1,"1":0.3}},{"id":"b"}]}"#,
    r#"{"id":"a","label":"UP","model":"m"}"#,
    r#"{"inputs":{"f":[NaN,-Infinity,1e999]}}"#,
    "\u{feff}{}",
    r#"{"f":[[[[[[]]]]]],"f":{},"outputs":[[],{}],"shadow":1}"#,
];

/// A small generator, so that a failure is repeated from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % n.max(1)
    }
}

fn bend(random: &mut Random, body: &mut Vec<u8>) {
    const PIECES: [&[u8]; 12] = [
        b"[",
        b"]",
        b"{",
        b"}",
        b",",
        b":",
        b"\"",
        b"null",
        b"1e999",
        b"\\ud800",
        b"\xff",
        b"-9223372036854775809",
    ];
    let at = random.below(body.len() + 1);
    match random.below(5) {
        0 if at < body.len() => body[at] = u8::try_from(random.below(256)).unwrap(),
        1 if at < body.len() => drop(body.remove(at)),
        2 => body.truncate(at),
        3 => {
            let copy = body[at..].to_vec();
            body.extend_from_slice(&copy[..copy.len().min(200)]);
        }
        _ => drop(body.splice(at..at, PIECES[random.below(PIECES.len())].iter().copied())),
    }
}

#[test]
fn no_bent_body_panics() {
    for seed in 1..=20_000u64 {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut body = CORPUS[random.below(CORPUS.len())].as_bytes().to_vec();
        for _ in 0..=random.below(4) {
            bend(&mut random, &mut body);
        }
        let read = std::panic::catch_unwind(|| read_all(&body));
        assert!(read.is_ok(), "seed {seed}: {}", String::from_utf8_lossy(&body));
    }
}

fn rules(max_rows: usize) -> crate::decode::Rules {
    crate::decode::Rules {
        missing: crate::decode::Missing::Reject,
        unknown: crate::decode::Unknown::Ignore,
        max_rows,
    }
}
