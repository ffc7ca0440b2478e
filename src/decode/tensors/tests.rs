//! What `inputs` by tensor name reads, and what it refuses.

use super::*;

fn signature(inputs: &[(&str, Datatype, &[i64])]) -> Signature {
    let spec = |&(name, datatype, shape): &(&str, Datatype, &[i64])| TensorSpec {
        name: name.into(),
        datatype,
        shape: shape.to_vec(),
    };
    Signature {
        inputs: inputs.iter().map(spec).collect(),
        outputs: Vec::new(),
        crossed: false,
    }
}

fn one(raw: &str, datatype: Datatype, shape: &[i64]) -> Result<Tensor, Error> {
    let signature = signature(&[("x", datatype, shape)]);
    match tensors(&format!("{{\"x\":{raw}}}"), &signature, rules(100))? {
        Batch::Tensors { mut inputs, .. } => Ok(inputs.remove(0)),
        Batch::Features(_) => unreachable!(),
    }
}

#[test]
fn nested_and_flat_lists_give_the_same_tensor() {
    let nested = one("[[1,2,3],[4,5,6]]", Datatype::Fp32, &[-1, 3]).unwrap();
    assert_eq!(nested.shape(), [2, 3]);
    assert_eq!(one("[1,2,3,4,5,6]", Datatype::Fp32, &[-1, 3]).unwrap(), nested);
    assert_eq!(one("7", Datatype::Int64, &[]).unwrap().shape(), [0usize; 0]);
    assert_eq!(
        one("[[[1],[2]]]", Datatype::Int64, &[-1, -1, 1]).unwrap().shape(),
        [1, 2, 1]
    );
}

