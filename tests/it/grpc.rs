//! The Open Inference Protocol over gRPC, against the real binary, with a client that is not ours.

mod bad_input;
mod services;

use std::time::Duration;

use bytes::Bytes;
use dethrone::grpc::pb::inference as pb;
use serde_json::{Value, json};
use tokio_stream::StreamExt as _;
use tonic::{Code, Request};

use crate::support::grpc::{Client, codes, floats, fp32, input, output, raw, request, text};
use crate::support::{Gateway, Site, client, data, elec2_row, gateway, until};

const FEATURES: [&str; 6] = ["period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer"];

/// A request by feature for the rows that `elec2_row` stands for, `rows` times.
fn by_feature(rows: usize) -> pb::ModelInferRequest {
    let row = elec2_row();
    let count = i64::try_from(rows).unwrap();
    let numbers = FEATURES.map(|name| {
        #[expect(clippy::cast_possible_truncation, reason = "the model's own type")]
        let value = row[name].as_f64().unwrap() as f32;
        fp32(name, &[count, 1], &vec![value; rows])
    });
    let mut day = input("day", "BYTES", &[count, 1]);
    day.contents = Some(pb::InferTensorContents {
        bytes_contents: vec![Bytes::from_static(b"2"); rows],
        ..Default::default()
    });
    request("elec2", numbers.into_iter().chain([day]).collect(), Vec::new())
}

/// The same with raw bytes.
fn as_raw(mut request: pb::ModelInferRequest) -> pb::ModelInferRequest {
    for input in &mut request.inputs {
        let contents = input.contents.take().unwrap();
        let mut bytes = Vec::new();
        for x in contents.fp32_contents {
            bytes.extend(x.to_le_bytes());
        }
        for element in contents.bytes_contents {
            bytes.extend(u32::try_from(element.len()).unwrap().to_le_bytes());
            bytes.extend_from_slice(&element);
        }
        request.raw_input_contents.push(bytes.into());
    }
    request
}

/// The score that `/predict` gives for the same row.
fn score_over_http(gateway: &Gateway) -> f64 {
    let (status, answer) = gateway.predict(&json!({"model": "elec2", "instances": [elec2_row()]}));
    assert_eq!(status, 200, "{answer}");
    answer["predictions"][0]["score"].as_f64().unwrap()
}

#[tokio::test]
async fn a_model_of_features_answers_as_over_http_whether_typed_or_raw() {
    let gateway = gateway();
    let expected = score_over_http(&gateway);
    let mut client = Client::connect(gateway.grpc).await;
    for mut request in [by_feature(3), as_raw(by_feature(3))] {
        request.id = "mine".into();
        let answer = client.infer(request).await.unwrap();
        assert_eq!((answer.model_name.as_str(), answer.id.as_str()), ("elec2", "mine"));
        assert_eq!(answer.model_version, "e01_logreg");
        assert_eq!(text(&answer.parameters, "version"), "e01_logreg");
        let names: Vec<&str> = answer.outputs.iter().map(|o| o.name.as_str()).collect();
        assert_eq!(names, ["score", "label", "probabilities"]);
        assert!(answer.outputs.iter().all(|o| o.contents.is_none()));
        for score in floats(&answer, "score") {
            assert!((f64::from(score) - expected).abs() < 1e-6, "{score} {expected}");
        }
        assert_eq!(answer.outputs[2].shape, [3, 2]);
        // The id is one that labels can name, row by row.
        let id = text(&answer.parameters, "prediction_id");
        let (second, third) = (format!("{id}.1"), format!("{id}.2"));
        let labels = [(second.as_str(), json!(1)), (third.as_str(), json!(0))];
        assert_eq!(gateway.label("elec2", &labels), ["accepted", "accepted"]);
    }
}

