//! Hostile messages: a status that says what was wrong, and a gateway that goes on.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use dethrone::grpc::pb::inference as pb;
use prost::Message as _;
use tokio_stream::StreamExt as _;
use tonic::Code;

use super::{as_raw, by_feature};
use crate::support::grpc::{Client, codes, fp32, frame, input, output, post, request, send};
use crate::support::{client, gateway, gateway_with};

const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// What it is, headers, a body, and the status that it gets.
type Case<'a> = (&'a str, Vec<(&'static str, &'a str)>, Vec<u8>, &'a str);

/// One tensor for the model `plain`.
fn plain(datatype: &str, shape: &[i64], raw: &[u8]) -> pb::ModelInferRequest {
    request("plain", vec![input("features", datatype, shape)], vec![raw.to_vec()])
}

#[tokio::test]
async fn each_wrong_request_has_its_code_and_its_stable_code() {
    let gateway = gateway();
    let mut client = Client::connect(gateway.grpc).await;
    let good = [0u8; 12];
    let row = |rows: i64| fp32("features", &[rows, 3], &vec![0.5; usize::try_from(rows).unwrap() * 3]);
    let unknown = |model: &str, version: &str| pb::ModelInferRequest {
        model_version: version.into(),
        ..request(model, vec![row(1)], vec![])
    };
    let mut both = plain("FP32", &[1, 3], &good);
    both.inputs[0].contents = row(1).contents;
    let mut extra = plain("FP32", &[1, 3], &good);
    extra.raw_input_contents.push(good.to_vec().into());
    let mut missing = as_raw(by_feature(1));
    missing.raw_input_contents.pop();
    let mut absent = by_feature(1);
    absent.inputs.pop();
    let mut wanted = plain("FP32", &[1, 3], &good);
    wanted.outputs = vec![output("nothing")];
    let mut shared = plain("FP32", &[1, 3], &good);
    shared.inputs[0]
        .parameters
        .insert("shared_memory_region".into(), pb::InferParameter::default());
    let int8 = pb::ModelInferRequest {
        inputs: vec![pb::model_infer_request::InferInputTensor {
            contents: Some(pb::InferTensorContents {
                int_contents: vec![300; 3],
                ..Default::default()
            }),
            ..input("features", "INT8", &[1, 3])
        }],
        ..request("plain", vec![], vec![])
    };
    let twice = request("plain", vec![row(1), row(1)], vec![]);
    let invalid = Code::InvalidArgument;
    for (what, request, code, stable) in [
        ("no such model", unknown("nobody", ""), Code::NotFound, "unknown_model"),
        (
            "no such version",
            unknown("plain", "7"),
            Code::NotFound,
            "unknown_version",
        ),
        ("no name of several", unknown("", ""), Code::NotFound, "unknown_model"),
        (
            "too few bytes",
            plain("FP32", &[1, 3], &good[..11]),
            invalid,
            "malformed_body",
        ),
        (
            "too many bytes",
            plain("FP32", &[1, 3], &[0; 13]),
            invalid,
            "malformed_body",
        ),
        ("no bytes", plain("FP32", &[1, 3], &[]), invalid, "malformed_body"),
        (
            "an overflowing shape",
            plain("FP32", &[i64::MAX, i64::MAX, 4], &good),
            invalid,
            "wrong_shape",
        ),
        (
            "a shape whose bytes overflow",
            plain("FP32", &[1 << 62, 3], &good),
            invalid,
            "malformed_body",
        ),
        (
            "a negative shape",
            plain("FP32", &[-1, 3], &good),
            invalid,
            "wrong_shape",
        ),
        ("another shape", plain("FP32", &[3, 1], &good), invalid, "wrong_shape"),
        ("a deep shape", plain("FP32", &[1; 100], &good), invalid, "wrong_shape"),
        ("BF16", plain("BF16", &[1, 3], &good[..6]), invalid, "wrong_type"),
        ("no datatype", plain("", &[1, 3], &good), invalid, "wrong_type"),
        (
            "another datatype",
            plain("INT32", &[1, 3], &good),
            invalid,
            "wrong_type",
        ),
        ("out of range", int8, invalid, "wrong_type"),
        ("typed and raw", both, invalid, "malformed_body"),
        ("raw entries too many", extra, invalid, "malformed_body"),
        ("raw entries too few", missing, invalid, "malformed_body"),
        ("a feature missing", absent, invalid, "missing_feature"),
        ("an input twice", twice, invalid, "duplicate_key"),
        ("an unknown output", wanted, invalid, "unknown_output"),
        (
            "too many rows",
            request("plain", vec![row(101)], vec![]),
            invalid,
            "too_many_rows",
        ),
        ("shared memory", shared, Code::Unimplemented, "not_implemented"),
    ] {
        match client.infer(request).await {
            Err(refused) => assert_eq!(codes(&refused), (code, stable), "{what}: {refused}"),
            Ok(answer) => panic!("{what} was answered: {answer:?}"),
        }
    }
    client.infer(request("plain", vec![row(1)], vec![])).await.unwrap();
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_and_the_connection_goes_on() {
    let gateway = gateway();
    let mut client = Client::connect(gateway.grpc).await;
    let rows = 200_000;
    let large = request(
        "plain",
        vec![input("features", "FP32", &[rows, 3])],
        vec![vec![0; 2_400_000]],
    );
    for mut client in [client.clone(), client.clone().packing()] {
        let refused = client.infer(large.clone()).await.unwrap_err();
        assert_eq!(codes(&refused), (Code::ResourceExhausted, "too_large"), "{refused}");
    }
    client.infer(as_raw(by_feature(1))).await.unwrap();
    // In a stream the message is refused and the stream with it.
    let path = "inference.GRPCInferenceService/ModelStreamInfer";
    let requests = tokio_stream::iter([large]);
    let mut answers = client
        .stream::<_, pb::ModelStreamInferResponse>(path, requests)
        .await
        .unwrap();
    let ended = answers.message().await.unwrap_err();
    assert_eq!(ended.code(), Code::ResourceExhausted, "{ended}");
    client.infer(as_raw(by_feature(1))).await.unwrap();
}

#[tokio::test]
async fn a_message_that_drips_into_a_stream_is_cut_although_bytes_keep_coming() {
    let gateway = gateway_with("body_timeout = \"1s\"\n");
    let message = frame(0, &by_feature(1).encode_to_vec());
    assert!(message.len() > 50, "whole only long after the limit");
    let slowly = tokio_stream::iter(message).throttle(Duration::from_millis(150));
    let drops = slowly.map(|byte| Ok::<_, Infallible>(hyper::body::Frame::data(Bytes::from(vec![byte]))));
    let path = "/inference.GRPCInferenceService/ModelStreamInfer";
    let body = http_body_util::StreamBody::new(Box::pin(drops));
    let answer = send(gateway.grpc, path, &[], body).await;
    let told = answer.trailers["grpc-message"].to_str().unwrap();
    assert!(told.contains("no whole message"), "{answer:?}");
}

#[tokio::test]
async fn frames_and_messages_that_are_none_are_refused() {
    let gateway = gateway();
    let good = by_feature(1).encode_to_vec();
    let whole = frame(0, &good);
    let cases: Vec<Case<'_>> = vec![
        ("nothing", vec![], vec![], "3"),
        ("a cut head", vec![], whole[..3].to_vec(), "3"),
        ("a cut message", vec![], whole[..whole.len() - 1].to_vec(), "3"),
        ("two messages", vec![], [&whole[..], &whole[..]].concat(), "3"),
        ("an unknown flag", vec![], frame(7, &good), "3"),
        ("packed without a coding", vec![], frame(1, &good), "3"),
        (
            "not packed as it says",
            vec![("grpc-encoding", "gzip")],
            frame(1, &good),
            "3",
        ),
        ("an unknown coding", vec![("grpc-encoding", "br")], whole.clone(), "12"),
        ("no protobuf", vec![], frame(0, &[0xFF; 64]), "3"),
        (
            "a length that lies",
            vec![],
            [0, 0xFF, 0xFF, 0xFF, 0xFF, 1].to_vec(),
            "8",
        ),
        (
            "a garbled opt-out",
            vec![("x-dethrone-opt-out", "perhaps")],
            whole.clone(),
            "3",
        ),
        ("a good one", vec![], whole.clone(), "0"),
    ];
    for (what, headers, body, status) in cases {
        let answer = post(gateway.grpc, INFER, &headers, body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.grpc_status()),
            (200, status),
            "{what}: {answer:?}"
        );
        assert_eq!(answer.head["content-type"], "application/grpc", "{what}");
    }
    let unknown = post(gateway.grpc, INFER, &[("grpc-encoding", "br")], whole.clone()).await;
    assert_eq!(unknown.head["grpc-accept-encoding"], "identity,deflate,gzip");
    for kind in ["application/json", "application/grpc-web", "application/grpc+json"] {
        let answer = post(gateway.grpc, INFER, &[("content-type", kind)], whole.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.grpc_status()), (415, "none"), "{kind}");
    }
    let answer = client::get(gateway.grpc, "/v2/health/ready");
    assert_eq!(answer.status, 415);
    assert!(answer.text().contains("gRPC"), "{}", answer.text());
}

#[tokio::test]
async fn changed_bytes_never_get_anything_but_an_answer_or_a_refusal() {
    let gateway = gateway_with("max_rows = 100\nmax_body_bytes = \"64KiB\"\n");
    let good = as_raw(by_feature(2)).encode_to_vec();
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] = bytes[at].wrapping_add(u8::try_from(1 + at % 255).unwrap());
        let answer = post(gateway.grpc, INFER, &[], frame(0, &bytes)).await;
        assert!(
            matches!(answer.grpc_status(), "0" | "3" | "5" | "9" | "12"),
            "byte {at}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn a_message_of_very_many_empty_inputs_is_refused_before_it_is_held() {
    let gateway = gateway();
    // A message of many empty inputs is little to send and would be much to hold.
    let many = [5u8 << 3 | 2, 0].repeat(400_000);
    let answer = post(gateway.grpc, INFER, &[], frame(0, &many)).await;
    assert_eq!(answer.grpc_status(), "3");
    assert_eq!(answer.head["dethrone-code"], "bad_request");
}
