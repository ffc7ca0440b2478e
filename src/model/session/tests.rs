//! Sessions on files written here, byte by byte.

use half::f16;

use super::*;
use crate::model::tensor::{Data, Datatype, Text};

#[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    assert!(bytes.len() < 16_384, "two bytes of length are enough here");
    out.extend([number << 3 | 2, bytes.len() as u8 | 0x80, (bytes.len() >> 7) as u8]);
    out.extend_from_slice(bytes);
}

fn info(name: &str, element: u8) -> Vec<u8> {
    let (mut shape, mut kind, mut typed, mut info) = (Vec::new(), vec![8, element], Vec::new(), Vec::new());
    field(&mut shape, 1, &[]);
    field(&mut kind, 2, &shape);
    field(&mut typed, 1, &kind);
    field(&mut info, 1, name.as_bytes());
    field(&mut info, 2, &typed);
    info
}

/// `y<i> = op(x<i>)` for each element type, over one dynamic dimension.
fn model(op: &str, elements: &[u8]) -> Vec<u8> {
    let mut graph = Vec::new();
    for (i, _) in elements.iter().enumerate() {
        let mut node = Vec::new();
        field(&mut node, 1, format!("x{i}").as_bytes());
        field(&mut node, 2, format!("y{i}").as_bytes());
        field(&mut node, 4, op.as_bytes());
        field(&mut graph, 1, &node);
    }
    field(&mut graph, 2, b"g");
    for (i, &element) in elements.iter().enumerate() {
        field(&mut graph, 11, &info(&format!("x{i}"), element));
    }
    for (i, &element) in elements.iter().enumerate() {
        field(&mut graph, 12, &info(&format!("y{i}"), element));
    }
    let mut model = vec![8, 8];
    field(&mut model, 7, &graph);
    field(&mut model, 8, &[16, 16]);
    model
}

fn text(words: &[&str]) -> Data {
    let mut text = Text::default();
    assert!(words.iter().all(|word| text.push(word.as_bytes())));
    Data::Bytes(text)
}

#[test]
fn all_thirteen_datatypes_go_in_and_come_out() {
    let data = [
        (9, Data::Bool(vec![true, false])),
        (2, Data::Uint8(vec![0, u8::MAX])),
        (4, Data::Uint16(vec![0, u16::MAX])),
        (12, Data::Uint32(vec![0, u32::MAX])),
        (13, Data::Uint64(vec![0, u64::MAX])),
        (3, Data::Int8(vec![i8::MIN, 1])),
        (5, Data::Int16(vec![i16::MIN, 1])),
        (6, Data::Int32(vec![i32::MIN, 1])),
        (7, Data::Int64(vec![i64::MIN, 1])),
        (10, Data::Fp16(vec![f16::from_f32(0.5), f16::INFINITY])),
        (1, Data::Fp32(vec![0.1, f32::MIN])),
        (11, Data::Fp64(vec![0.1, f64::MAX])),
        (8, text(&["zwölf", ""])),
    ];
    let elements: Vec<u8> = data.iter().map(|(element, _)| *element).collect();
    let mut session = Session::load_bytes(&model("Identity", &elements), 1).unwrap();
    let inputs: Vec<Tensor> = data
        .iter()
        .map(|(_, d)| Tensor::new(vec![2], d.clone()).unwrap())
        .collect();
    for (spec, input) in session.signature().inputs.iter().zip(&inputs) {
        assert_eq!((spec.datatype, spec.shape.as_slice()), (input.datatype(), &[-1][..]));
    }
    let all: Vec<usize> = (0..13).collect();
    assert_eq!(session.run(&inputs, &all).unwrap(), inputs);
    let backwards: Vec<usize> = (0..13).rev().collect();
    let mut expected = inputs.clone();
    expected.reverse();
    assert_eq!(
        session.run(&inputs, &backwards).unwrap(),
        expected,
        "in the order asked for"
    );
    for i in 0..13 {
        assert_eq!(
            session.run(&inputs, &[i]).unwrap(),
            inputs[i..=i],
            "more selections than are kept"
        );
    }
    assert!(
        session
            .run(&inputs, &[13])
            .unwrap_err()
            .0
            .contains("there is no output 13")
    );
    assert!(session.run(&inputs, &[]).unwrap().is_empty());
}

