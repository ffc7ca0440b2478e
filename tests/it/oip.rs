//! The Open Inference Protocol over REST, with raw bytes: what each kind of model takes and gives, in both forms, and
//! what is refused. Real clients are tested elsewhere.

mod hostile;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::client::{self, Answer};
use crate::support::{Gateway, Site, data, elec2_row, gateway_with, right_answers, shipped, until};

fn export(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exports").join(file)
}

/// A gateway with these files, each the only version of the model of its name.
fn serving(files: &[(&str, PathBuf, &str)]) -> (Site, Gateway) {
    let site = Site::new("");
    for (model, file, settings) in files {
        site.model_toml(model, settings).drop_file(model, "v1", file);
    }
    let gateway = site.start();
    for (model, _, _) in files {
        until(model, || {
            (client::get(gateway.data, &format!("/v2/models/{model}/ready")).status == 200).then_some(())
        });
    }
    (site, gateway)
}

fn infer(gateway: &Gateway, path: &str, body: &Value) -> Answer {
    client::post(gateway.data, &format!("/v2/models/{path}/infer"), body)
}

/// A request with its JSON's length in the header and bytes behind it.
fn binary(gateway: &Gateway, path: &str, json: &Value, tail: &[u8], headers: &str) -> Answer {
    let json = json.to_string();
    let mut body = json.clone().into_bytes();
    body.extend_from_slice(tail);
    let headers = format!("inference-header-content-length: {}\r\n{headers}", json.len());
    let path = format!("/v2/models/{path}/infer");
    client::raw(gateway.data, &client::request("POST", &path, &headers, &body)).unwrap()
}

/// JSON and bytes of an answer that has both.
fn parts(answer: &Answer) -> (Value, Vec<u8>) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(
        answer.head.contains("content-type: application/octet-stream\r\n"),
        "{}",
        answer.head
    );
    let length = answer
        .head
        .lines()
        .find_map(|l| l.strip_prefix("inference-header-content-length: "));
    let (json, tail) = answer.body.split_at(length.unwrap().parse().unwrap());
    (serde_json::from_slice(json).unwrap(), tail.to_vec())
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|c| f32::from_le_bytes(*c)).collect()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn output<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let outputs = answer["outputs"].as_array().unwrap();
    outputs
        .iter()
        .find(|o| o["name"] == name)
        .unwrap_or_else(|| panic!("no {name} in {answer}"))
}

/// The inputs of a row of features, one tensor each.
fn columns(rows: &[Value]) -> Value {
    let names = rows[0].as_object().unwrap().keys();
    let input = |name: &String| {
        let data: Vec<&Value> = rows.iter().map(|row| &row[name]).collect();
        let datatype = if data[0].is_string() { "BYTES" } else { "FP32" };
        json!({"name": name, "shape": [rows.len(), 1], "datatype": datatype, "data": data})
    };
    names.map(input).collect()
}