#[tokio::test]
async fn a_model_of_tensors_answers_and_only_what_is_wanted_is_sent() {
    let gateway = gateway();
    let mut client = Client::connect(gateway.grpc).await;
    let features = [0.5, 0.06, 0.4, 0.1, 0.2, 0.3];
    let whole = client
        .infer(request("plain", vec![fp32("features", &[2, 3], &features)], vec![]))
        .await
        .unwrap();
    assert_eq!(whole.id, "");
    assert!(whole.outputs.len() >= 2, "{whole:?}");
    let last = whole.outputs.last().unwrap();
    let mut asked = request("plain", vec![fp32("features", &[2, 3], &features)], vec![]);
    asked.outputs = vec![output(&last.name)];
    asked.model_version = "e02_tree".into();
    let part = client.infer(asked).await.unwrap();
    assert_eq!((part.outputs.len(), &part.outputs[0].name), (1, &last.name));
    assert_eq!(raw(&part, &last.name), raw(&whole, &last.name));
    assert_eq!(part.model_version, "e02_tree");
}

#[tokio::test]
async fn the_first_champions_own_tensors_are_a_second_spelling() {
    let gateway = gateway();
    let mut client = Client::connect(gateway.grpc).await;
    let native = client
        .ask::<_, pb::ModelMetadataResponse>(
            "ModelMetadata",
            pb::ModelMetadataRequest {
                name: "elec2".into(),
                version: "e01_logreg".into(),
            },
        )
        .await
        .unwrap();
    let mut asked = as_raw(by_feature(1));
    asked.outputs = vec![output(&native.outputs[0].name)];
    let answer = client.infer(asked).await.unwrap();
    assert_eq!(answer.outputs[0].name, native.outputs[0].name);
    assert_eq!(answer.outputs[0].datatype, native.outputs[0].datatype);
}

#[tokio::test]
async fn every_datatype_comes_back_as_it_was_sent() {
    let site = Site::new("");
    site.model_toml("echo", "interface = \"tensors\"\n")
        .drop_file("echo", "echo", &data("echo"));
    let gateway = site.start().ready();
    let mut client = Client::connect(gateway.grpc).await;
    let sent: [(&str, &str, Vec<u8>); 13] = [
        ("bool", "BOOL", vec![1, 0]),
        ("uint8", "UINT8", vec![255, 0]),
        ("uint16", "UINT16", [u16::MAX, 1].map(u16::to_le_bytes).concat()),
        ("uint32", "UINT32", [u32::MAX, 1].map(u32::to_le_bytes).concat()),
        ("uint64", "UINT64", [u64::MAX, 1].map(u64::to_le_bytes).concat()),
        ("int8", "INT8", vec![128, 127]),
        ("int16", "INT16", [i16::MIN, 1].map(i16::to_le_bytes).concat()),
        ("int32", "INT32", [i32::MIN, 1].map(i32::to_le_bytes).concat()),
        (
            "int64",
            "INT64",
            [i64::MIN, (1 << 53) + 1].map(i64::to_le_bytes).concat(),
        ),
        ("fp16", "FP16", vec![0, 0x38, 0, 0x3C]),
        ("fp32", "FP32", [0.1f32, -0.0].map(f32::to_le_bytes).concat()),
        ("fp64", "FP64", [0.1f64, 1e300].map(f64::to_le_bytes).concat()),
        ("bytes", "BYTES", b"\x02\0\0\0\xC3\xA4\0\0\0\0".to_vec()),
    ];
    let inputs = sent
        .iter()
        .map(|(name, datatype, _)| input(name, datatype, &[1, 2]))
        .collect();
    let bytes = sent.iter().map(|(.., bytes)| bytes.clone()).collect();
    let answer = client.infer(request("echo", inputs, bytes)).await.unwrap();
    for (name, datatype, bytes) in sent {
        let out = format!("{name}_out");
        assert_eq!(raw(&answer, &out), bytes, "{name}");
        let told = answer.outputs.iter().find(|o| o.name == out).unwrap();
        assert_eq!((told.datatype.as_str(), &told.shape[..]), (datatype, &[1, 2][..]));
    }
}

