use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::grpc::pb::inference as pb;
use crate::model::tensor::{Data, Text};

type Contents = pb::InferTensorContents;

fn tensor(name: &str, datatype: &str, shape: &[i64]) -> pb::model_infer_request::InferInputTensor {
    pb::model_infer_request::InferInputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: shape.to_vec(),
        ..Default::default()
    }
}

fn with(datatype: &str, shape: &[i64], contents: Contents) -> Result<Tensor, Error> {
    let mut input = tensor("x", datatype, shape);
    input.contents = Some(contents);
    let request = pb::ModelInferRequest {
        inputs: vec![input],
        ..Default::default()
    };
    let sent = read(&request.encode_to_vec())?;
    Ok(sent.request.inputs.into_iter().next().unwrap().1)
}

fn raw(datatype: &str, shape: &[i64], bytes: &[u8]) -> Result<Tensor, Error> {
    let request = pb::ModelInferRequest {
        inputs: vec![tensor("x", datatype, shape)],
        raw_input_contents: vec![bytes.to_vec().into()],
        ..Default::default()
    };
    let sent = read(&request.encode_to_vec())?;
    Ok(sent.request.inputs.into_iter().next().unwrap().1)
}

#[test]
fn a_request_says_what_its_message_says() {
    let request = pb::ModelInferRequest {
        model_name: "m".into(),
        model_version: "7".into(),
        id: "mine".into(),
        parameters: [("k".to_owned(), pb::InferParameter::default())].into(),
        inputs: vec![tensor("a", "FP32", &[1, 2]), tensor("b", "BYTES", &[1])],
        outputs: vec![pb::model_infer_request::InferRequestedOutputTensor {
            name: "y".into(),
            ..Default::default()
        }],
        raw_input_contents: vec![vec![0; 8].into(), b"\x01\0\0\0z".to_vec().into()],
    };
    let sent = read(&request.encode_to_vec()).unwrap();
    assert_eq!((sent.model.as_str(), sent.version.as_deref()), ("m", Some("7")));
    assert_eq!(
        (sent.request.id.as_str(), sent.request.outputs),
        ("mine", vec!["y".to_owned()])
    );
    let names: Vec<&str> = sent.request.inputs.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let nothing = read(&[]).unwrap();
    assert_eq!(
        (nothing.model.as_str(), nothing.version, nothing.request),
        ("", None, oip::Request::default())
    );
}

#[test]
fn typed_contents_of_every_datatype_are_the_same_tensors_as_raw_ones() {
    let mut words = Text::default();
    assert!(words.push(b"a") && words.push(b""));
    let c = Contents::default;
    let cases: Vec<(&str, Contents, Data)> = vec![
        (
            "BOOL",
            Contents {
                bool_contents: vec![true, false],
                ..c()
            },
            Data::Bool(vec![true, false]),
        ),
        (
            "UINT8",
            Contents {
                uint_contents: vec![0, 255],
                ..c()
            },
            Data::Uint8(vec![0, 255]),
        ),
        (
            "UINT16",
            Contents {
                uint_contents: vec![0, 65_535],
                ..c()
            },
            Data::Uint16(vec![0, 65_535]),
        ),
        (
            "UINT32",
            Contents {
                uint_contents: vec![0, u32::MAX],
                ..c()
            },
            Data::Uint32(vec![0, u32::MAX]),
        ),
        (
            "UINT64",
            Contents {
                uint64_contents: vec![0, u64::MAX],
                ..c()
            },
            Data::Uint64(vec![0, u64::MAX]),
        ),
        (
            "INT8",
            Contents {
                int_contents: vec![-128, 127],
                ..c()
            },
            Data::Int8(vec![-128, 127]),
        ),
        (
            "INT16",
            Contents {
                int_contents: vec![-32_768, 1],
                ..c()
            },
            Data::Int16(vec![-32_768, 1]),
        ),
        (
            "INT32",
            Contents {
                int_contents: vec![i32::MIN, 1],
                ..c()
            },
            Data::Int32(vec![i32::MIN, 1]),
        ),
        (
            "INT64",
            Contents {
                int64_contents: vec![i64::MIN, 1],
                ..c()
            },
            Data::Int64(vec![i64::MIN, 1]),
        ),
        (
            "FP32",
            Contents {
                fp32_contents: vec![0.1, f32::INFINITY],
                ..c()
            },
            Data::Fp32(vec![0.1, f32::INFINITY]),
        ),
        (
            "FP64",
            Contents {
                fp64_contents: vec![0.1, -0.0],
                ..c()
            },
            Data::Fp64(vec![0.1, -0.0]),
        ),
        (
            "BYTES",
            Contents {
                bytes_contents: vec![b"a".to_vec().into(), vec![].into()],
                ..c()
            },
            Data::Bytes(words),
        ),
    ];
    for (datatype, contents, data) in cases {
        let expected = Tensor::new(vec![2, 1], data).unwrap();
        assert_eq!(with(datatype, &[2, 1], contents).unwrap(), expected, "{datatype}");
        let mut bytes = Vec::new();
        crate::model::tensor::raw::write(expected.data(), &mut bytes);
        assert_eq!(raw(datatype, &[2, 1], &bytes).unwrap(), expected, "{datatype}");
    }
    let half = raw("FP16", &[1], &[0, 0x38]).unwrap();
    assert_eq!(half.data(), &Data::Fp16(vec![half::f16::from_f32(0.5)]));
}

