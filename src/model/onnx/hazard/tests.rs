//! Hand-made graphs: what counts as harmless, and that every shipped and exported model does.

use super::super::scan;
use super::super::wire::{put_bytes, put_number};

const FLOAT: u64 = 1;
const INT64: u64 = 7;

fn message(parts: &[(u64, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, bytes) in parts {
        put_bytes(&mut out, *number, bytes);
    }
    out
}

fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> Vec<u8> {
    let mut out = message(&[(4, op.as_bytes())]);
    inputs.iter().for_each(|name| put_bytes(&mut out, 1, name.as_bytes()));
    outputs.iter().for_each(|name| put_bytes(&mut out, 2, name.as_bytes()));
    out
}

fn value(name: &str, kind: u64) -> Vec<u8> {
    let mut tensor = Vec::new();
    put_number(&mut tensor, 1, kind);
    message(&[(1, name.as_bytes()), (2, &message(&[(1, &tensor)]))])
}

fn weight(name: &str, kind: u64, raw: &[u8]) -> Vec<u8> {
    let mut out = message(&[(8, name.as_bytes()), (9, raw)]);
    put_number(&mut out, 2, kind);
    put_number(&mut out, 1, raw.len() as u64 / 8);
    out
}

fn hazards(graph: &[(u64, &[u8])]) -> Vec<String> {
    let mut model = Vec::new();
    put_number(&mut model, 1, 8);
    put_bytes(&mut model, 7, &message(graph));
    scan(&model).unwrap().hazards.unwrap()
}

#[test]
fn a_division_is_harmless_only_where_floats_are_known_or_the_divisor_stands_in_the_file() {
    let (x, n) = (value("x", FLOAT), value("n", INT64));
    let div = node("Div", &["x", "y"], &["q"]);
    assert_eq!(hazards(&[(11, &x), (1, &div)]), [""; 0]);
    let of_integers = node("Div", &["n", "m"], &["q"]);
    assert_eq!(hazards(&[(11, &n), (1, &of_integers)]), ["Div of integers"]);
    let modulo = node("Mod", &["n", "m"], &["q"]);
    assert_eq!(hazards(&[(11, &n), (1, &modulo)]), ["Mod of integers"]);
    // Types are followed, through what keeps them and no further.
    let scaled = node("Mul", &["x", "w"], &["m"]);
    assert_eq!(hazards(&[(11, &x), (1, &scaled), (1, &of_integers)]), [""; 0]);
    let shape = node("Shape", &["x"], &["m"]);
    assert_eq!(
        hazards(&[(11, &x), (1, &shape), (1, &of_integers)]),
        ["Div of integers"]
    );
    let power = node("Pow", &["n", "x"], &["m"]);
    assert_eq!(
        hazards(&[(11, &x), (1, &power), (1, &of_integers)]),
        ["Div of integers"]
    );
    let sums = node("Softmax", &["anything"], &["m"]);
    assert_eq!(hazards(&[(1, &sums), (1, &of_integers)]), [""; 0]);
    assert_eq!(hazards(&[(13, &value("q", FLOAT)), (1, &of_integers)]), [""; 0]);
    assert_eq!(
        hazards(&[(12, &value("q", INT64)), (1, &of_integers)]),
        ["Div of integers"]
    );
    // A divisor in the file.
    for (raw, expected) in [
        (8i64.to_le_bytes().to_vec(), None),
        (
            [2i64.to_le_bytes(), 0i64.to_le_bytes()].concat(),
            Some("Div of integers"),
        ),
        ((-1i64).to_le_bytes().to_vec(), Some("Div of integers")),
        (Vec::new(), Some("Div of integers")),
    ] {
        let divisor = weight("m", INT64, &raw);
        let found = hazards(&[(5, &divisor), (1, &of_integers)]);
        assert_eq!(found.first().map(String::as_str), expected, "{raw:?}");
    }
}

#[test]
fn control_flow_and_operators_from_elsewhere_are_named() {
    let body = message(&[(1, b"body"), (6, &message(&[]))]);
    let mut strange = node("Strange", &[], &[]);
    put_bytes(&mut strange, 5, &body);
    let mut gelu = node("FastGelu", &["x"], &["y"]);
    put_bytes(&mut gelu, 7, b"com.microsoft");
    let found = hazards(&[(1, &node("Loop", &[], &[])), (1, &strange), (1, &gelu)]);
    assert_eq!(
        found,
        [
            "Loop (control flow)",
            "Strange (control flow)",
            "com.microsoft:FastGelu (not of the ONNX standard)"
        ]
    );
}

#[test]
fn a_size_is_harmless_only_where_it_stands_in_the_file_or_follows_from_shapes() {
    let x = value("x", FLOAT);
    let (shape, two) = (node("Shape", &["x"], &["s"]), weight("two", INT64, &2i64.to_le_bytes()));
    let twice = node("Mul", &["s", "two"], &["t"]);
    let cast = node("Cast", &["x"], &["c"]);
    let mixed = node("Mul", &["s", "c"], &["t"]);
    let by = |size: &str| node("Expand", &["x", size], &["y"]);
    assert_eq!(hazards(&[(11, &x), (5, &two), (1, &by("two"))]), [""; 0]);
    assert_eq!(
        hazards(&[(11, &x), (5, &two), (1, &shape), (1, &twice), (1, &by("t"))]),
        [""; 0]
    );
    for graph in [
        &[(11, &x), (1, &cast), (1, &by("c"))][..],
        &[(11, &x), (1, &shape), (1, &cast), (1, &mixed), (1, &by("t"))],
        // A caller may replace it.
        &[(11, &x), (11, &value("two", INT64)), (5, &two), (1, &by("two"))],
        &[(11, &x), (1, &node("Range", &["one", "x", "one"], &["y"]))],
    ] {
        let graph: Vec<(u64, &[u8])> = graph.iter().map(|(number, part)| (*number, part.as_slice())).collect();
        let found = hazards(&graph);
        assert!(
            found.len() == 1 && found[0].contains("a size that the request gives"),
            "{found:?}"
        );
    }
}

#[test]
fn what_the_caller_of_a_function_gives_is_not_taken_from_where_it_does_not_stand() {
    let cast = |reference: bool| {
        let mut to = message(&[(1, b"to")]);
        put_number(&mut to, 3, FLOAT);
        if reference {
            put_bytes(&mut to, 21, b"kind");
        }
        let mut cast = node("Cast", &["a"], &["f"]);
        put_bytes(&mut cast, 5, &to);
        let function = message(&[
            (1, b"mine"),
            (10, b"my"),
            (7, &cast),
            (7, &node("Div", &["f", "b"], &["q"])),
        ]);
        let mut model = Vec::new();
        put_number(&mut model, 1, 8);
        put_bytes(&mut model, 7, &[]);
        put_bytes(&mut model, 25, &function);
        scan(&model).unwrap().hazard().map(str::to_owned)
    };
    assert_eq!(cast(false), None);
    assert_eq!(cast(true).as_deref(), Some("Div of integers"));
}

#[test]
fn what_a_file_defines_itself_is_looked_into() {
    for (inner, expected) in [("Relu", None), ("Mod", Some("Mod of integers"))] {
        let mut call = node("mine", &["x"], &["y"]);
        put_bytes(&mut call, 7, b"my");
        let graph = message(&[(11, &value("x", FLOAT)), (1, &call)]);
        let function = message(&[(1, b"mine"), (10, b"my"), (7, &node(inner, &["a", "b"], &["c"]))]);
        let mut model = Vec::new();
        put_number(&mut model, 1, 8);
        put_bytes(&mut model, 7, &graph);
        put_bytes(&mut model, 25, &function);
        assert_eq!(scan(&model).unwrap().hazard(), expected);
    }
}

#[test]
fn every_shipped_and_exported_model_may_answer_inside_the_gateway() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for folder in ["models/elec2", "models/elec2/stream/later", "tests/exports"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|e| e == "onnx")
                && let Ok(scan) = scan(&std::fs::read(&path).unwrap())
            {
                assert_eq!(scan.hazard(), None, "{}", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 30, "{seen}");
    let of = |name: &str| scan(&std::fs::read(root.join(format!("tests/data/{name}.onnx"))).unwrap()).unwrap();
    assert_eq!(of("div").hazard(), Some("Div of integers"));
    assert_eq!(of("crowd").hazard(), Some("Div of integers"));
    assert_eq!(of("endless").hazard(), Some("Loop (control flow)"));
}