#[tokio::test]
async fn a_stream_answers_each_request_in_order_and_goes_on_after_a_wrong_one() {
    let gateway = gateway();
    let mut client = Client::connect(gateway.grpc).await;
    let (send, receive) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(receive);
    let path = "inference.GRPCInferenceService/ModelStreamInfer";
    let mut answers = client
        .stream::<pb::ModelInferRequest, pb::ModelStreamInferResponse>(path, requests)
        .await
        .unwrap();
    for number in 0..6 {
        let mut request = as_raw(by_feature(1));
        request.id = number.to_string();
        let enable = pb::InferParameter {
            parameter_choice: Some(pb::infer_parameter::ParameterChoice::BoolParam(true)),
        };
        request
            .parameters
            .insert("triton_enable_empty_final_response".into(), enable);
        let wrong = number % 2 == 1;
        if wrong {
            request.model_name = "nobody".into();
        }
        // Not before the last one was answered: nothing is held back.
        send.send(request).await.unwrap();
        let answer = answers.next().await.unwrap().unwrap();
        if wrong {
            assert!(
                answer.error_message.contains("nobody") && answer.infer_response.is_none(),
                "{answer:?}"
            );
        } else {
            assert_eq!(answer.error_message, "");
            assert_eq!(answer.infer_response.unwrap().id, number.to_string());
        }
    }
    drop(send);
    assert!(answers.next().await.is_none(), "an answer too many");
    assert!(answers.trailers().await.unwrap().is_some());
}

#[tokio::test]
async fn what_is_told_of_models_is_what_rest_tells() {
    let gateway = gateway();
    let mut client = Client::connect(gateway.grpc).await;
    client.infer(by_feature(2)).await.unwrap();
    for (model, version) in [("elec2", ""), ("plain", ""), ("elec2", "e01_logreg")] {
        let path = match version {
            "" => format!("/v2/models/{model}"),
            _ => format!("/v2/models/{model}/versions/{version}"),
        };
        let rest = client::get(gateway.data, &path).json();
        let asked = pb::ModelMetadataRequest {
            name: model.into(),
            version: version.into(),
        };
        let told: pb::ModelMetadataResponse = client.ask("ModelMetadata", asked).await.unwrap();
        let list = |all: &[pb::model_metadata_response::TensorMetadata]| -> Value {
            let one = |t: &pb::model_metadata_response::TensorMetadata| json!({"name": t.name, "datatype": t.datatype, "shape": t.shape});
            all.iter().map(one).collect()
        };
        let told = json!({"name": told.name, "versions": told.versions, "platform": told.platform,
                          "inputs": list(&told.inputs), "outputs": list(&told.outputs)});
        assert_eq!(told, rest);
        let rest = client::get(gateway.data, &format!("{path}/config")).json();
        let asked = pb::ModelConfigRequest {
            name: model.into(),
            version: version.into(),
        };
        let config: pb::ModelConfigResponse = client.ask("ModelConfig", asked).await.unwrap();
        let config = config.config.unwrap();
        assert_eq!(rest["max_batch_size"], config.max_batch_size);
        assert_eq!(
            (&rest["backend"], &rest["platform"]),
            (&json!(config.backend), &json!(config.platform))
        );
        let inputs: Vec<Value> = config
            .input
            .iter()
            .map(|i| json!({"name": i.name, "data_type": i.data_type().as_str_name(), "dims": i.dims}))
            .collect();
        assert_eq!(rest["input"], json!(inputs));
    }
    let asked = pb::ModelStatisticsRequest {
        name: "elec2".into(),
        ..Default::default()
    };
    let told: pb::ModelStatisticsResponse = client.ask("ModelStatistics", asked).await.unwrap();
    let rest = client::get(gateway.data, "/v2/models/elec2/stats").json();
    let (told, rest) = (&told.model_stats[0], &rest["model_stats"][0]);
    assert_eq!((told.inference_count, told.execution_count), (2, 1));
    assert_eq!(
        (&json!(told.version), &json!(told.last_inference)),
        (&rest["version"], &rest["last_inference"])
    );
    let stats = told.inference_stats.unwrap();
    for (name, duration) in [
        ("success", stats.success),
        ("queue", stats.queue),
        ("compute_infer", stats.compute_infer),
    ] {
        let duration = duration.unwrap();
        assert_eq!(
            rest["inference_stats"][name],
            json!({"count": duration.count, "ns": duration.ns}),
            "{name}"
        );
    }
    assert!(stats.cache_hit.is_some() && stats.cache_miss.is_some() && stats.fail.is_some());
    let all: pb::ModelStatisticsResponse = client
        .ask("ModelStatistics", pb::ModelStatisticsRequest::default())
        .await
        .unwrap();
    assert_eq!(all.model_stats.len(), 2);
    let server: pb::ServerMetadataResponse = client
        .ask("ServerMetadata", pb::ServerMetadataRequest {})
        .await
        .unwrap();
    let rest = client::get(gateway.data, "/v2").json();
    assert_eq!(
        json!({"name": server.name, "version": server.version, "extensions": server.extensions}),
        rest
    );
}