#[test]
fn elements_that_stand_one_by_one_are_read_as_packed_ones() {
    // shape 3, contents with two single fields each: key, value.
    let contents = [6 << 3 | 5, 0, 0, 0, 63, 6 << 3 | 5, 0, 0, 128, 63];
    let mut input = Vec::new();
    wire::put_bytes(&mut input, 1, b"x");
    wire::put_bytes(&mut input, 2, b"FP32");
    input.extend_from_slice(&[3 << 3, 2, 3 << 3, 1]);
    wire::put_bytes(&mut input, 5, &contents);
    let mut message = Vec::new();
    wire::put_bytes(&mut message, 5, &input);
    let sent = read(&message).unwrap();
    let expected = Tensor::new(vec![2, 1], Data::Fp32(vec![0.5, 1.0])).unwrap();
    assert_eq!(sent.request.inputs, vec![("x".to_owned(), expected)]);
}

#[test]
fn contents_that_do_not_fit_are_refused_by_kind_and_name() {
    let c = Contents::default;
    for (datatype, shape, contents, kind) in [
        (
            "FP32",
            &[3][..],
            Contents {
                fp32_contents: vec![1.0],
                ..c()
            },
            Kind::WrongShape,
        ),
        (
            "FP32",
            &[1],
            Contents {
                fp32_contents: vec![1.0, 2.0],
                ..c()
            },
            Kind::WrongShape,
        ),
        (
            "FP32",
            &[1],
            Contents {
                int_contents: vec![1],
                ..c()
            },
            Kind::WrongType,
        ),
        (
            "INT8",
            &[1],
            Contents {
                int_contents: vec![128],
                ..c()
            },
            Kind::WrongType,
        ),
        (
            "UINT8",
            &[1],
            Contents {
                uint_contents: vec![256],
                ..c()
            },
            Kind::WrongType,
        ),
        (
            "BYTES",
            &[1],
            Contents {
                bool_contents: vec![true],
                ..c()
            },
            Kind::WrongType,
        ),
        (
            "FP16",
            &[1],
            Contents {
                fp32_contents: vec![1.0],
                ..c()
            },
            Kind::WrongType,
        ),
        (
            "BF16",
            &[1],
            Contents {
                fp32_contents: vec![1.0],
                ..c()
            },
            Kind::WrongType,
        ),
        (
            "fp32",
            &[1],
            Contents {
                fp32_contents: vec![1.0],
                ..c()
            },
            Kind::WrongType,
        ),
        (
            "FP32",
            &[-1],
            Contents {
                fp32_contents: vec![1.0],
                ..c()
            },
            Kind::WrongShape,
        ),
        (
            "FP32",
            &[i64::MAX, i64::MAX],
            Contents {
                fp32_contents: vec![1.0],
                ..c()
            },
            Kind::WrongShape,
        ),
        (
            "FP32",
            &[1 << 40],
            Contents {
                fp32_contents: vec![1.0],
                ..c()
            },
            Kind::WrongShape,
        ),
        (
            "FP32",
            &[1; 300],
            Contents {
                fp32_contents: vec![1.0],
                ..c()
            },
            Kind::WrongShape,
        ),
    ] {
        let error = with(datatype, shape, contents).unwrap_err();
        assert_eq!(error.kind, kind, "{datatype} {shape:?}: {error}");
        assert!(error.message.contains('x') || shape.len() > 32, "{error}");
    }
    // Nothing where the shape has room for nothing.
    assert!(with("FP32", &[0, 3], c()).is_ok());
}

