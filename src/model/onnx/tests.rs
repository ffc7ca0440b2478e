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
    let weight = |name: &[u8], offset: &[u8]| {
        let offset = message(&[(1, b"offset"), (2, offset)]);
        let mut weight = message(&[(8, name), (13, &location), (13, &offset)]);
        put_number(&mut weight, 1, 3);
        put_number(&mut weight, 2, 1);
        put_number(&mut weight, 14, 1);
        weight
    };
    let node = message(&[(4, b"Gemm"), (7, b"ai.onnx")]);
    let weights = [weight(b"v", b"4096"), weight(b"w", b"0")];
    let mut bytes = model(&message(&[(1, &node), (5, &weights[0]), (5, &weights[1])]));
    let names = message(&[(1, b"feature_names"), (2, b"age, income")]);
    put_bytes(&mut bytes, 14, &names);
    let scan = scan(&bytes).unwrap();
    assert_eq!(scan.external, ["m.onnx.data"]);
    assert_eq!(scan.external_bytes, BTreeMap::from([("m.onnx.data".to_owned(), 4108)]));
    assert_eq!(scan.safety(), Safety::InlineSafe);
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
            why.starts_with("tensor weight [") && why.contains("claims impossible dimensions"),
            "{why}"
        );
    }
}

/// A tensor of these dimensions with one field of data.
fn tensor(dims: &[u64], data_type: u64, data: (u64, &[u8])) -> Vec<u8> {
    let mut tensor = message(&[(8, b"w"), data]);
    dims.iter().for_each(|&dim| put_number(&mut tensor, 1, dim));
    put_number(&mut tensor, 2, data_type);
    tensor
}

#[test]
fn a_tensor_has_exactly_the_data_that_its_dimensions_need() {
    let scanned = |tensor: &[u8]| scan(&model(&message(&[(5, tensor)]))).map(|_| ()).map_err(|e| e.0);
    // Type, field, bytes for three elements: raw and typed.
    for (data_type, field, length) in [
        (1, 9, 12),
        (1, 4, 12),
        (11, 10, 24),
        (7, 7, 3),
        (6, 5, 3),
        (10, 5, 3),
        (10, 9, 6),
        (15, 10, 48),
        (22, 9, 2),
        (22, 5, 2),
        (13, 11, 3),
        (9, 9, 3),
    ] {
        let zeros = vec![0; length + 8];
        let of = |length: usize| scanned(&tensor(&[3], data_type, (field, &zeros[..length])));
        assert_eq!(of(length), Ok(()), "{data_type} {field}");
        let unit = if field == 4 { 4 } else { 8 };
        assert!(
            of(length + unit).unwrap_err().contains("and needs"),
            "{data_type} {field}"
        );
        assert!(of(0).unwrap_err().contains("and needs"), "{data_type} {field}");
    }
    let mut both = tensor(&[1], 1, (9, &[0; 4]));
    put_bytes(&mut both, 4, &[0; 4]);
    assert!(scanned(&both).unwrap_err().contains("its data twice"));
    let other = tensor(&[1], 1, (7, &[0]));
    assert!(scanned(&other).unwrap_err().contains("of another type"));
    let text = tensor(&[1], 8, (9, b"text"));
    assert!(scanned(&text).unwrap_err().contains("text as raw bytes"));
    assert_eq!(scanned(&tensor(&[0], 1, (9, &[]))), Ok(()));
    assert_eq!(scanned(&tensor(&[], 8, (6, b"text"))), Ok(()));
}