#[tokio::test]
async fn the_repository_is_listed_let_go_and_taken_back() {
    let gateway = gateway();
    let mut client = Client::connect(gateway.grpc).await;
    let asked = pb::RepositoryIndexRequest {
        ready: true,
        ..Default::default()
    };
    let index: pb::RepositoryIndexResponse = client.ask("RepositoryIndex", asked).await.unwrap();
    let names: Vec<(&str, &str)> = index
        .models
        .iter()
        .map(|m| (m.name.as_str(), m.state.as_str()))
        .collect();
    assert_eq!(names, [("elec2", "READY"), ("plain", "READY")]);
    let unload = pb::RepositoryModelUnloadRequest {
        model_name: "plain".into(),
        ..Default::default()
    };
    let _: pb::RepositoryModelUnloadResponse = client.ask("RepositoryModelUnload", unload).await.unwrap();
    let ready = pb::ModelReadyRequest {
        name: "plain".into(),
        ..Default::default()
    };
    let told: pb::ModelReadyResponse = client.ask("ModelReady", ready.clone()).await.unwrap();
    assert!(!told.ready);
    let refused = client
        .infer(request("plain", vec![fp32("features", &[1, 3], &[0.0; 3])], vec![]))
        .await
        .unwrap_err();
    assert_eq!(codes(&refused), (Code::Unavailable, "not_ready"));
    assert!(refused.metadata().contains_key("retry-after"));
    // One family of clients puts the model's name where the other has the repository's.
    let load = pb::RepositoryModelLoadRequest {
        repository_name: "plain".into(),
        ..Default::default()
    };
    let _: pb::RepositoryModelLoadResponse = client.ask("RepositoryModelLoad", load.clone()).await.unwrap();
    let told: pb::ModelReadyResponse = client.ask("ModelReady", ready).await.unwrap();
    assert!(told.ready);
    let mut overriding = load;
    overriding
        .parameters
        .insert("config".into(), pb::ModelRepositoryParameter::default());
    let refused = client
        .ask::<_, pb::RepositoryModelLoadResponse>("RepositoryModelLoad", overriding)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
}

#[tokio::test]
async fn a_client_that_packs_gets_packed_answers_and_one_that_only_could_does_not() {
    let gateway = gateway();
    let plain = Client::connect(gateway.grpc)
        .await
        .infer(as_raw(by_feature(100)))
        .await
        .unwrap();
    let packed = Client::connect(gateway.grpc)
        .await
        .packing()
        .infer(as_raw(by_feature(100)))
        .await
        .unwrap();
    assert_eq!(raw(&plain, "probabilities"), raw(&packed, "probabilities"));
    let message = prost::Message::encode_to_vec(&as_raw(by_feature(100)));
    let path = "/inference.GRPCInferenceService/ModelInfer";
    let accepts = ("grpc-accept-encoding", "identity,deflate,gzip");
    for (headers, flag) in [(vec![accepts], 0), (vec![accepts, ("grpc-encoding", "gzip")], 1)] {
        let answer =
            crate::support::grpc::post(gateway.grpc, path, &headers, crate::support::grpc::frame(0, &message)).await;
        assert_eq!((answer.grpc_status(), answer.body[0]), ("0", flag), "{headers:?}");
    }
}

