use std::sync::Arc;

use super::*;
use crate::batch::Cell;
use crate::model::tensor::{Data, Text};

fn spec(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
    TensorSpec {
        name: name.into(),
        datatype,
        shape: shape.to_vec(),
    }
}

fn signature(inputs: Vec<TensorSpec>) -> Signature {
    Signature {
        inputs,
        outputs: vec![spec("y", Datatype::Fp32, &[-1, 1])],
        crossed: false,
    }
}

fn schema(features: &[(&str, Datatype)]) -> Arc<Schema> {
    Arc::new(Schema::new(features.iter().map(|(name, datatype)| Feature {
        name: (*name).into(),
        datatype: *datatype,
    })))
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&n| n.into()).collect()
}

#[test]
fn columns_are_filled_by_name_in_the_versions_own_order() {
    let own = signature(vec![
        spec("day", Datatype::Bytes, &[-1, 1]),
        spec("price", Datatype::Fp32, &[-1, 1]),
    ]);
    let schema = schema(&[
        ("price", Datatype::Fp64),
        ("other", Datatype::Fp32),
        ("day", Datatype::Bytes),
    ]);
    let layout = Layout::bind_features(&own, None, &schema).unwrap();
    let mut batches = Vec::new();
    for (prices, days) in [(&[0.5, 1.5][..], &["1", "2"][..]), (&[2.5][..], &["3"][..])] {
        let mut rows = Rows::new(schema.clone(), prices.len());
        for (row, (price, day)) in prices.iter().zip(days).enumerate() {
            assert!(rows.set(row, 0, Cell::Float(*price)) && rows.set(row, 2, Cell::Text(day)));
        }
        batches.push(Batch::Features(rows));
    }
    let feeds = layout.feeds(&[(&batches[0], 1..2), (&batches[1], 0..1)]).unwrap();
    let mut text = Text::default();
    assert!(text.push(b"2") && text.push(b"3"));
    assert_eq!(feeds[0], Tensor::new(vec![2, 1], Data::Bytes(text)).unwrap());
    assert_eq!(feeds[1], Tensor::new(vec![2, 1], Data::Fp32(vec![1.5, 2.5])).unwrap());
    assert!(
        layout.feeds(&[(&batches[1], 0..2)]).is_err(),
        "more rows than there are"
    );
}

#[test]
fn a_matrix_takes_its_columns_in_the_declared_order_and_null_as_nan() {
    let own = signature(vec![spec("X", Datatype::Fp32, &[-1, 2])]);
    let declared = names(&["b", "a"]);
    let schema = schema(&[("a", Datatype::Int64), ("b", Datatype::Fp32)]);
    let layout = Layout::bind_features(&own, Some(&declared), &schema).unwrap();
    let mut rows = Rows::new(schema, 2);
    assert!(rows.set(0, 0, Cell::Int(7)) && rows.set(0, 1, Cell::Float(0.25)));
    rows.set_missing(1, 0);
    let batch = Batch::Features(rows);
    assert_eq!(
        (layout.uncovered(&batch, 0), layout.uncovered(&batch, 1)),
        (None, Some("b"))
    );
    assert!(layout.feeds(&[(&batch, 1..2)]).unwrap_err().contains("feature b"));
    let Batch::Features(mut rows) = batch else {
        unreachable!()
    };
    assert!(rows.set(1, 1, Cell::Float(1.0)));
    let batch = Batch::Features(rows);
    let feeds = layout.feeds(&[(&batch, 0..2)]).unwrap();
    let Data::Fp32(cells) = feeds[0].data() else {
        panic!("{feeds:?}")
    };
    assert_eq!(cells[..3], [0.25, 7.0, 1.0]);
    assert!(cells[3].is_nan());
}

#[test]
fn what_an_integer_cannot_hold_is_not_covered() {
    let own = signature(vec![
        spec("n", Datatype::Int8, &[-1, 1]),
        spec("x", Datatype::Fp64, &[-1, 1]),
    ]);
    let schema = schema(&[("n", Datatype::Fp32), ("x", Datatype::Fp32)]);
    let layout = Layout::bind_features(&own, None, &schema).unwrap();
    for (value, fits) in [
        (3.0, true),
        (-0.0, true),
        (2.5, false),
        (300.0, false),
        (f64::NAN, false),
        (1e30, false),
    ] {
        let mut rows = Rows::new(schema.clone(), 1);
        assert!(rows.set(0, 0, Cell::Float(value)) && rows.set(0, 1, Cell::Float(value)));
        let batch = Batch::Features(rows);
        assert_eq!(layout.uncovered(&batch, 0).is_none(), fits, "{value}");
        assert_eq!(layout.feeds(&[(&batch, 0..1)]).is_ok(), fits, "{value}");
    }
    let mut rows = Rows::new(schema, 1);
    rows.set_missing(0, 0);
    assert_eq!(layout.uncovered(&Batch::Features(rows), 0), Some("n"));
}