#[test]
fn a_tensor_in_another_file_says_once_and_possibly_where_it_lies() {
    let elsewhere = |entries: &[(&[u8], &[u8])]| {
        let mut weight = tensor(&[2], 1, (98, &[]));
        put_number(&mut weight, 14, 1);
        for (key, value) in entries {
            put_bytes(&mut weight, 13, &message(&[(1, key), (2, value)]));
        }
        let scanned = scan(&model(&message(&[(5, &weight)])));
        scanned.map(|scan| scan.external_bytes).map_err(|e| e.0)
    };
    let file: (&[u8], &[u8]) = (b"location", b"w.data");
    assert_eq!(
        elsewhere(&[file, (b"offset", b"8"), (b"length", b"8")]),
        Ok(BTreeMap::from([("w.data".into(), 16)]))
    );
    for (entries, says) in [
        (&[][..], "does not name"),
        (&[file, file], "says twice"),
        (&[(b"location", b"*/_ORT_MEM_ADDR_/*")], "address in memory"),
        (&[file, (b"length", b"7")], "takes 7 bytes"),
        (&[file, (b"length", b"-8")], "no size"),
        (&[file, (b"offset", b"99999999999999999999")], "no size"),
        (&[file, (b"offset", b"18446744073709551615")], "impossible place"),
        (&[file, (b"offset", b"9223372036854775807")], "impossible place"),
    ] {
        let why = elsewhere(entries).unwrap_err();
        assert!(why.contains(says), "{why}");
    }
}

/// A model of functions `f0 … fn`, each of which calls those given, and whose graph calls the first.
fn functions(calls: &[&[&str]]) -> Result<Scan, ScanError> {
    let call = |name: &str| message(&[(4, name.as_bytes()), (7, b"my")]);
    let mut bytes = model(&message(&[(1, &call("f0"))]));
    for (i, calls) in calls.iter().enumerate() {
        let mut function = message(&[(1, format!("f{i}").as_bytes()), (10, b"my")]);
        calls.iter().for_each(|name| put_bytes(&mut function, 7, &call(name)));
        put_bytes(&mut bytes, 25, &function);
    }
    scan(&bytes)
}

#[test]
fn functions_that_call_themselves_or_unfold_without_bound_are_refused_by_name() {
    assert!(functions(&[&["f1", "f1"], &[]]).is_ok());
    for calls in [&[&["f0"][..]][..], &[&["f1"], &["f2"], &["f1"]]] {
        assert!(functions(calls).unwrap_err().0.contains("calls itself"));
    }
    let names: Vec<String> = (1..=80).map(|i| format!("f{i}")).collect();
    let chain = |length: usize, times: usize| {
        let calls: Vec<Vec<&str>> = (0..length)
            .map(|i| {
                if i + 1 < length {
                    vec![names[i].as_str(); times]
                } else {
                    vec![]
                }
            })
            .collect();
        functions(&calls.iter().map(Vec::as_slice).collect::<Vec<_>>())
    };
    assert!(chain(MAX_CALLS, 1).is_ok());
    assert!(chain(MAX_CALLS + 1, 1).unwrap_err().0.contains("deeper than 64"));
    assert!(chain(40, 2).unwrap_err().0.contains("unfold to"));
    let mut anew = model(&[]);
    put_bytes(&mut anew, 25, &message(&[(1, b"Div"), (10, b"ai.onnx")]));
    assert!(
        scan(&anew)
            .unwrap_err()
            .0
            .contains("defines Div of the ONNX standard anew")
    );
    let mut twice = model(&[]);
    for _ in 0..2 {
        put_bytes(&mut twice, 25, &message(&[(1, b"f"), (10, b"my")]));
    }
    assert!(scan(&twice).unwrap_err().0.contains("function f twice"));
}

