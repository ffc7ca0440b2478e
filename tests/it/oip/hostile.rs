//! Requests that lie, overflow or make no sense: each its status and a sentence, and the gateway goes on.

use serde_json::{Value, json};

use super::{binary, bytes, infer, serving};
use crate::support::{client, data};

const SETTINGS: &str = "interface = \"tensors\"\n";

fn one(input: Value) -> Value {
    json!({ "inputs": [input] })
}

#[test]
fn every_request_that_does_not_fit_is_refused_by_what_is_wrong_with_it() {
    let (_site, gateway) = serving(&[("mean", data("mean"), SETTINGS)]);
    let good = json!({"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]});
    let with = |key: &str, value: Value| {
        let mut input = good.clone();
        input[key] = value;
        one(input)
    };
    let without = |key: &str| {
        let mut input = good.clone();
        input.as_object_mut().unwrap().remove(key);
        one(input)
    };
    for (body, code, says) in [
        (json!({}), "empty_request", "no inputs"),
        (json!({"inputs": []}), "empty_request", "no inputs"),
        (json!({"inputs": {"x": [1]}}), "wrong_type", "the body"),
        (json!([1]), "malformed_json", "no JSON object"),
        (without("name"), "wrong_type", "name"),
        (without("shape"), "wrong_type", "shape"),
        (without("datatype"), "wrong_type", "datatype"),
        (without("data"), "missing_feature", "has no data"),
        (with("name", json!("y")), "unknown_feature", "no input 'y' (it has x)"),
        (with("datatype", json!("FP99")), "wrong_type", "send one of BOOL"),
        (with("datatype", json!("BF16")), "wrong_type", "send one of BOOL"),
        (with("datatype", json!("FP64")), "wrong_type", "the model takes FP32"),
        (with("datatype", json!("FP16")), "wrong_type", "no JSON form"),
        (with("datatype", json!(7)), "wrong_type", "string"),
        (with("shape", json!("1,3")), "wrong_type", "shape"),
        (with("shape", json!([3])), "wrong_shape", "[-1, 3] is expected"),
        (with("shape", json!([1, 4])), "wrong_shape", "its shape [1, 4] holds 4"),
        (with("shape", json!([-1, 3])), "wrong_shape", "negative"),
        (with("shape", json!([i64::MAX, 4])), "wrong_shape", "overflows"),
        (
            with("shape", json!([0, i64::MAX, i64::MAX])),
            "wrong_shape",
            "overflows",
        ),
        (with("shape", json!(vec![1; 40])), "wrong_shape", "32 dimensions"),
        (with("shape", json!([1.5, 3])), "wrong_type", "1.5"),
        (with("data", json!([1, 2])), "wrong_shape", "has 2 values"),
        (with("data", json!([1, 2, 3, 4])), "wrong_shape", "has 4 values"),
        (with("data", json!([[1, 2], [3]])), "wrong_shape", "ragged"),
        (with("data", json!([1, 2, "3"])), "wrong_type", "element 2"),
        (with("data", json!([1, 2, null])), "wrong_type", "null"),
        (with("data", json!([1, 2, 1e300])), "wrong_type", "out of range"),
        (with("data", json!({"0": 1})), "wrong_type", "an object"),
        (
            with("parameters", json!({"binary_data_size": 12})),
            "bad_request",
            "both data and binary_data_size",
        ),
        (
            with("parameters", json!({"shared_memory_region": "r"})),
            "unsupported",
            "shared memory",
        ),
        (json!({"inputs": [good, good]}), "duplicate_key", "twice"),
        (
            json!({"inputs": [good], "outputs": [{"name": "y"}]}),
            "unknown_output",
            "no output 'y' (there are score)",
        ),
        (
            json!({"inputs": [good], "outputs": [{"name": "score", "parameters": {"classification": 2}}]}),
            "unsupported",
            "classification",
        ),
        (json!({"inputs": [good], "id": 7}), "wrong_type", "string"),
    ] {
        let answer = infer(&gateway, "mean", &body);
        let said = answer.json();
        assert_eq!(
            (answer.status, said["code"].as_str()),
            (400, Some(code)),
            "{body}: {said}"
        );
        assert!(said["error"].as_str().unwrap().contains(says), "{body}: {said}");
    }
    // What nobody asks about is passed over.
    let mut generous = one(good);
    generous["model_name"] = json!("mean");
    generous["parameters"] = json!({"priority": 1, "timeout": 500_000, "sequence_id": 3, "triton_x": true, "k": "v"});
    generous["id"] = json!("");
    let answer = infer(&gateway, "mean", &generous);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.json().get("id").is_none());
    assert_eq!(infer(&gateway, "nix", &generous).json()["code"], "unknown_model");
    assert_eq!(
        infer(&gateway, "mean/versions/v9", &generous).json()["code"],
        "unknown_version"
    );
}

#[test]
fn bytes_that_lie_about_their_length_are_refused_and_none_is_left_over() {
    let (_site, gateway) = serving(&[("mean", data("mean"), SETTINGS)]);
    let sent = bytes(&[1.0, 2.0, 3.0]);
    let head = |size: u64| {
        one(json!({"name": "x", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": size}}))
    };
    for (size, tail, says) in [
        (12, &sent[..8], "8 bytes are left"),
        (8, &sent[..], "8 bytes, and 3 elements of FP32 take 12"),
        (u64::MAX, &sent[..], "12 bytes are left"),
        (
            12,
            &[&sent[..], b"more"].concat()[..],
            "4 bytes of input data are left over",
        ),
    ] {
        let answer = binary(&gateway, "mean", &head(size), tail, "");
        let said = answer.json();
        assert_eq!(
            (answer.status, said["code"].as_str()),
            (400, Some("malformed_body")),
            "{said}"
        );
        assert!(said["error"].as_str().unwrap().contains(says), "{size}: {said}");
    }
    let text = one(json!({"name": "x", "shape": [1, 3], "datatype": "BYTES", "parameters": {"binary_data_size": 8}}));
    let answer = binary(&gateway, "mean", &text, &[255, 255, 255, 255, 1, 2, 3, 4], "");
    assert!(
        answer.json()["error"].as_str().unwrap().contains("end before"),
        "{}",
        answer.text()
    );
    for length in ["-1", "1e3", "99999999999999999999", "1000000"] {
        let headers = format!("inference-header-content-length: {length}\r\n");
        let request = client::request("POST", "/v2/models/mean/infer", &headers, b"{}");
        let answer = client::raw(gateway.data, &request).unwrap();
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (400, &json!("malformed_body")),
            "{length}"
        );
    }
    for (encoding, status) in [("gzip", 400), ("deflate", 400), ("br", 415), ("zstd", 415)] {
        let headers = format!("content-encoding: {encoding}\r\n");
        let request = client::request("POST", "/v2/models/mean/infer", &headers, b"{\"inputs\":[]}");
        assert_eq!(
            client::raw(gateway.data, &request).unwrap().status,
            status,
            "{encoding}"
        );
    }
    assert_eq!(client::get(gateway.data, "/v2/health/live").status, 200);
}

#[test]
fn what_a_small_packed_body_unpacks_to_is_bounded() {
    let site = crate::support::Site::new("max_body_bytes = \"1MiB\"\n");
    site.model_toml("mean", SETTINGS).drop_file("mean", "v1", &data("mean"));
    let gateway = site.start().ready();
    let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut std::io::Read::take(std::io::repeat(b' '), 1 << 26), &mut to).unwrap();
    let bomb = to.finish().unwrap();
    assert!(bomb.len() < 1 << 20, "{}", bomb.len());
    let request = client::request("POST", "/v2/models/mean/infer", "content-encoding: gzip\r\n", &bomb);
    let answer = client::raw(gateway.data, &request).unwrap();
    assert_eq!(
        (answer.status, &answer.json()["code"]),
        (413, &json!("too_large")),
        "{}",
        answer.text()
    );
}

#[test]
fn routes_of_extensions_that_are_not_there_say_so_with_any_method() {
    let (_site, gateway) = serving(&[("mean", data("mean"), SETTINGS)]);
    for (method, path) in [
        ("POST", "/v2/models/mean/generate"),
        ("POST", "/v2/models/mean/generate_stream"),
        ("GET", "/v2/trace/setting"),
        ("POST", "/v2/models/mean/trace/setting"),
        ("GET", "/v2/logging"),
        ("GET", "/v2/systemsharedmemory/status"),
        ("POST", "/v2/systemsharedmemory/region/a/unregister"),
        ("POST", "/v2/cudasharedmemory/region/a/register"),
    ] {
        let answer = client::raw(gateway.data, &client::request(method, path, "", b"")).unwrap();
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (501, &json!("not_implemented")),
            "{path}"
        );
    }
    for (method, path, status) in [
        ("GET", "/v2/models/mean/infer", 405),
        ("POST", "/v2/models/mean", 405),
        ("GET", "/v2/models/mean/nothing", 404),
        ("GET", "/v2/models/mean/versions", 404),
        ("GET", "/v2/nothing", 404),
        ("GET", "/v2/models/%zz", 400),
    ] {
        let answer = client::raw(gateway.data, &client::request(method, path, "", b"")).unwrap();
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(answer.json()["error"].is_string());
    }
}
