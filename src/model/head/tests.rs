use serde_json::json;

use super::*;
use crate::model::signature::TensorSpec;
use crate::model::tensor::{Data, Datatype, Text};

fn spec(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
    TensorSpec {
        name: name.into(),
        datatype,
        shape: shape.to_vec(),
    }
}

fn floats(shape: &[usize], data: &[f32]) -> Tensor {
    Tensor::new(shape.to_vec(), Data::Fp32(data.to_vec())).unwrap()
}

fn ints(data: &[i64]) -> Tensor {
    Tensor::new(vec![data.len()], Data::Int64(data.to_vec())).unwrap()
}

/// A head found on outputs named here, which are the probe too.
fn find(outputs: &[(&str, Tensor)], classes: Option<Classes>, settings: &HeadSettings) -> Result<Head, String> {
    let signature = Signature {
        inputs: vec![spec("X", Datatype::Fp32, &[-1, 2])],
        outputs: outputs
            .iter()
            .map(|(name, t)| spec(name, t.datatype(), &[-1]))
            .collect(),
        crossed: false,
    };
    let scan = Scan {
        classes,
        ..Scan::default()
    };
    let rows = outputs.iter().map(|(_, t)| t.rows()).max().unwrap_or(0);
    let probe: Vec<Tensor> = outputs.iter().map(|(_, t)| t.clone()).collect();
    Head::find(&signature, &scan, &probe, rows, settings)
}

fn two_columns(settings: &HeadSettings, classes: Classes) -> Head {
    let outputs = [
        ("label", ints(&[0, 1])),
        ("probabilities", floats(&[2, 2], &[0.75, 0.25, 0.1, 0.9])),
    ];
    find(&outputs, Some(classes), settings).unwrap()
}

#[test]
fn only_the_scores_are_asked_for_and_the_second_class_is_the_positive_one() {
    let head = two_columns(&HeadSettings::default(), Classes::Ints(vec![0, 1]));
    assert_eq!((head.task, head.wanted()), (Some(Task::Binary), &[1][..]));
    let scores = head.read(&[floats(&[2, 2], &[0.75, 0.25, 0.1, 0.9])], 2);
    assert_eq!(scores, [Ok(Score::Binary(0.25)), Ok(Score::Binary(f64::from(0.9f32)))]);
    let labels: Vec<_> = scores.iter().map(|score| head.label(score.as_ref().unwrap())).collect();
    assert_eq!(labels, [LabelValue::Int(0), LabelValue::Int(1)]);
}

#[test]
fn the_positive_class_may_be_the_first_and_truth_follows() {
    let settings = HeadSettings {
        positive: Some("DOWN".into()),
        threshold: 0.7,
        ..HeadSettings::default()
    };
    let head = two_columns(&settings, Classes::Names(vec!["DOWN".into(), "UP".into()]));
    let scores = head.read(&[floats(&[2, 2], &[0.75, 0.25, 0.6, 0.4])], 2);
    assert_eq!(scores[0], Ok(Score::Binary(0.75)));
    assert_eq!(head.label(scores[0].as_ref().unwrap()), LabelValue::Text("DOWN".into()));
    assert_eq!(head.label(scores[1].as_ref().unwrap()), LabelValue::Text("UP".into()));
    assert_eq!(head.truth(&json!("DOWN")), Ok(Truth::Class(1)));
    assert_eq!(head.truth(&json!("UP")), Ok(Truth::Class(0)));
    assert_eq!(
        head.truth(&json!(true)),
        Ok(Truth::Class(1)),
        "true is the positive class, wherever it stands"
    );
    let unknown = HeadSettings {
        positive: Some("LEFT".into()),
        ..HeadSettings::default()
    };
    let outputs = [("probabilities", floats(&[1, 2], &[0.5, 0.5]))];
    let why = find(&outputs, Some(Classes::Ints(vec![3, 4])), &unknown).unwrap_err();
    assert_eq!(why, "positive = \"LEFT\" is none of the classes 3, 4");
}

#[test]
fn labels_are_taken_as_clients_write_them_and_nothing_else() {
    let head = two_columns(&HeadSettings::default(), Classes::Ints(vec![0, 1]));
    for (label, class) in [(json!(1), 1), (json!(0.0), 0), (json!(true), 1), (json!(false), 0)] {
        assert_eq!(head.truth(&label), Ok(Truth::Class(class)), "{label}");
    }
    for label in [
        json!(2),
        json!(0.5),
        json!("1"),
        json!(null),
        json!([1]),
        json!({"a": 1}),
    ] {
        assert!(
            head.truth(&label).unwrap_err().contains("none of the classes 0, 1"),
            "{label}"
        );
    }
    let digits = two_columns(&HeadSettings::default(), Classes::Names(vec!["7".into(), "8".into()]));
    assert_eq!(digits.truth(&json!(8)), Ok(Truth::Class(1)));
    assert!(digits.truth(&json!(1)).is_err(), "an index is no name");
}

#[test]
fn a_regression_takes_finite_numbers() {
    let head = find(
        &[("variable", floats(&[2, 1], &[3.5, -4.0]))],
        None,
        &HeadSettings::default(),
    )
    .unwrap();
    assert_eq!(head.task, Some(Task::Regression));
    let scores = head.read(&[floats(&[2], &[3.5, f32::NAN])], 2);
    assert_eq!(scores, [Ok(Score::Value(3.5)), Err("the score is not finite".into())]);
    assert_eq!(head.label(&Score::Value(3.5)), LabelValue::Number(3.5));
    assert_eq!(head.truth(&json!(-2)), Ok(Truth::Value(-2.0)));
    assert!(head.truth(&json!("x")).is_err() && head.truth(&json!(true)).is_err());
}

