//! The first requests of real clients, byte for byte as they were seen on the wire, and what must come back. They need
//! no Python, and stay when the clients change.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::{Gateway, Site, data, until};

/// 1, 2 and 3 as little-endian floats.
const ROW: [u8; 12] = [0, 0, 0x80, 0x3f, 0, 0, 0, 0x40, 0, 0, 0x40, 0x40];
/// Their mean.
const MEAN: [u8; 4] = [0, 0, 0, 0x40];

/// Serves `m`, whose champion is called `2` and gives the mean of `x` as `score`, and `tree`, whose champion `2` takes
/// missing numbers in `input`.
fn gateway() -> (Site, Gateway) {
    let site = Site::new("");
    site.drop_file("m", "2", &data("mean"));
    let tree = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exports/xgboost.onnx");
    site.drop_file("tree", "2", &tree);
    let gateway = site.start().ready();
    for model in ["m", "tree"] {
        let path = format!("/v2/models/{model}/ready");
        until(model, || {
            (crate::support::client::get(gateway.data, &path).status == 200).then_some(())
        });
    }
    (site, gateway)
}

/// A connection that is kept alive, as the clients' are.
struct Line(TcpStream);

impl Line {
    fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// Sends a head whose lines end in `\n` here, and a body; reads one answer, which must state its length.
    fn ask(&mut self, head: &str, body: &[u8]) -> Answer {
        let mut bytes = head.trim_start().replace('\n', "\r\n").into_bytes();
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        self.0.write_all(&bytes).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut body = vec![0; header(&head, "content-length").unwrap().parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        Answer { status, head, body }
    }
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

/// The JSON of a binary answer and the bytes after it; what clients conclude from the headers must hold.
fn binary(answer: &Answer) -> (Value, Vec<u8>) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        header(&answer.head, "content-type"),
        Some("application/octet-stream"),
        "{}",
        answer.head
    );
    let length: usize = header(&answer.head, "inference-header-content-length")
        .unwrap()
        .parse()
        .unwrap();
    let body = plain(answer);
    let (json, tensors) = body.split_at(length);
    (serde_json::from_slice(json).unwrap(), tensors.to_vec())
}

/// The JSON of an answer without binary tensors.
fn text(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        header(&answer.head, "content-type"),
        Some("application/json"),
        "{}",
        answer.head
    );
    assert_eq!(header(&answer.head, "inference-header-content-length"), None);
    serde_json::from_slice(&plain(answer)).unwrap()
}

/// The body without its coding, which must be one that every client can undo.
fn plain(answer: &Answer) -> Vec<u8> {
    let mut plain = Vec::new();
    match header(&answer.head, "content-encoding") {
        None => plain.clone_from(&answer.body),
        Some("gzip") => {
            flate2::read::GzDecoder::new(&answer.body[..])
                .read_to_end(&mut plain)
                .unwrap();
        }
        Some("deflate") => {
            flate2::read::ZlibDecoder::new(&answer.body[..])
                .read_to_end(&mut plain)
                .unwrap();
        }
        Some(other) => panic!("a client that offers br cannot read {other}"),
    }
    plain
}

fn score(size: bool) -> Value {
    if size {
        json!([{"name": "score", "shape": [1, 1], "datatype": "FP32", "parameters": {"binary_data_size": 4}}])
    } else {
        json!([{"name": "score", "shape": [1, 1], "datatype": "FP32", "data": [2.0]}])
    }
}

fn with_row(json: &str) -> Vec<u8> {
    [json.as_bytes(), &ROW].concat()
}

#[test]
fn nvidias_http_client_sends_raw_tensors_without_a_content_type_and_gets_raw_ones() {
    let (_site, gateway) = gateway();
    let mut line = Line::to(gateway.data);
    let json = r#"{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","parameters":{"binary_data_size":12}}],"parameters":{"binary_data_output":true}}"#;
    assert_eq!(json.len(), 135);
    let head = "
POST /v2/models/m/infer HTTP/1.1
User-Agent: python/gevent-http-client-2.6.1
Inference-Header-Content-Length: 135
Host: 127.0.0.1:8000
Content-Length: 147
";
    for _ in 0..2 {
        let (said, tensors) = binary(&line.ask(head, &with_row(json)));
        assert_eq!(
            (&said["model_name"], &said["model_version"], &said["outputs"]),
            (&json!("m"), &json!("2"), &score(true))
        );
        assert_eq!(said["id"], Value::Null, "nobody sent one: {said}");
        assert_eq!(said["parameters"]["version"], "2", "{said}");
        assert!(said["parameters"]["prediction_id"].is_string(), "{said}");
        assert_eq!(tensors, MEAN);
    }
}