#[test]
fn named_features_come_as_a_tensor_each_and_give_score_label_and_probabilities() {
    let gateway = gateway_with("");
    let metadata = client::get(gateway.data, "/v2/models/elec2").json();
    let names = |specs: &Value| -> Vec<String> {
        let specs = specs.as_array().unwrap().iter();
        specs
            .map(|s| {
                format!(
                    "{} {} {}",
                    s["name"].as_str().unwrap(),
                    s["datatype"].as_str().unwrap(),
                    s["shape"]
                )
            })
            .collect()
    };
    assert_eq!(
        names(&metadata["outputs"]),
        ["score FP32 [-1]", "label INT64 [-1]", "probabilities FP32 [-1,2]"]
    );
    assert_eq!(names(&metadata["inputs"]).len(), 7);
    assert!(names(&metadata["inputs"]).contains(&"day BYTES [-1,1]".to_owned()));
    assert_eq!(
        (&metadata["platform"], &metadata["versions"]),
        (&json!("onnxruntime_onnx"), &json!(["e01_logreg"]))
    );

    let (rows, right): (Vec<Value>, Vec<Value>) = right_answers().into_iter().unzip();
    let answer = infer(&gateway, "elec2", &json!({"id": "q-1", "inputs": columns(&rows)})).json();
    assert_eq!(
        (&answer["model_name"], &answer["model_version"]),
        (&json!("elec2"), &json!("e01_logreg"))
    );
    assert_eq!(
        (&answer["id"], &answer["parameters"]["version"]),
        (&json!("q-1"), &json!("e01_logreg"))
    );
    let (scores, labels) = (output(&answer, "score"), output(&answer, "label"));
    let probabilities = output(&answer, "probabilities");
    assert_eq!(probabilities["shape"], json!([rows.len(), 2]));
    for (k, right) in right.iter().enumerate() {
        let (score, right) = (
            scores["data"][k].as_f64().unwrap(),
            right["e01_logreg"].as_f64().unwrap(),
        );
        assert!((score - right).abs() < 1e-6, "{score} {right}");
        assert_eq!(labels["data"][k], json!(i64::from(score >= 0.5)));
        let pair = [2 * k, 2 * k + 1].map(|at| probabilities["data"][at].as_f64().unwrap());
        assert!(
            (pair[1] - score).abs() < 1e-7 && (pair[0] + pair[1] - 1.0).abs() < 1e-6,
            "{pair:?}"
        );
    }
    // Its id is what labels name, for each row.
    let id = answer["parameters"]["prediction_id"].as_str().unwrap();
    let second = format!("{id}.1");
    assert_eq!(
        gateway.label("elec2", &[(id, json!(1)), (&second, json!(0))]),
        ["accepted", "accepted"]
    );

    let one = json!({"inputs": columns(&rows[..1]), "outputs": [{"name": "label"}]});
    let answer = infer(&gateway, "elec2", &one).json();
    assert_eq!(answer["outputs"].as_array().unwrap().len(), 1);
    assert!(answer.get("id").is_none(), "none was sent: {answer}");
}