#[test]
fn several_rows_may_be_sent_where_the_file_takes_one_at_a_time() {
    let read = |inputs: &[(&str, Datatype, &[i64])], raw: &str| {
        let batch = tensors(raw, &signature(inputs), rules(100))?;
        Ok::<_, Error>(batch.rows())
    };
    let x: &[(&str, Datatype, &[i64])] = &[("x", Datatype::Fp32, &[1, 2])];
    assert_eq!(read(x, r#"{"x":[[1,2],[3,4],[5,6]]}"#).unwrap(), 3);
    assert_eq!(read(x, r#"{"x":[[1,2]]}"#).unwrap(), 1);
    assert_eq!(read(x, r#"{"x":[1,2]}"#).unwrap(), 1);
    assert_eq!(read(x, r#"{"x":[[1,2,3]]}"#).unwrap_err().kind, Kind::WrongShape);
    assert_eq!(read(x, r#"{"x":[]}"#).unwrap_err().kind, Kind::EmptyRequest);
    let two: &[(&str, Datatype, &[i64])] = &[("x", Datatype::Fp32, &[1, 2]), ("y", Datatype::Fp32, &[1, 1])];
    assert_eq!(read(two, r#"{"x":[[1,2],[3,4]],"y":[[1],[2]]}"#).unwrap(), 2);
    assert_eq!(
        read(two, r#"{"x":[[1,2],[3,4]],"y":[[1]]}"#).unwrap_err().kind,
        Kind::WrongShape
    );
    // A vector of one element is no row, and one input that is none keeps all together.
    let vector: &[(&str, Datatype, &[i64])] = &[("x", Datatype::Fp32, &[1, 2]), ("y", Datatype::Fp32, &[1])];
    assert_eq!(
        read(vector, r#"{"x":[[1,2],[3,4]],"y":[1]}"#).unwrap_err().kind,
        Kind::WrongShape
    );
}

#[test]
fn integers_are_exact_beyond_what_a_double_holds() {
    let t = one("[9007199254740993,-9223372036854775808]", Datatype::Int64, &[-1]).unwrap();
    assert_eq!(t.data(), &Data::Int64(vec![9_007_199_254_740_993, i64::MIN]));
    let t = one("[18446744073709551615,1.0]", Datatype::Uint64, &[-1]).unwrap();
    assert_eq!(t.data(), &Data::Uint64(vec![u64::MAX, 1]));
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    use Datatype::{Bool, Bytes, Fp16, Fp32, Int8, Int64, Uint64};
    for (raw, datatype, shape, kind) in [
        ("[[1,2],[3]]", Fp32, &[-1, 2][..], Kind::WrongShape),
        ("[[1],2]", Fp32, &[-1, 1], Kind::WrongShape),
        ("[1,[2]]", Fp32, &[-1, 1], Kind::WrongShape),
        ("[[],[1]]", Fp32, &[-1, 1], Kind::WrongShape),
        ("[[],1]", Fp32, &[-1], Kind::WrongShape),
        ("[[[1]],[1]]", Fp32, &[-1, -1, 1], Kind::WrongShape),
        ("[1,2,3,4]", Fp32, &[-1, 3], Kind::WrongShape),
        ("[1,2]", Fp32, &[-1, -1], Kind::WrongShape),
        ("[1,2]", Fp32, &[-1, 0], Kind::WrongShape),
        ("[[1,2]]", Fp32, &[-1, 3], Kind::WrongShape),
        ("1", Fp32, &[-1], Kind::WrongShape),
        ("[]", Fp32, &[-1], Kind::EmptyRequest),
        ("[1e39]", Fp32, &[-1], Kind::WrongType),
        ("[1e999]", Fp32, &[-1], Kind::WrongType),
        ("[null]", Fp32, &[-1], Kind::WrongType),
        ("[\"1\"]", Fp32, &[-1], Kind::WrongType),
        ("[true]", Fp32, &[-1], Kind::WrongType),
        ("[{}]", Fp32, &[-1], Kind::WrongType),
        ("[1.5]", Int64, &[-1], Kind::WrongType),
        ("[9223372036854775808]", Int64, &[-1], Kind::WrongType),
        ("[1e300]", Int64, &[-1], Kind::WrongType),
        ("[-1]", Uint64, &[-1], Kind::WrongType),
        ("[128]", Int8, &[-1], Kind::WrongType),
        ("[1]", Bool, &[-1], Kind::WrongType),
        ("[1]", Bytes, &[-1], Kind::WrongType),
        ("[1]", Fp16, &[-1], Kind::WrongType),
        ("[\"\\ud800\"]", Bytes, &[-1], Kind::MalformedJson),
    ] {
        let e = one(raw, datatype, shape).unwrap_err();
        assert_eq!(e.kind, kind, "{raw}: {e}");
        assert!(e.kind == Kind::EmptyRequest || e.message.contains("'x'"), "{raw}: {e}");
    }
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    assert_eq!(one(&deep, Fp32, &[-1]).unwrap_err().kind, Kind::WrongShape);
}

#[test]
fn inputs_are_found_by_name_and_agree_on_rows() {
    let s = signature(&[("a", Datatype::Fp32, &[-1, 2]), ("b", Datatype::Int64, &[-1])]);
    let kind = |raw: &str| tensors(raw, &s, rules(3)).map(|b| b.rows()).map_err(|e| e.kind);
    assert_eq!(kind(r#"{"b":[1,2],"a":[[1,2],[3,4]]}"#), Ok(2));
    assert_eq!(kind(r#"{"b":[1],"a":[[1,2],[3,4]]}"#), Err(Kind::WrongShape));
    assert_eq!(kind(r#"{"a":[[1,2]]}"#), Err(Kind::MissingFeature));
    assert_eq!(kind(r#"{"a":[[1,2]],"c":[1]}"#), Err(Kind::UnknownFeature));
    assert_eq!(kind(r#"{"a":[[1,2]],"a":[[1,2]],"b":[1]}"#), Err(Kind::DuplicateKey));
    assert_eq!(kind(r#"{"b":[1,2,3,4],"a":[1,2,3,4,5,6,7,8]}"#), Err(Kind::TooManyRows));
    assert_eq!(kind("[1]"), Err(Kind::WrongType));
}

fn rules(max_rows: usize) -> crate::decode::Rules {
    crate::decode::Rules {
        missing: crate::decode::Missing::Reject,
        unknown: crate::decode::Unknown::Ignore,
        max_rows,
    }
}

#[test]
fn null_is_missing_only_for_floats_and_only_where_the_model_says_so() {
    let read = |datatype, missing| {
        let rules = Rules { missing, ..rules(9) };
        tensors("{\"x\":[[null,1]]}", &signature(&[("x", datatype, &[-1, 2])]), rules)
    };
    let Batch::Tensors { inputs, .. } = read(Datatype::Fp32, Missing::Nan).unwrap() else {
        unreachable!()
    };
    assert!(inputs[0].data().number(0).unwrap().is_nan());
    assert!(
        read(Datatype::Fp32, Missing::Reject)
            .unwrap_err()
            .message
            .contains("missing = \"nan\"")
    );
    assert!(read(Datatype::Int64, Missing::Nan).is_err());
}
