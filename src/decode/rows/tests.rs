//! What `instances` reads, and what it refuses in which words.

use super::*;
use crate::batch::Feature;

const STRICT: Rules = Rules {
    missing: Missing::Reject,
    unknown: Unknown::Reject,
    max_rows: 4,
};
const LAX: Rules = Rules {
    missing: Missing::Nan,
    unknown: Unknown::Ignore,
    max_rows: 4,
};

fn schema() -> Arc<Schema> {
    let feature = |(name, datatype): (&str, Datatype)| Feature {
        name: name.into(),
        datatype,
    };
    let features = [
        ("period", Datatype::Fp32),
        ("n", Datatype::Int64),
        ("day", Datatype::Bytes),
        ("exact", Datatype::Fp64),
    ];
    Arc::new(Schema::new(features.map(feature)))
}

fn read(raw: &str, rules: Rules) -> Result<Rows, Error> {
    instances(raw, &schema(), &[0, 1, 2, 3], rules)
}

#[test]
fn objects_and_lists_give_the_same_rows() {
    let a = read(
        r#"[{"day":"mo","period":0.5,"n":7},{"n":1.0,"day":"\u0064i","period":1}]"#,
        STRICT,
    )
    .unwrap();
    assert_eq!(
        (a.len(), a.get(0, 0), a.get(0, 1)),
        (2, Some(Cell::Float(0.5)), Some(Cell::Int(7)))
    );
    assert_eq!((a.get(1, 1), a.get(1, 2)), (Some(Cell::Int(1)), Some(Cell::Text("di"))));
    assert_eq!(a.presence(0, 3), Presence::Absent);
    let b = read(r#"[[0.5,7,"mo",1e300]]"#, STRICT).unwrap();
    assert_eq!(
        (b.get(0, 2), b.get(0, 3)),
        (Some(Cell::Text("mo")), Some(Cell::Float(1e300)))
    );
}

#[test]
fn rows_may_change_the_order_and_the_set_of_their_keys() {
    let rows = read(
        r#"[{"period":1,"n":2},{"n":3,"period":4},{"x":[{}],"n":5},{"exact":6,"period":7,"day":"8","n":9}]"#,
        LAX,
    )
    .unwrap();
    let ints: Vec<_> = (0..4).map(|r| rows.get(r, 1)).collect();
    assert_eq!(ints, [2, 3, 5, 9].map(|x| Some(Cell::Int(x))));
    assert_eq!(
        (rows.presence(2, 0), rows.get(3, 2)),
        (Presence::Absent, Some(Cell::Text("8")))
    );
}

#[test]
fn null_is_missing_only_where_the_model_says_so() {
    let rows = read(r#"[{"period":null,"exact":null}]"#, LAX).unwrap();
    assert_eq!(
        (rows.presence(0, 0), rows.presence(0, 3)),
        (Presence::Missing, Presence::Missing)
    );
    assert_eq!(read(r#"[{"period":null}]"#, STRICT).unwrap_err().kind, Kind::WrongType);
    assert_eq!(read(r#"[{"n":null}]"#, LAX).unwrap_err().kind, Kind::WrongType);
    assert_eq!(read(r#"[{"day":null}]"#, LAX).unwrap_err().kind, Kind::WrongType);
}

#[test]
fn a_bad_row_is_refused_with_its_row_its_feature_and_a_remedy() {
    for (raw, kind, says) in [
        (
            r#"[{"n":1},{"period":"0.5"}]"#,
            Kind::WrongType,
            "row 1, feature 'period': FP32",
        ),
        (
            r#"[{"day":5}]"#,
            Kind::WrongType,
            "feature 'day': BYTES was expected, the number 5",
        ),
        (r#"[{"period":true}]"#, Kind::WrongType, "send 0 or 1"),
        (r#"[{"period":[1]}]"#, Kind::WrongType, "a list"),
        (r#"[{"period":{"a":1}}]"#, Kind::WrongType, "an object"),
        (r#"[{"period":1e39}]"#, Kind::WrongType, "out of range for FP32"),
        (
            r#"[{"n":1},{"exact":1e999}]"#,
            Kind::WrongType,
            "row 1, feature 'exact'",
        ),
        (r#"[{"n":1.5}]"#, Kind::WrongType, "integer"),
        (r#"[{"n":9223372036854775808}]"#, Kind::WrongType, "INT64"),
        (
            r#"[{"n":1,"n":2}]"#,
            Kind::DuplicateKey,
            "row 0, feature 'n': sent twice",
        ),
        (r#"[{"perod":1}]"#, Kind::UnknownFeature, "did you mean 'period'?"),
        (r#"[{"\ud800":1}]"#, Kind::MalformedJson, "hex escape"),
        (r#"[{"day":"\udc00"}]"#, Kind::MalformedJson, "row 0, feature 'day'"),
        (
            r#"[[1,2]]"#,
            Kind::WrongShape,
            "2 values were sent where the model has 4",
        ),
        (r#"[[1,2,"3",4,5]]"#, Kind::WrongShape, "5 values"),
        (r#"[5]"#, Kind::WrongType, "row 0"),
        (r#"{"n":5}"#, Kind::WrongType, "a list of rows"),
        ("[]", Kind::EmptyRequest, "no row"),
        ("[{},{},{},{},{}]", Kind::TooManyRows, "at most 4"),
    ] {
        let e = read(raw, STRICT).unwrap_err();
        assert_eq!(e.kind, kind, "{raw}: {e}");
        assert!(e.message.contains(says), "{raw}: {e}");
    }
    assert!(
        instances("[[1]]", &schema(), &[], LAX)
            .unwrap_err()
            .message
            .contains("no column order")
    );
}