#[test]
fn the_first_champions_tensor_and_outputs_stay_a_second_spelling_whoever_answers() {
    let features = "features = [\"a\", \"b\", \"c\"]\n";
    let site = Site::new("");
    site.model_toml("m", features)
        .drop_file("m", "v1", &export("sklearn_plain.onnx"));
    let gateway = site.start().ready();
    let table =
        json!({"inputs": [{"name": "X", "shape": [2, 3], "datatype": "FP32", "data": [[0.1, 0.2, 0.3], [1, -1, 2]]}]});
    let named = json!({"inputs": [
        {"name": "c", "shape": [2], "datatype": "FP64", "data": [0.3, 2]},
        {"name": "a", "shape": [2, 1], "datatype": "FP32", "data": [0.1, 1]},
        {"name": "b", "shape": [2, 1], "datatype": "FP32", "data": [0.2, -1]},
    ]});
    let (own, read) = (infer(&gateway, "m", &table).json(), infer(&gateway, "m", &named).json());
    assert_eq!(
        output(&own, "probabilities")["data"],
        output(&read, "probabilities")["data"]
    );
    assert_eq!(output(&own, "label")["datatype"], "INT64");
    let (json, tail) = parts(&binary(
        &gateway,
        "m",
        &json!({"inputs": [{"name": "X", "shape": [2, 3], "datatype": "FP32", "parameters": {"binary_data_size": 24}}],
                "outputs": [{"name": "probabilities", "parameters": {"binary_data": true}}, {"name": "score"}]}),
        &bytes(&[0.1, 0.2, 0.3, 1.0, -1.0, 2.0]),
        "",
    ));
    let before: Vec<f64> = output(&own, "probabilities")["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap())
        .collect();
    for (a, b) in floats(&tail).iter().zip(&before) {
        assert!((f64::from(*a) - b).abs() < 1e-7);
    }
    assert_eq!(output(&json, "probabilities")["parameters"]["binary_data_size"], 16);
    assert_eq!(output(&json, "score")["data"].as_array().unwrap().len(), 2);

    // A champion of other tensors: what clients send and get stays.
    site.drop_file("m", "v2", &export("xgboost.onnx"));
    gateway.until_role("m", "v2", "challenger");
    assert_eq!(gateway.act("m", "promote", Some("v2")).0, 200);
    for body in [&table, &named] {
        let answer = infer(&gateway, "m", body).json();
        assert_eq!(answer["model_version"], "v2");
        assert_eq!(output(&answer, "probabilities")["shape"], json!([2, 2]));
        assert_eq!(output(&answer, "label")["shape"], json!([2]));
    }
    assert_eq!(
        client::get(gateway.data, "/v2/models/m").json()["versions"],
        json!(["v2", "v1"])
    );
    // A version speaks its own language.
    let own = client::get(gateway.data, "/v2/models/m/versions/v2").json();
    assert_eq!(own["inputs"][0]["name"], "input");
    let body = json!({"inputs": [{"name": "input", "shape": [1, 3], "datatype": "FP32", "data": [0.1, 0.2, 0.3]}]});
    let answer = infer(&gateway, "m/versions/v2", &body).json();
    assert_eq!(output(&answer, "probabilities")["shape"], json!([1, 2]), "{answer}");
    let answer = infer(&gateway, "m/versions/v1", &table).json();
    assert_eq!(
        (&answer["model_version"], &own["versions"]),
        (&json!("v1"), &json!(["v2"]))
    );
}

#[test]
fn tensors_go_in_and_come_out_as_they_are_in_json_and_in_bytes() {
    let (_site, gateway) = serving(&[("mean", data("mean"), "interface = \"tensors\"\n")]);
    let json = json!({"inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 9]}]});
    let flat = infer(&gateway, "mean", &json).json();
    let nested =
        json!({"inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [[1, 2, 3], [4, 5, 9]]}]});
    assert_eq!(infer(&gateway, "mean", &nested).json()["outputs"], flat["outputs"]);
    assert_eq!(
        flat["outputs"],
        json!([{"name": "score", "shape": [2, 1], "datatype": "FP32", "data": [2.0, 6.0]}])
    );
    let head = json!({"inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP32", "parameters": {"binary_data_size": 24}}],
                      "parameters": {"binary_data_output": true}});
    let sent = bytes(&[1.0, 2.0, 3.0, 4.0, 5.0, 9.0]);
    let (_, tail) = parts(&binary(&gateway, "mean", &head, &sent, ""));
    assert_eq!(floats(&tail), [2.0, 6.0]);
    // Whatever type the client claims, and however it is spelled.
    for kind in [
        "content-type: application/json\r\n",
        "content-type: application/octet-stream\r\n",
    ] {
        let (_, tail) = parts(&binary(&gateway, "mean", &head, &sent, kind));
        assert_eq!(floats(&tail), [2.0, 6.0], "{kind}");
    }
    // No JSON at all: the rows follow from the length, and all comes back as bytes.
    let raw = |body: &[u8]| {
        let request = client::request(
            "POST",
            "/v2/models/mean/infer",
            "inference-header-content-length: 0\r\n",
            body,
        );
        client::raw(gateway.data, &request).unwrap()
    };
    let (json, tail) = parts(&raw(&sent));
    assert_eq!(
        (floats(&tail), &json["outputs"][0]["shape"]),
        (vec![2.0, 6.0], &json!([2, 1]))
    );
    assert_eq!(raw(&sent[..20]).status, 400, "five numbers are no rows of three");
    // An empty tensor is no error.
    let none = json!({"inputs": [{"name": "x", "shape": [0, 3], "datatype": "FP32", "data": []}]});
    assert_eq!(
        infer(&gateway, "mean", &none).json()["outputs"][0]["shape"],
        json!([0, 1])
    );
}

#[test]
fn bodies_are_unpacked_and_answers_packed_as_asked() {
    let (_site, gateway) = serving(&[("mean", data("mean"), "interface = \"tensors\"\n")]);
    let json = json!({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}).to_string();
    let gzip = |bytes: &[u8]| {
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut to, bytes).unwrap();
        to.finish().unwrap()
    };
    let deflate = |bytes: &[u8]| {
        let mut to = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut to, bytes).unwrap();
        to.finish().unwrap()
    };
    for (name, body) in [("gzip", gzip(json.as_bytes())), ("deflate", deflate(json.as_bytes()))] {
        let headers = format!("content-encoding: {name}\r\naccept-encoding: br, {name}\r\n");
        let request = client::request("POST", "/v2/models/mean/infer", &headers, &body);
        let answer = client::raw(gateway.data, &request).unwrap();
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        assert!(
            answer.head.contains(&format!("content-encoding: {name}\r\n")),
            "{}",
            answer.head
        );
        let mut text = String::new();
        let read = match name {
            "gzip" => std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&*answer.body), &mut text),
            _ => std::io::Read::read_to_string(&mut flate2::read::ZlibDecoder::new(&*answer.body), &mut text),
        };
        read.unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["outputs"][0]["data"], json!([2.0]));
    }
    // The length of the JSON is that of the unpacked one, also in the answer.
    let head =
        json!({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": 12}}],
                      "parameters": {"binary_data_output": true}})
        .to_string();
    let mut whole = head.clone().into_bytes();
    whole.extend(bytes(&[1.0, 2.0, 6.0]));
    let headers = format!(
        "content-encoding: gzip\r\naccept-encoding: gzip\r\ninference-header-content-length: {}\r\n",
        head.len()
    );
    let answer = client::raw(
        gateway.data,
        &client::request("POST", "/v2/models/mean/infer", &headers, &gzip(&whole)),
    );
    let mut answer = answer.unwrap();
    let mut unpacked = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&*answer.body), &mut unpacked).unwrap();
    answer.body = unpacked;
    assert_eq!(floats(&parts(&answer).1), [3.0]);
    // Only what was asked for, never what some clients claim and cannot read.
    for headers in ["", "accept-encoding: br, zstd\r\n"] {
        let request = client::request("POST", "/v2/models/mean/infer", headers, json.as_bytes());
        let answer = client::raw(gateway.data, &request).unwrap();
        assert!(
            answer.status == 200 && !answer.head.contains("content-encoding"),
            "{}",
            answer.head
        );
    }
}