#[test]
fn a_margin_is_never_taken_for_a_probability() {
    let outputs = [
        ("label", ints(&[0, 1])),
        ("probabilities", floats(&[2, 1], &[-1.5, 2.0])),
    ];
    let classes = Some(Classes::Ints(vec![0, 1]));
    let why = find(&outputs, classes.clone(), &HeadSettings::default()).unwrap_err();
    assert!(why.contains("link = \"logit\""), "{why}");
    let logit = HeadSettings {
        link: Some(Link::Logit),
        ..HeadSettings::default()
    };
    let head = find(&outputs, classes, &logit).unwrap();
    let scores = head.read(&[floats(&[2, 1], &[0.0, 800.0])], 2);
    assert_eq!(scores, [Ok(Score::Binary(0.5)), Ok(Score::Binary(1.0))]);

    // One that hid inside [0, 1] during the probe fails row by row.
    let small = [
        ("label", ints(&[0, 1])),
        ("probabilities", floats(&[2, 1], &[0.25, 0.5])),
    ];
    let head = find(&small, None, &HeadSettings::default()).unwrap();
    assert!(
        head.read(&[floats(&[1, 1], &[3.0])], 1)[0]
            .as_ref()
            .unwrap_err()
            .contains("not a probability")
    );
}

#[test]
fn logits_of_classes_need_a_link_and_get_a_stable_softmax() {
    let outputs = [("logits", floats(&[1, 3], &[1000.0, 0.0, -1000.0]))];
    let unread = find(&outputs, None, &HeadSettings::default()).unwrap();
    let why = unread.remedy.unwrap_or_default();
    assert!(unread.task.is_none() && why.contains("link = \"softmax\""), "{why}");
    let softmax = HeadSettings {
        link: Some(Link::Softmax),
        ..HeadSettings::default()
    };
    let head = find(&outputs, None, &softmax).unwrap();
    let scores = head.read(&[floats(&[1, 3], &[1000.0, 0.0, -1000.0])], 1);
    assert_eq!(scores, [Ok(Score::Classes(Box::new([1.0, 0.0, 0.0])))]);
    assert_eq!(head.label(scores[0].as_ref().unwrap()), LabelValue::Int(0));
    let binary = HeadSettings {
        task: Some(Task::Binary),
        ..HeadSettings::default()
    };
    let outputs = [("probabilities", floats(&[1, 3], &[0.5, 0.25, 0.25]))];
    assert!(
        find(&outputs, None, &binary)
            .unwrap_err()
            .contains("does not fit 3 classes")
    );
}

#[test]
fn an_embedding_has_no_task_and_only_raw_outputs() {
    let outputs = [("last_hidden_state", floats(&[1, 4], &[0.3, -2.0, 1.0, 0.5]))];
    let head = find(&outputs, None, &HeadSettings::default()).unwrap();
    assert_eq!((head.task, head.wanted()), (None, &[][..]));
    assert!(head.read(&[], 2).iter().all(Result::is_err));
    assert!(head.truth(&json!(1)).is_err());
}

#[test]
fn a_detector_is_no_classifier() {
    let outputs = [
        ("scores", floats(&[1, 4], &[0.9, 0.8, 0.1, 0.0])),
        ("num_detections", ints(&[2])),
    ];
    let head = find(&outputs, None, &HeadSettings::default()).unwrap();
    assert_eq!(head.task, None);
}

#[test]
fn labels_without_scores_are_hard_scores() {
    let mut text = Text::default();
    assert!(text.push(b"UP") && text.push(b"DOWN"));
    let label = Tensor::new(vec![2], Data::Bytes(text)).unwrap();
    let classes = Classes::Names(vec!["DOWN".into(), "UP".into()]);
    let head = find(&[("label", label.clone())], Some(classes), &HeadSettings::default()).unwrap();
    assert_eq!(head.read(&[label], 2), [Ok(Score::Binary(1.0)), Ok(Score::Binary(0.0))]);
    let head = find(&[("label", ints(&[0, 1, 1]))], None, &HeadSettings::default()).unwrap();
    assert_eq!(head.read(&[ints(&[1])], 1), [Ok(Score::Binary(1.0))]);
    assert!(head.read(&[ints(&[5])], 1)[0].is_err(), "a label that is no class");
}

#[test]
fn a_column_of_several_targets_can_be_chosen() {
    let outputs = [("variable", floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0]))];
    let choose = |name: &str| HeadSettings {
        task: Some(Task::Regression),
        score_output: Some(name.into()),
        ..HeadSettings::default()
    };
    assert!(
        find(&outputs, None, &choose("variable"))
            .unwrap_err()
            .contains("score_output = \"variable[0]\"")
    );
    let head = find(&outputs, None, &choose("variable[1]")).unwrap();
    assert_eq!(
        head.read(&[outputs[0].1.clone()], 2),
        [Ok(Score::Value(2.0)), Ok(Score::Value(4.0))]
    );
    assert!(
        find(&outputs, None, &choose("variable[2]"))
            .unwrap_err()
            .contains("2 columns")
    );
    assert!(
        find(&outputs, None, &choose("other"))
            .unwrap_err()
            .contains("none of the outputs")
    );
}

#[test]
fn outputs_of_another_size_fail_every_row_and_do_not_shift() {
    let head = two_columns(&HeadSettings::default(), Classes::Ints(vec![0, 1]));
    let scores = head.read(&[floats(&[1, 2], &[0.5, 0.5])], 2);
    assert!(scores.len() == 2 && scores.iter().all(Result::is_err));
    assert!(head.read(&[], 3).iter().all(Result::is_err));
}