#[test]
fn what_two_readers_could_take_differently_is_refused() {
    let value = tensor(&[1], 7, (9, &8i64.to_le_bytes()));
    let attribute = message(&[(1, b"value"), (5, &value)]);
    let merged = message(&[(1, b"value"), (5, &value), (5, &value)]);
    let graph = |parts: &[(u64, &[u8])]| scan(&model(&message(parts))).map_err(|e| e.0);
    let constant = |attributes: &[&[u8]]| {
        let mut node = message(&[(4, b"Constant"), (2, b"c")]);
        attributes.iter().for_each(|a| put_bytes(&mut node, 5, a));
        node
    };
    assert!(graph(&[(1, &constant(&[&attribute]))]).is_ok());
    for (node, says) in [
        (constant(&[&merged]), "value has two values"),
        (constant(&[&attribute, &attribute]), "attribute value stands twice"),
    ] {
        let why = graph(&[(1, &node)]).unwrap_err();
        assert!(why.contains(says), "{why}");
    }
    let node = constant(&[&attribute]);
    let named_c = tensor(&[1], 7, (9, &8i64.to_le_bytes()));
    let named_c = [named_c, message(&[(8, b"c")])].concat();
    for (parts, says) in [
        (&[(1, &node), (1, &node)][..], "value c stands twice"),
        (&[(5, &value), (5, &value)], "tensor w stands twice"),
        (&[(1, &node), (5, &named_c)], "value c comes from two places"),
    ] {
        let parts: Vec<(u64, &[u8])> = parts.iter().map(|(number, part)| (*number, part.as_slice())).collect();
        let why = graph(&parts).unwrap_err();
        assert!(why.contains(says), "{why}");
    }
}

#[test]
fn names_that_act_on_a_log_or_terminal_are_refused_and_the_refusal_does_not_act() {
    let input = message(&[(1, b"x\n{\"level\":\"INFO\"}\x1b[2J")]);
    let node = message(&[(4, b"Re\xe2\x80\xaelu")]);
    let mut key = model(&[]);
    put_bytes(&mut key, 14, &message(&[(1, b"a\r\nb"), (2, b"c")]));
    let mut feature = model(&[]);
    put_bytes(
        &mut feature,
        14,
        &message(&[(1, b"feature_names"), (2, b"age,in\x07come")]),
    );
    for (bytes, what) in [
        (model(&message(&[(11, &input)])), "input x"),
        (model(&message(&[(1, &node)])), "operator Relu"),
        (key, "metadata key ab"),
        (feature, "feature income"),
    ] {
        let why = scan(&bytes).unwrap_err().0;
        assert!(why.starts_with(what) && !why.chars().any(wire::acts), "{why:?}");
    }
    let mut log = model(&[]);
    put_bytes(&mut log, 14, &message(&[(1, b"log"), (2, b"two\nlines")]));
    assert!(scan(&log).is_ok(), "nothing prints it");
}

#[test]
fn an_opset_that_does_not_exist_and_an_answer_by_chance_are_refused() {
    for version in [0, 999, u64::MAX] {
        let mut bytes = model(&[]);
        let mut opset = Vec::new();
        put_number(&mut opset, 2, version);
        put_bytes(&mut bytes, 8, &opset);
        assert!(scan(&bytes).unwrap_err().0.contains("does not exist"));
    }
    let node = message(&[(4, b"RandomNormalLike")]);
    let why = scan(&model(&message(&[(1, &node)]))).unwrap_err().0;
    assert!(why.contains("answers by chance"), "{why}");
}

#[test]
fn what_is_no_model_is_called_what_it_is() {
    for (bytes, says) in [
        (&b""[..], "empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs"),
        (b"  <!DOCTYPE html>", "web page"),
        (b"\xef\xbb\xbf<html>", "web page"),
        (b"PK\x03\x04", "zip"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"BZh91AY", "bzip2"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x7fELF\x02", "ELF"),
        (b"MZ\x90", "Windows"),
        (b"\x80\x04\x95", "pickle"),
        (b"\x14\0\0\0ORTM", ".ort"),
        (b"\x1c\0\0\0TFL3", "TensorFlow Lite"),
        (b"\x40\0\0\0\0\0\0\0{\"w\"", "safetensors"),
        (b"GGUF\x03", "GGUF"),
        (b"\x93NUMPY\x01", "NumPy"),
        (b"{\"learner\": {}}", "plain text"),
    ] {
        let why = scan(bytes).unwrap_err().0;
        assert!(why.contains(says), "{why}");
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