#[test]
fn words_for_numbers_that_are_none_are_read_where_clients_write_them() {
    let (_site, gateway) = serving(&[
        (
            "hidden",
            data("mean"),
            "missing = \"nan\"\nfeatures = [\"a\", \"b\", \"c\"]\n",
        ),
        ("strict", data("mean"), "features = [\"a\", \"b\", \"c\"]\n"),
    ]);
    let body = |number: &str| {
        format!(r#"{{"inputs":[{{"name":"x","shape":[1,3],"datatype":"FP32","data":[1.0,{number},3.0]}}]}}"#)
    };
    let post = |model: &str, number: &str| {
        let path = format!("/v2/models/{model}/infer");
        client::raw(
            gateway.data,
            &client::request("POST", &path, "", body(number).as_bytes()),
        )
        .unwrap()
    };
    // The value is read; that the mean of it is no score is the model's affair.
    let answer = post("hidden", "NaN");
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (422, Some("no_answer")),
        "{}",
        answer.text()
    );
    assert_eq!(post("hidden", "-Infinity").status, 422);
    let answer = post("strict", "NaN");
    assert_eq!(answer.status, 400);
    assert!(
        answer.json()["error"].as_str().unwrap().contains("missing = \"nan\""),
        "{}",
        answer.text()
    );
    assert_eq!(post("strict", "Nan").json()["code"], "malformed_json");
}