#[test]
fn raw_contents_come_one_per_input_or_not_at_all() {
    let mut request = pb::ModelInferRequest {
        inputs: vec![tensor("a", "FP32", &[1]), tensor("b", "FP32", &[1])],
        raw_input_contents: vec![vec![0; 4].into(), vec![0; 4].into()],
        ..Default::default()
    };
    assert!(read(&request.encode_to_vec()).is_ok());
    for entries in [1, 3] {
        request.raw_input_contents = vec![vec![0; 4].into(); entries];
        let error = read(&request.encode_to_vec()).unwrap_err();
        assert_eq!(error.kind, Kind::MalformedBody, "{entries}");
    }
    request.raw_input_contents = vec![vec![0; 4].into(); 2];
    request.inputs[1].contents = Some(Contents {
        fp32_contents: vec![1.0],
        ..Contents::default()
    });
    assert_eq!(read(&request.encode_to_vec()).unwrap_err().kind, Kind::MalformedBody);
    for length in [0, 3, 5] {
        assert_eq!(
            raw("FP32", &[1], &vec![0; length]).unwrap_err().kind,
            Kind::MalformedBody,
            "{length}"
        );
    }
}

#[test]
fn a_tensor_in_shared_memory_is_refused_and_other_parameters_are_skipped() {
    let mut input = tensor("a", "FP32", &[1]);
    input.parameters = [("priority".to_owned(), pb::InferParameter::default())].into();
    let mut request = pb::ModelInferRequest {
        inputs: vec![input],
        raw_input_contents: vec![vec![0; 4].into()],
        ..Default::default()
    };
    assert!(read(&request.encode_to_vec()).is_ok());
    request.inputs[0].parameters = [("shared_memory_region".to_owned(), pb::InferParameter::default())].into();
    assert!(
        read(&request.encode_to_vec())
            .unwrap_err()
            .message
            .contains("shared memory")
    );
}

#[test]
fn ever_so_many_empty_fields_are_not_allocated_for() {
    for number in [5u8, 6, 7] {
        let message = [number << 3 | 2, 0].repeat(2 * MAX_TENSORS);
        let error = read(&message).unwrap_err();
        assert_eq!(error.kind, Kind::BadRequest, "{error}");
    }
}

proptest! {
    #[test]
    fn whatever_is_sent_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }

    #[test]
    fn what_was_changed_or_cut_is_read_or_refused(at in 0usize..200, byte in any::<u8>(), end in 0usize..200) {
        let mut input = tensor("x", "FP32", &[2, 2]);
        input.contents = Some(Contents { fp32_contents: vec![1.0; 4], ..Contents::default() });
        let request = pb::ModelInferRequest { model_name: "m".into(), inputs: vec![input], ..Default::default() };
        let mut bytes = request.encode_to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        bytes.truncate(end.max(1));
        let _ = read(&bytes);
    }
}