#[tokio::test]
async fn a_deadline_ends_a_call_and_an_opted_out_one_leaves_no_row() {
    let gateway = gateway();
    let mut client = Client::connect(gateway.grpc).await;
    let mut late = Request::new(by_feature(1));
    late.metadata_mut()
        .insert("x-dethrone-timeout-ms", "0".parse().unwrap());
    let refused = client.infer(late).await.unwrap_err();
    assert_eq!(codes(&refused), (Code::DeadlineExceeded, "deadline"));
    let message = prost::Message::encode_to_vec(&by_feature(1));
    let path = "/inference.GRPCInferenceService/ModelInfer";
    let body = || crate::support::grpc::frame(0, &message);
    for (timeout, status) in [("1n", "4"), ("60S", "0"), ("soon", "3")] {
        let answer = crate::support::grpc::post(gateway.grpc, path, &[("grpc-timeout", timeout)], body()).await;
        assert_eq!(answer.grpc_status(), status, "{timeout}: {answer:?}");
    }
    let mut quiet = Request::new(by_feature(1));
    quiet.metadata_mut().insert("x-dethrone-opt-out", "1".parse().unwrap());
    let answer = client.infer(quiet).await.unwrap();
    let id = text(&answer.parameters, "prediction_id");
    assert_eq!(gateway.label("elec2", &[(id.as_str(), json!(1))]), ["unrecorded"]);
}

#[tokio::test]
async fn calls_are_counted_by_name_and_code_and_their_phases_are_timed() {
    let gateway = gateway();
    let mut client = Client::connect(gateway.grpc).await;
    client.infer(by_feature(1)).await.unwrap();
    client.infer(request("nobody", vec![], vec![])).await.unwrap_err();
    let phase = "dethrone_phase_duration_seconds_count{phase=\"decode\"}";
    for (series, at_least) in [
        ("dethrone_grpc_requests_total{rpc=\"ModelInfer\",code=\"OK\"}", 1.0),
        (
            "dethrone_grpc_requests_total{rpc=\"ModelInfer\",code=\"NOT_FOUND\"}",
            1.0,
        ),
        (
            "dethrone_grpc_request_duration_seconds_count{rpc=\"ModelInfer\",role=\"champion\",outcome=\"ok\"}",
            1.0,
        ),
        (phase, 1.0),
    ] {
        until(series, || gateway.metric(series).filter(|value| *value >= at_least));
    }
    let none = "dethrone_grpc_requests_total{rpc=\"RepositoryModelLoad\",code=\"OK\"}";
    assert_eq!(gateway.metric(none), Some(0.0));
}

#[tokio::test]
async fn stopping_finishes_with_open_streams_and_says_so() {
    let gateway = gateway();
    let mut client = Client::connect(gateway.grpc).await;
    let (send, receive) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(receive);
    let path = "inference.GRPCInferenceService/ModelStreamInfer";
    let mut answers = client
        .stream::<pb::ModelInferRequest, pb::ModelStreamInferResponse>(path, requests)
        .await
        .unwrap();
    send.send(by_feature(1)).await.unwrap();
    assert!(answers.next().await.unwrap().unwrap().infer_response.is_some());
    let stopping = tokio::task::spawn_blocking(move || gateway.stop());
    let ended = tokio::time::timeout(Duration::from_secs(60), answers.next())
        .await
        .unwrap();
    assert_eq!(ended.unwrap().unwrap_err().code(), Code::Unavailable);
    assert_eq!(stopping.await.unwrap(), Some(0));
}