#[test]
fn nvidias_http_client_writes_not_a_number_bare_into_json_and_gets_json() {
    let (_site, gateway) = gateway();
    let json = r#"{"id":"rid-1","inputs":[{"name":"input","shape":[1,3],"datatype":"FP32","data":[1.0,2.0,NaN]}],"outputs":[{"name":"probabilities","parameters":{"binary_data":false}}],"parameters":{"priority":1,"timeout":500000,"k":"v"}}"#;
    let head = format!(
        "
POST /v2/models/tree/versions/2/infer HTTP/1.1
User-Agent: python/gevent-http-client-2.6.1
Host: 127.0.0.1:8000
Content-Length: {}
",
        json.len()
    );
    let said = text(&Line::to(gateway.data).ask(&head, json.as_bytes()));
    assert_eq!(
        (&said["id"], &said["model_version"]),
        (&json!("rid-1"), &json!("2")),
        "{said}"
    );
    let outputs = said["outputs"].as_array().unwrap();
    assert_eq!(outputs.len(), 1, "only what was asked for: {said}");
    assert_eq!(outputs[0]["name"], "probabilities");
    assert_eq!(outputs[0]["shape"], json!([1, 2]));
    let sum: f64 = outputs[0]["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p.as_f64().unwrap())
        .sum();
    assert!((sum - 1.0).abs() < 1e-6, "{said}");
}

#[test]
fn nvidias_load_generator_reads_model_config_server_and_statistics_before_it_sends_on_one_connection() {
    let (_site, gateway) = gateway();
    let mut line = Line::to(gateway.data);
    let mut get = |path: &str| {
        let head = format!(
            "
GET {path} HTTP/1.1
Host: 127.0.0.1:8000
User-Agent: libcurl-agent/1.0
Accept: */*
"
        );
        text(&line.ask(&head, b""))
    };
    let model = get("/v2/models/m");
    assert_eq!(
        model["inputs"],
        json!([{"name": "x", "datatype": "FP32", "shape": [-1, 3]}])
    );
    assert_eq!(
        model["outputs"],
        json!([{"name": "score", "datatype": "FP32", "shape": [-1, 1]}])
    );
    let config = get("/v2/models/m/config");
    assert!(config["max_batch_size"].as_u64().unwrap() > 0, "{config}");
    assert_eq!(config["input"][0]["dims"], json!([3]), "without the batch: {config}");
    assert_eq!(config["input"][0]["data_type"], "TYPE_FP32");
    let server = get("/v2");
    let extensions = server["extensions"].as_array().unwrap();
    assert!(extensions.contains(&json!("statistics")) && extensions.contains(&json!("binary_tensor_data")));
    let before = get("/v2/models/m/stats")["model_stats"][0].clone();
    let json = r#"{"id":"","inputs":[{"name":"x","datatype":"FP32","shape":[1,3],"parameters":{"binary_data_size":12}}],"outputs":[{"name":"score","parameters":{"binary_data":true}}]}"#;
    assert_eq!(json.len(), 165);
    // An empty `Expect` is no expectation.
    let head = "
POST /v2/models/m/infer HTTP/1.1
Host: 127.0.0.1:8000
User-Agent: libcurl-agent/1.0
Accept: */*
Expect:
Inference-Header-Content-Length: 165
Content-Type: application/octet-stream
Content-Length: 177
";
    let (said, tensors) = binary(&line.ask(head, &with_row(json)));
    assert_eq!((&said["outputs"], &tensors[..]), (&score(true), &MEAN[..]));
    assert!(said["id"].is_null() || said["id"] == "", "{said}");
    let head = "
GET /v2/models/m/stats HTTP/1.1
Host: 127.0.0.1:8000
User-Agent: libcurl-agent/1.0
Accept: */*
";
    let after = text(&line.ask(head, b""))["model_stats"][0].clone();
    // It reads a number here, and ends at a word.
    assert_eq!(after["version"], "2");
    for duration in [
        "success",
        "fail",
        "queue",
        "compute_input",
        "compute_infer",
        "compute_output",
        "cache_hit",
        "cache_miss",
    ] {
        let count = |of: &Value| of["inference_stats"][duration]["count"].as_u64().unwrap();
        assert!(after["inference_stats"][duration]["ns"].is_u64(), "{duration}: {after}");
        let moved = u64::from(!["fail", "cache_hit", "cache_miss"].contains(&duration));
        assert_eq!(count(&after) - count(&before), moved, "{duration}: {after}");
    }
}

#[test]
fn mlservers_command_line_offers_br_and_calls_raw_tensors_json() {
    let (_site, gateway) = gateway();
    let head = |more: &str, length: usize| {
        format!(
            "
POST /v2/models/m/infer HTTP/1.1
Host: 127.0.0.1:8000
content-type: application/json
seldon-puid: a
x-request-id: a
{more}Accept: */*
Accept-Encoding: gzip, deflate, br
User-Agent: Python/3.11 aiohttp/3.14.5
Content-Length: {length}
"
        )
    };
    let mut line = Line::to(gateway.data);
    let json = r#"{"id":"a","inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1.0,2.0,3.0]}],"parameters":{"binary_data_output":true}}"#;
    let (said, tensors) = binary(&line.ask(&head("", 128), json.as_bytes()));
    assert_eq!(
        (&said["id"], &said["outputs"], &tensors[..]),
        (&json!("a"), &score(true), &MEAN[..])
    );
    let json = r#"{"id":"a","inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","parameters":{"binary_data_size":12}}],"parameters":{"binary_data_output":true}}"#;
    let answer = line.ask(&head("Inference-Header-Content-Length: 144\n", 156), &with_row(json));
    let (said, tensors) = binary(&answer);
    assert_eq!(
        (&said["id"], &said["outputs"], &tensors[..]),
        (&json!("a"), &score(true), &MEAN[..])
    );
}

#[test]
fn kserves_rest_client_names_the_model_in_the_body_and_reads_json() {
    let (_site, gateway) = gateway();
    let mut line = Line::to(gateway.data);
    let head = |more: &str, length: usize| {
        format!(
            "
POST /v2/models/m/infer HTTP/1.1
Host: 127.0.0.1:8000
Accept: */*
Accept-Encoding: gzip, deflate
Connection: keep-alive
User-Agent: python-httpx/0.28.1
{more}Content-Length: {length}
"
        )
    };
    let id = "4ce3a6d6-80c9-4c22-a427-b08c6c333d92";
    let json = format!(
        r#"{{"id":"{id}","model_name":"m","inputs":[{{"name":"x","shape":[1,3],"datatype":"FP32","data":[1.0,2.0,3.0]}}]}}"#
    );
    let said = text(&line.ask(&head("content-type: application/json\n", 139), json.as_bytes()));
    assert_eq!((&said["id"], &said["outputs"]), (&json!(id), &score(false)), "{said}");
    let json = format!(
        r#"{{"id":"{id}","model_name":"m","inputs":[{{"name":"x","shape":[1,3],"datatype":"FP32","parameters":{{"binary_data_size":12}}}}]}}"#
    );
    let more = "inference-header-content-length: 155\ncontent-type: application/octet-stream\n";
    let said = text(&line.ask(&head(more, 167), &with_row(&json)));
    assert_eq!((&said["id"], &said["outputs"]), (&json!(id), &score(false)), "{said}");
    // Its health checks read a body, and compare the type without a charset.
    for (path, key) in [("/v2/health/live", "live"), ("/v2/health/ready", "ready")] {
        let head = format!("\nGET {path} HTTP/1.1\nHost: 127.0.0.1:8000\nAccept-Encoding: gzip, deflate\n");
        assert_eq!(text(&line.ask(&head, b""))[key], true, "{path}");
    }
}

#[test]
fn nvidias_http_client_loads_and_unloads_without_a_content_type_and_overrides_are_refused() {
    let (_site, gateway) = gateway();
    let mut line = Line::to(gateway.data);
    let mut ask = |path: &str, body: &str| {
        let head = format!(
            "
POST /v2/repository/{path} HTTP/1.1
User-Agent: python/gevent-http-client-2.6.1
Host: 127.0.0.1:8000
Content-Length: {}
",
            body.len()
        );
        line.ask(&head, body.as_bytes())
    };
    let loaded = ask("models/m/load", "{}");
    assert_eq!((loaded.status, &loaded.body[..]), (200, &b""[..]), "{}", loaded.text());
    let overridden = ask(
        "models/m/load",
        r#"{"parameters":{"config":"{\"a\":1}","file:1/model.onnx":"YWJj"}}"#,
    );
    assert_eq!(overridden.status, 400, "{}", overridden.text());
    assert!(overridden.json()["error"].is_string(), "{}", overridden.text());
    let index = text(&ask("index", ""));
    let mine = index.as_array().unwrap().iter().find(|entry| entry["name"] == "m");
    assert_eq!(
        mine.map(|entry| (&entry["version"], &entry["state"])),
        Some((&json!("2"), &json!("READY"))),
        "{index}"
    );
    let unloaded = ask("models/m/unload", r#"{"parameters":{"unload_dependents":false}}"#);
    assert_eq!(
        (unloaded.status, &unloaded.body[..]),
        (200, &b""[..]),
        "{}",
        unloaded.text()
    );
}