#[test]
fn features_need_names_that_fit() {
    let own = signature(vec![spec("X", Datatype::Fp16, &[-1, 2])]);
    assert!(Layout::features(&own, None).is_none());
    assert!(Layout::features(&own, Some(&names(&["a"]))).is_none());
    let features = Layout::features(&own, Some(&names(&["a", "b"]))).unwrap();
    assert_eq!((features[1].name.as_str(), features[1].datatype), ("b", Datatype::Fp32));
    let empty = Schema::default();
    for (names, why) in [
        (vec!["a".to_owned()], "features has 1 names, and input X has 2 columns"),
        (names(&["a", "a"]), "features names a twice"),
        (names(&["a", "b"]), "feature a is not one of the model's"),
    ] {
        assert_eq!(Layout::bind_features(&own, Some(&names), &empty).unwrap_err(), why);
    }
    let text = schema(&[("a", Datatype::Bytes), ("b", Datatype::Fp32)]);
    let why = Layout::bind_features(&own, Some(&names(&["a", "b"])), &text).unwrap_err();
    assert_eq!(why, "feature a is a number here and text in the model");
}

#[test]
fn a_tensors_version_that_differs_is_refused_by_name() {
    let interface = signature(vec![
        spec("ids", Datatype::Int64, &[-1, -1]),
        spec("mask", Datatype::Int64, &[-1, 8]),
    ]);
    let same = signature(vec![
        spec("mask", Datatype::Int64, &[-1, 8]),
        spec("ids", Datatype::Int64, &[-1, 16]),
    ]);
    assert!(Layout::bind_tensors(&same, &interface).is_ok());
    for (at, input, why) in [
        (
            0,
            spec("mask", Datatype::Int32, &[-1, 8]),
            "input mask is INT32 here and INT64 in the model",
        ),
        (
            0,
            spec("mask", Datatype::Int64, &[-1, 9]),
            "input mask has the shape [-1, 9] here",
        ),
        (
            1,
            spec("words", Datatype::Int64, &[-1, 16]),
            "the version has no input ids",
        ),
    ] {
        let mut other = same.clone();
        other.inputs[at] = input;
        let refused = Layout::bind_tensors(&other, &interface).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    let mut more = same.clone();
    more.inputs.push(spec("extra", Datatype::Fp32, &[-1]));
    assert!(
        Layout::bind_tensors(&more, &interface)
            .unwrap_err()
            .contains("no input extra")
    );
    let mut other = same;
    other.outputs[0].name = "z".into();
    assert!(
        Layout::bind_tensors(&other, &interface)
            .unwrap_err()
            .contains("no output y")
    );
}

#[test]
fn tensors_of_several_requests_are_joined_only_where_rows_may_be_merged() {
    let batch = |values: &[f32]| Batch::Tensors {
        inputs: vec![Tensor::new(vec![values.len(), 1], Data::Fp32(values.to_vec())).unwrap()],
        rows: values.len(),
    };
    let moving = signature(vec![spec("x", Datatype::Fp32, &[-1, 1])]);
    let fixed = signature(vec![spec("x", Datatype::Fp32, &[1, 1])]);
    let (a, b) = (batch(&[1.0, 2.0]), batch(&[3.0]));
    let layout = Layout::bind_tensors(&moving, &moving).unwrap();
    let feeds = layout.feeds(&[(&a, 1..2), (&b, 0..1)]).unwrap();
    assert_eq!(feeds[0], Tensor::new(vec![2, 1], Data::Fp32(vec![2.0, 3.0])).unwrap());
    let layout = Layout::bind_tensors(&fixed, &moving).unwrap();
    assert!(layout.feeds(&[(&a, 0..1), (&b, 0..1)]).is_err());
    let one = layout.feeds(&[(&a, 1..2)]).unwrap();
    assert_eq!(one[0], Tensor::new(vec![1, 1], Data::Fp32(vec![2.0])).unwrap());
}
