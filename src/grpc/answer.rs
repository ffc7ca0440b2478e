//! `ModelInferResponse`, straight into its frame: tensors are written once, as raw bytes, where they are sent from.
//!
//! Raw bytes because a widespread client cannot read numbers in typed contents.

use super::frame::{self, PREFIX};
use super::wire::{put_bytes, put_head, put_varint};
use crate::model::tensor::{Tensor, raw};
use crate::oip::Reply;

/// Names, lengths and tags of an answer without its outputs, roughly.
const ROOM: usize = 256;

/// The frame of an answer, not closed.
pub(super) fn frame(reply: &Reply<'_>) -> Vec<u8> {
    let sizes = reply
        .outputs
        .iter()
        .map(|(name, tensor)| 64 + name.len() + raw::len(tensor.data()));
    let mut out = frame::open(ROOM + sizes.sum::<usize>());
    put_bytes(&mut out, 1, reply.model.as_bytes());
    put_bytes(&mut out, 2, reply.version.as_bytes());
    put_bytes(&mut out, 3, reply.id.as_bytes());
    // Whatever is nested stands here first: its length stands before it.
    let (mut entry, mut nested) = (Vec::with_capacity(64), Vec::with_capacity(96));
    reply.prediction_id.write(None, &mut entry);
    parameter(&mut out, &mut nested, "prediction_id", &entry);
    parameter(&mut out, &mut nested, "version", reply.version.as_bytes());
    if let Some(fallback) = reply.fallback {
        parameter(&mut out, &mut nested, "fallback", fallback.as_bytes());
    }
    if let Some(explore) = reply.explore {
        parameter(&mut out, &mut nested, "explore", explore.as_bytes());
    }
    for (name, tensor) in reply.outputs {
        nested.clear();
        output(&mut nested, &mut entry, name, tensor);
        put_head(&mut out, 5, nested.len());
        out.extend_from_slice(&nested);
    }
    for (_, tensor) in reply.outputs {
        put_head(&mut out, 6, raw::len(tensor.data()));
        raw::write(tensor.data(), &mut out);
    }
    out
}

/// An entry of `parameters` whose value is text.
fn parameter(out: &mut Vec<u8>, nested: &mut Vec<u8>, key: &str, text: &[u8]) {
    nested.clear();
    put_bytes(nested, 1, key.as_bytes());
    // The text is nested once more, as `string_param`, even where it is empty.
    let mut head = Vec::with_capacity(8);
    put_head(&mut head, 3, text.len());
    put_head(nested, 2, head.len() + text.len());
    nested.extend_from_slice(&head);
    nested.extend_from_slice(text);
    put_head(out, 4, nested.len());
    out.extend_from_slice(nested);
}

/// What is said of a tensor.
fn output(out: &mut Vec<u8>, packed: &mut Vec<u8>, name: &str, tensor: &Tensor) {
    put_bytes(out, 1, name.as_bytes());
    put_bytes(out, 2, tensor.datatype().name().as_bytes());
    packed.clear();
    for &dimension in tensor.shape() {
        put_varint(packed, dimension as u64);
    }
    put_bytes(out, 3, packed);
}

/// `ModelStreamInferResponse` around an answer's frame, not closed.
pub(super) fn in_stream(answer: &[u8]) -> Vec<u8> {
    let answer = answer.get(PREFIX..).unwrap_or_default();
    let mut out = frame::open(answer.len() + 11);
    put_head(&mut out, 2, answer.len());
    out.extend_from_slice(answer);
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prost::Message as _;

    use super::*;
    use crate::grpc::pb::inference as pb;
    use crate::grpc::pb::inference::infer_parameter::ParameterChoice;
    use crate::id::{IdGenerator, IdKey};
    use crate::model::tensor::{Data, Text};

    fn message(frame: &[u8]) -> &[u8] {
        &frame[PREFIX..]
    }

    #[test]
    fn an_answer_reads_back_as_the_protocols_message() {
        let mut words = Text::default();
        assert!(words.push(b"yes") && words.push(b""));
        let outputs: Vec<(Arc<str>, Tensor)> = vec![
            (
                "p".into(),
                Tensor::new(vec![2, 1], Data::Fp32(vec![0.5, f32::NAN])).unwrap(),
            ),
            ("words".into(), Tensor::new(vec![2], Data::Bytes(words)).unwrap()),
            ("none".into(), Tensor::new(vec![0, 300], Data::Int64(vec![])).unwrap()),
            ("one".into(), Tensor::new(vec![], Data::Bool(vec![true])).unwrap()),
        ];
        let id = IdGenerator::new(IdKey::new([7; 16]), 1).issue(1_000, 2);
        let reply = Reply {
            model: "m",
            version: "e01",
            id: "mine",
            prediction_id: id,
            explore: None,
            fallback: Some("e00"),
            outputs: &outputs,
        };
        let frame = frame(&reply);
        let read = pb::ModelInferResponse::decode(message(&frame)).unwrap();
        assert_eq!(
            (read.model_name.as_str(), read.model_version.as_str(), read.id.as_str()),
            ("m", "e01", "mine")
        );
        let text = |key: &str| match read.parameters.get(key).and_then(|p| p.parameter_choice.clone()) {
            Some(ParameterChoice::StringParam(text)) => text,
            other => panic!("{key}: {other:?}"),
        };
        let mut written = Vec::new();
        id.write(None, &mut written);
        assert_eq!(text("prediction_id").as_bytes(), written);
        assert_eq!((text("version"), text("fallback")), ("e01".into(), "e00".into()));
        let told: Vec<_> = read
            .outputs
            .iter()
            .map(|o| (o.name.as_str(), o.datatype.as_str(), o.shape.clone()))
            .collect();
        let expected = vec![
            ("p", "FP32", vec![2, 1]),
            ("words", "BYTES", vec![2]),
            ("none", "INT64", vec![0, 300]),
            ("one", "BOOL", vec![]),
        ];
        assert_eq!(told, expected);
        let raw: Vec<&[u8]> = read.raw_output_contents.iter().map(|b| &**b).collect();
        let p = [0.5f32.to_le_bytes(), f32::NAN.to_le_bytes()].concat();
        assert_eq!(raw, [&p[..], b"\x03\0\0\0yes\0\0\0\0", b"", b"\x01"]);
        let streamed = pb::ModelStreamInferResponse::decode(message(&in_stream(&frame))).unwrap();
        assert_eq!(
            (streamed.error_message.as_str(), streamed.infer_response),
            ("", Some(read))
        );
    }

    #[test]
    fn what_is_empty_is_left_out_but_never_a_tensor() {
        let outputs = [];
        let id = IdGenerator::new(IdKey::new([7; 16]), 1).issue(1_000, 1);
        let reply = Reply {
            model: "m",
            version: "",
            id: "",
            prediction_id: id,
            fallback: None,
            explore: None,
            outputs: &outputs,
        };
        let read = pb::ModelInferResponse::decode(message(&frame(&reply))).unwrap();
        assert_eq!(
            (read.id.as_str(), read.parameters.len(), read.outputs.len()),
            ("", 2, 0)
        );
    }
}
