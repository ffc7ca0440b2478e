//! Hand-made files: what the walk refuses, and that no bytes bring it down.

use proptest::prelude::*;

use super::wire::{put_bytes, put_number};
use super::*;

fn message(parts: &[(u64, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, bytes) in parts {
        put_bytes(&mut out, *number, bytes);
    }
    out
}

fn model(graph: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_number(&mut out, 1, 8);
    put_bytes(&mut out, 7, graph);
    out
}

/// A graph holding a node whose attribute holds a graph, and so on.
fn nested(depth: usize) -> Vec<u8> {
    let mut graph = Vec::new();
    for _ in 1..depth {
        let attribute = message(&[(1, b"body"), (6, &graph)]);
        let node = message(&[(4, b"If"), (5, &attribute)]);
        graph = message(&[(1, &node)]);
    }
    model(&graph)
}

#[test]
fn nesting_beyond_the_limit_is_refused_by_name() {
    assert_eq!(scan(&nested(MAX_DEPTH)).unwrap().depth, MAX_DEPTH);
    let why = scan(&nested(MAX_DEPTH + 1)).unwrap_err().0;
    assert!(why.contains("nested deeper than 16"), "{why}");
    assert!(scan(&nested(5_000)).is_err());
}

#[test]
fn more_nodes_than_the_limit_are_refused_by_name() {
    let node = message(&[(4, b"Add")]);
    let mut graph = Vec::new();
    for _ in 0..=MAX_NODES {
        put_bytes(&mut graph, 1, &node);
    }
    let why = scan(&model(&graph)).unwrap_err().0;
    assert!(why.contains("more than 200000 nodes"), "{why}");
}

#[test]
fn operators_external_files_and_metadata_are_told() {
    let location = message(&[(1, b"location"), (2, b"m.onnx.data")]);
    let weight = message(&[(8, b"w"), (13, &location)]);
    let node = message(&[(4, b"Gemm"), (7, b"ai.onnx")]);
    let mut bytes = model(&message(&[(1, &node), (5, &weight), (5, &weight)]));
    let names = message(&[(1, b"feature_names"), (2, b"age, income")]);
    put_bytes(&mut bytes, 14, &names);
    let scan = scan(&bytes).unwrap();
    assert_eq!(scan.external, ["m.onnx.data"]);
    assert_eq!(scan.operators.get(":Gemm"), Some(&1));
    assert_eq!(scan.feature_names().unwrap(), ["age", "income"]);
}

#[test]
fn classes_are_read_packed_and_unpacked() {
    let mut unpacked = message(&[(1, b"classlabels_ints")]);
    put_number(&mut unpacked, 8, 0);
    put_number(&mut unpacked, 8, (-1i64).cast_unsigned());
    let packed = message(&[(1, b"classlabels_int64s"), (8, &[3, 4])]);
    let named = message(&[(1, b"classlabels_strings"), (9, b"DOWN"), (9, b"UP")]);
    for (attribute, classes) in [
        (unpacked, Classes::Ints(vec![0, -1])),
        (packed, Classes::Ints(vec![3, 4])),
        (named, Classes::Names(vec!["DOWN".into(), "UP".into()])),
    ] {
        let node = message(&[(4, b"LinearClassifier"), (7, b"ai.onnx.ml"), (5, &attribute)]);
        assert_eq!(scan(&model(&message(&[(1, &node)]))).unwrap().classes, Some(classes));
    }
}

#[test]
fn classes_come_from_metadata_constants_and_a_config_where_no_node_knows_them() {
    let mut constant = message(&[(8, b"classes"), (9, &2i64.to_le_bytes())]);
    put_number(&mut constant, 2, 7);
    let bytes = model(&message(&[(5, &constant)]));
    assert_eq!(scan(&bytes).unwrap().classes, Some(Classes::Ints(vec![2])));
    let params = br#"{"class_names":["no","yes"],"class_label_type":"String"}"#;
    let mut bytes = model(&[]);
    put_bytes(&mut bytes, 14, &message(&[(1, b"class_params"), (2, params)]));
    let names = Classes::Names(vec!["no".into(), "yes".into()]);
    assert_eq!(scan(&bytes).unwrap().classes, Some(names.clone()));
    assert_eq!(config_classes(r#"{"id2label": {"1": "yes", "0": "no"}}"#), Some(names));
    assert_eq!(config_classes(r#"{"id2label": {"7": "yes"}}"#), None);
}

#[test]
fn tensors_of_impossible_dimensions_are_refused_by_name() {
    for dims in [vec![-1], vec![1 << 32, 1 << 32], vec![1; 65], vec![i64::MAX]] {
        let mut tensor = message(&[(8, b"weight\n")]);
        for dim in &dims {
            put_number(&mut tensor, 1, dim.cast_unsigned());
        }
        let why = scan(&model(&message(&[(5, &tensor)]))).unwrap_err().0;
        assert!(
            why.starts_with("tensor weight claims the impossible dimensions"),
            "{why}"
        );
    }
}

#[test]
fn the_cut_keeps_every_other_byte() {
    let weights = message(&[(8, b"w"), (9, &[7; 300])]);
    let strange = message(&[(4, b"Relu"), (1, b"p"), (2, b"q"), (99, b"a field of tomorrow")]);
    let zipmap = message(&[(1, b"p"), (2, b"z"), (4, b"ZipMap"), (7, b"ai.onnx.ml")]);
    let maker = message(&[(1, b"x"), (2, b"p"), (4, b"Sigmoid")]);
    let output = message(&[(1, b"z")]);
    let mut bytes = model(&message(&[
        (5, &weights),
        (1, &maker),
        (1, &strange),
        (1, &zipmap),
        (12, &output),
        (98, b"more"),
    ]));
    put_bytes(&mut bytes, 97, b"and more");
    let cut = cut_zipmap(&bytes).unwrap().unwrap();
    let has = |part: &[u8]| cut.windows(part.len()).any(|window| window == part);
    let renamed = message(&[(4, b"Relu"), (1, b"z"), (2, b"q"), (99, b"a field of tomorrow")]);
    let made = message(&[(1, b"x"), (2, b"z"), (4, b"Sigmoid")]);
    for part in [weights.as_slice(), &renamed, &made, b"more", b"and more"] {
        assert!(has(part), "{part:?}");
    }
    assert!(!has(b"ZipMap"));
}

#[test]
fn a_file_without_zipmap_is_left_alone() {
    assert!(cut_zipmap(&nested(3)).unwrap().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = scan(&bytes);
        let _ = cut_zipmap(&model(&bytes));
    }

    #[test]
    fn a_cut_or_changed_file_gets_an_answer(cut in 0usize..400, at in 0usize..400, bit in 0u32..8) {
        let attribute = message(&[(1, b"classlabels_int64s"), (8, &[0, 1])]);
        let node = message(&[(1, b"p"), (2, b"z"), (4, b"ZipMap"), (7, b"ai.onnx.ml"), (5, &attribute)]);
        let output = message(&[(1, b"z")]);
        let mut bytes = model(&message(&[(1, &node), (12, &output)]));
        bytes.truncate(bytes.len().saturating_sub(cut % bytes.len()));
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let _ = scan(&bytes);
        let _ = cut_zipmap(&bytes);
    }
}

/// A graph with the initializers given, and `x` and `own` as its inputs.
fn with_initializers(tensors: &[Vec<u8>]) -> Vec<u8> {
    let (mut graph, mut model) = (Vec::new(), Vec::new());
    for tensor in tensors {
        wire::put_bytes(&mut graph, 5, tensor);
    }
    for name in ["x", "own"] {
        let mut info = Vec::new();
        wire::put_bytes(&mut info, 1, name.as_bytes());
        wire::put_bytes(&mut graph, 11, &info);
    }
    wire::put_bytes(&mut model, 7, &graph);
    model
}

fn initializer(name: &str, field: u64, bytes: &[u8]) -> Vec<u8> {
    let mut tensor = Vec::new();
    wire::put_number(&mut tensor, 1, bytes.len() as u64 / 4);
    wire::put_number(&mut tensor, 2, 1);
    wire::put_bytes(&mut tensor, 8, name.as_bytes());
    wire::put_bytes(&mut tensor, field, bytes);
    tensor
}

#[test]
fn weights_are_found_where_they_lie_but_for_small_ones_and_those_that_a_caller_may_replace() {
    let large: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let file = with_initializers(&[
        initializer("raw", 9, &large),
        initializer("small", 9, &[1, 2, 3, 4]),
        initializer("own", 9, &large),
        initializer("packed", 4, &large),
    ]);
    let found = weights(&file).unwrap();
    assert_eq!((found.bytes, found.external), (3 * large.len() + 4, false));
    let names: Vec<&str> = found.shared.iter().map(|weight| weight.name.as_str()).collect();
    assert_eq!((names, found.shared_bytes()), (vec!["raw", "packed"], 2 * large.len()));
    for weight in &found.shared {
        assert_eq!((&weight.dims, weight.element), (&vec![100_000], 1));
        assert_eq!(file.get(weight.bytes.clone()), Some(large.as_slice()));
    }
    let mut elsewhere = initializer("data", 9, &[]);
    wire::put_number(&mut elsewhere, 14, 1);
    assert!(weights(&with_initializers(&[elsewhere])).unwrap().external);
    assert!(weights(&file[..file.len() / 2]).is_err());
}