#[test]
fn a_model_is_described_counted_unloaded_and_loaded_again() {
    let (site, gateway) = serving(&[("mean", data("mean"), ""), ("tree", shipped("e02_tree"), "")]);
    let server = client::get(gateway.data, "/v2").json();
    assert_eq!(server["name"], "dethrone");
    for extension in [
        "binary_tensor_data",
        "model_configuration",
        "model_repository",
        "statistics",
        "parameters",
    ] {
        assert!(
            server["extensions"].as_array().unwrap().contains(&json!(extension)),
            "{server}"
        );
    }
    assert_eq!(
        client::get(gateway.data, "/v2/models").json(),
        json!({"models": ["mean", "tree"]})
    );
    let config = client::get(gateway.data, "/v2/models/mean/config").json();
    assert_eq!(
        config["input"],
        json!([{"name": "x", "data_type": "TYPE_FP32", "dims": [3]}])
    );
    assert!(config["max_batch_size"].as_u64().unwrap() > 0, "{config}");

    let body = json!({"inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 9]}]});
    for _ in 0..3 {
        assert_eq!(infer(&gateway, "mean", &body).status, 200);
    }
    assert_eq!(infer(&gateway, "mean", &json!({"inputs": []})).status, 400);
    let stats = client::get(gateway.data, "/v2/models/mean/stats").json();
    let stats = &stats["model_stats"][0];
    assert_eq!(
        (&stats["inference_count"], &stats["execution_count"]),
        (&json!(6), &json!(3)),
        "{stats}"
    );
    let durations = &stats["inference_stats"];
    assert_eq!(
        (&durations["success"]["count"], &durations["fail"]["count"]),
        (&json!(3), &json!(1))
    );
    for name in ["queue", "compute_input", "compute_infer", "compute_output"] {
        assert_eq!(durations[name]["count"], 3, "{name}");
    }
    for name in ["cache_hit", "cache_miss"] {
        assert_eq!(durations[name], json!({"count": 0, "ns": 0}));
    }
    assert_eq!(stats["batch_stats"][0]["batch_size"], 2);
    assert_eq!(
        client::get(gateway.data, "/v2/models/stats").json()["model_stats"]
            .as_array()
            .unwrap()
            .len(),
        2
    );

    let post = |path: &str, body: &str| {
        client::raw(gateway.data, &client::request("POST", path, "", body.as_bytes())).unwrap()
    };
    let index = |body: &str| post("/v2/repository/index", body).json();
    assert_eq!(
        index("")[0],
        json!({"name": "mean", "version": "v1", "state": "READY", "reason": ""})
    );
    let answer = post(
        "/v2/repository/models/mean/unload",
        "{\"parameters\":{\"unload_dependents\":true}}",
    );
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert_eq!(infer(&gateway, "mean", &body).status, 503);
    assert_eq!(client::get(gateway.data, "/v2/models/mean/ready").status, 503);
    assert_eq!(
        client::get(gateway.data, "/v2/health/ready").status,
        200,
        "the other model answers"
    );
    assert_eq!(index("{}")[0]["state"], "UNAVAILABLE");
    assert_eq!(index("{\"ready\":true}").as_array().unwrap().len(), 1);
    for parameters in ["{\"config\":\"{}\"}", "{\"file:1/model.onnx\":\"YWJj\"}"] {
        let answer = post(
            "/v2/repository/models/mean/load",
            &format!("{{\"parameters\":{parameters}}}"),
        );
        assert_eq!(answer.status, 400, "{}", answer.text());
    }
    assert_eq!(post("/v2/repository/models/mean/load", "").status, 200);
    assert_eq!(infer(&gateway, "mean", &body).status, 200);
    assert_eq!(post("/v2/repository/models/nix/load", "").status, 404);
    // A model that was not there is loaded when the answer comes.
    site.model_toml("late", "").drop_file("late", "v1", &data("mean"));
    assert_eq!(post("/v2/repository/models/late/load", "{}").status, 200);
    assert_eq!(infer(&gateway, "late", &body).status, 200);
}

#[test]
fn only_this_machine_may_unload_unless_the_settings_say_otherwise() {
    for (settings, status) in [("", 403), ("repository_control = true\n", 200)] {
        let site = Site::new(settings);
        site.model_toml("mean", "").drop_file("mean", "v1", &data("mean"));
        let gateway = site.start_on("0.0.0.0:0").ready();
        let request = client::request("POST", "/v2/repository/models/mean/unload", "", b"");
        let answer = client::raw(([127, 0, 0, 1], gateway.data.port()).into(), &request).unwrap();
        assert_eq!(answer.status, status, "{}", answer.text());
        if status == 403 {
            assert!(
                answer.json()["error"]
                    .as_str()
                    .unwrap()
                    .contains("repository_control = true")
            );
        }
    }
}

#[test]
fn who_opts_out_or_comes_too_late_is_heard() {
    let gateway = gateway_with("");
    let body = json!({"inputs": columns(&[elec2_row()])}).to_string();
    let post = |headers: &str| {
        let request = client::request("POST", "/v2/models/elec2/infer", headers, body.as_bytes());
        client::raw(gateway.data, &request).unwrap()
    };
    let id = |answer: &Answer| {
        answer.json()["parameters"]["prediction_id"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let out = id(&post("x-dethrone-opt-out: 1\r\n"));
    assert_eq!(gateway.label("elec2", &[(&out, json!(1))]), ["unrecorded"]);
    let late = post("x-dethrone-timeout-ms: 0\r\n");
    assert_eq!((late.status, late.json()["code"].as_str()), (504, Some("deadline")));
    assert_eq!(post("x-dethrone-timeout-ms: soon\r\n").status, 400);
}