#[test]
fn a_constant_that_is_no_boolean_comes_out_as_one() {
    const BOOL: u8 = 9;
    let (mut constant, mut node, mut graph) = (vec![8, 3, 16, BOOL], Vec::new(), Vec::new());
    field(&mut constant, 8, b"c");
    field(&mut constant, 9, &[2, 0, 255]);
    field(&mut node, 1, b"c");
    field(&mut node, 2, b"y");
    field(&mut node, 4, b"Identity");
    field(&mut graph, 1, &node);
    field(&mut graph, 2, b"g");
    field(&mut graph, 5, &constant);
    field(&mut graph, 12, &info("y", BOOL));
    let mut bytes = vec![8, 8];
    field(&mut bytes, 7, &graph);
    field(&mut bytes, 8, &[16, 16]);
    let output = Session::load_bytes(&bytes, 1).unwrap().run(&[], &[0]).unwrap();
    assert_eq!(output[0].data(), &Data::Bool(vec![true, false, true]));
}

#[test]
fn empty_tensors_pass_through() {
    let mut session = Session::load_bytes(&model("Identity", &[1, 8]), 1).unwrap();
    let inputs = [
        Tensor::new(vec![0], Data::Fp32(vec![])).unwrap(),
        Tensor::new(vec![0], text(&[])).unwrap(),
    ];
    assert_eq!(session.run(&inputs, &[0, 1]).unwrap(), inputs);
}

#[test]
fn faults_are_told_in_plain_words() {
    let why = Session::load_bytes(&model("NoSuchOperator", &[1]), 1).unwrap_err().0;
    assert!(
        why.contains("NoSuchOperator") && !why.contains("/onnxruntime/"),
        "{why}"
    );
    let why = Session::load_bytes(b"nonsense", 1).unwrap_err().0;
    assert!(!why.is_empty() && !why.contains('\n'), "{why}");
    let mut session = Session::load_bytes(&model("Identity", &[1, 8]), 1).unwrap();
    let word = Tensor::new(vec![1], text(&["a\0b"])).unwrap();
    let number = Tensor::new(vec![1], Data::Fp32(vec![1.0])).unwrap();
    let why = session.run(&[number.clone(), word], &[0]).unwrap_err().0;
    assert_eq!(why, "input x1: text holds a NUL, which onnx runtime cannot take");
    let why = session.run(&[number.clone(), number.clone()], &[1]).unwrap_err().0;
    assert!(why.contains("tensor(float)") && why.contains("tensor(string)"), "{why}");
    let why = session.run(&[number], &[1]).unwrap_err().0;
    assert_eq!(why, "the model takes 2 inputs, got 1");
}

#[test]
fn a_type_that_the_protocol_lacks_is_named_when_the_file_loads() {
    const BFLOAT16: u8 = 16;
    let why = Session::load_bytes(&model("Identity", &[BFLOAT16]), 1).unwrap_err().0;
    assert!(why.starts_with("input x0 is a tensor of bf16"), "{why}");
}

#[test]
fn a_session_can_move_to_the_thread_that_will_own_it() {
    let mut session = Session::load_bytes(&model("Identity", &[1]), 1).unwrap();
    let input = Tensor::new(vec![1], Data::Fp32(vec![0.5])).unwrap();
    let output = std::thread::spawn(move || session.run(&[input], &[0]))
        .join()
        .unwrap()
        .unwrap();
    assert_eq!(output[0].datatype(), Datatype::Fp32);
}
