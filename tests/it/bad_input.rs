//! Bad input is refused with its status, its code and a sentence that helps; the gateway answers the next request.

use serde_json::{Value, json};

use crate::support::client::{Answer, get, post, raw, request};
use crate::support::{Gateway, gateway};

/// Which listener a case is sent to.
#[derive(Clone, Copy)]
enum To {
    Data,
    Admin,
}
use To::{Admin, Data};

/// One bad request.
struct Case {
    name: &'static str,
    to: To,
    bytes: Vec<u8>,
    status: u16,
    code: &'static str,
    /// A word that the error must contain.
    says: &'static str,
}

fn case(name: &'static str, to: To, bytes: Vec<u8>, (status, code, says): (u16, &'static str, &'static str)) -> Case {
    Case {
        name,
        to,
        bytes,
        status,
        code,
        says,
    }
}

/// A `/predict` case from its body.
fn body(name: &'static str, body: impl AsRef<[u8]>, expected: (u16, &'static str, &'static str)) -> Case {
    case(name, Data, request("POST", "/predict", "", body.as_ref()), expected)
}

/// A `/predict` case for `elec2` from one feature value in JSON.
fn period(name: &'static str, value: &str, expected: (u16, &'static str, &'static str)) -> Case {
    body(
        name,
        format!(r#"{{"model":"elec2","instances":[{{"period":{value}}}]}}"#),
        expected,
    )
}

/// A `/predict` case for `plain` from its tensor in JSON.
fn tensor(name: &'static str, value: &str, expected: (u16, &'static str, &'static str)) -> Case {
    body(
        name,
        format!(r#"{{"model":"plain","inputs":{{"features":{value}}}}}"#),
        expected,
    )
}

/// A row that is fine.
fn row() -> Value {
    json!({"period": 0.5, "nswprice": 0.06, "nswdemand": 0.4, "vicprice": 0.003, "vicdemand": 0.42,
           "transfer": 0.41, "day": "2"})
}

fn json_cases() -> Vec<Case> {
    let deep = "[".repeat(100_000);
    let closed = format!("{}{}", deep, "]".repeat(100_000));
    vec![
        body("no body", "", (400, "empty_request", "empty")),
        body(
            "cut JSON",
            r#"{"model":"elec2","instances":[{"#,
            (400, "malformed_json", "not JSON"),
        ),
        body("not an object", "[]", (400, "wrong_type", "body")),
        body("trailing bytes", "{} {}", (400, "malformed_json", "trailing")),
        body(
            "byte order mark",
            b"\xef\xbb\xbf{}",
            (400, "malformed_json", "byte order mark"),
        ),
        body(
            "invalid UTF-8",
            b"{\"model\":\"\xff\"}",
            (400, "malformed_json", "UTF-8"),
        ),
        body(
            "open nesting",
            format!("{{\"x\":{deep}"),
            (400, "malformed_json", "not JSON"),
        ),
        period("nesting in a value", &closed, (400, "wrong_type", "period")),
        tensor("nesting in a tensor", &closed, (400, "wrong_shape", "nested")),
        period("NaN", "NaN", (400, "malformed_json", "NaN")),
        tensor("-Infinity", "[[0,1,-Infinity]]", (400, "malformed_json", "NaN")),
        period("1e999", "1e999", (400, "wrong_type", "period")),
        period("1e39 for FP32", "1e39", (400, "wrong_type", "out of range")),
        period("duplicate key", r#"1,"period":2"#, (400, "duplicate_key", "period")),
        period("lone surrogate", r#""\ud800""#, (400, "malformed_json", "period")),
        body(
            "duplicate top-level key",
            r#"{"inputs":{},"inputs":{}}"#,
            (400, "duplicate_key", "inputs"),
        ),
    ]
}

fn row_cases() -> Vec<Case> {
    let many = format!(r#"{{"model":"elec2","instances":[{}]}}"#, vec!["{}"; 101].join(","));
    let two = |extra: &str| format!(r#"{{"model":"elec2","instances":[{0},{0}],{extra}}}"#, row());
    vec![
        period(
            "string for a number",
            r#""0.5""#,
            (400, "wrong_type", "row 0, feature 'period'"),
        ),
        period("boolean for a number", "true", (400, "wrong_type", "0 or 1")),
        period("null for a number", "null", (400, "wrong_type", "missing")),
        period("list for a number", "[1]", (400, "wrong_type", "period")),
        body(
            "number for a string",
            r#"{"model":"elec2","instances":[{"day":2}]}"#,
            (400, "wrong_type", "string"),
        ),
        body(
            "unknown feature",
            r#"{"model":"elec2","instances":[{"perod":1}]}"#,
            (400, "unknown_feature", "did you mean 'period'"),
        ),
        body(
            "no rows",
            r#"{"model":"elec2","instances":[]}"#,
            (400, "empty_request", "row"),
        ),
        body(
            "neither rows nor tensors",
            r#"{"model":"elec2"}"#,
            (400, "empty_request", "instances"),
        ),
        body(
            "both rows and tensors",
            r#"{"model":"elec2","instances":[{}],"inputs":{}}"#,
            (400, "bad_request", "both"),
        ),
        body("too many rows", many, (400, "too_many_rows", "100")),
        body(
            "rows that are no list",
            r#"{"model":"elec2","instances":{}}"#,
            (400, "wrong_type", "list"),
        ),
        body(
            "a missing feature",
            r#"{"model":"elec2","instances":[{"period":0.5}]}"#,
            (400, "missing_feature", "nswprice"),
        ),
        body(
            "ids of another length",
            two(r#""ids":["a"]"#),
            (400, "wrong_shape", "'ids'"),
        ),
        body(
            "an id twice",
            two(r#""ids":["a","a"]"#),
            (400, "bad_request", "repeats"),
        ),
        body(
            "a reserved id",
            two(r#""ids":["a","p1_x"]"#),
            (400, "bad_request", "p1_"),
        ),
        body(
            "context that is no object",
            two(r#""context":[{},1]"#),
            (400, "wrong_type", "'context'"),
        ),
    ]
}

fn tensor_cases() -> Vec<Case> {
    vec![
        tensor("wrong width", "[[1,2]]", (400, "wrong_shape", "features")),
        tensor("ragged", "[[1,2,3],[1]]", (400, "wrong_shape", "ragged")),
        tensor("flat of a wrong length", "[1,2,3,4]", (400, "wrong_shape", "features")),
        tensor("string for a number", r#"[["a",1,2]]"#, (400, "wrong_type", "features")),
        tensor("no rows", "[]", (400, "empty_request", "row")),
        tensor(
            "two inputs",
            r#"[[1,2,3]],"more":[1]"#,
            (400, "unknown_feature", "more"),
        ),
        body(
            "no input",
            r#"{"model":"plain","inputs":{}}"#,
            (400, "missing_feature", "features"),
        ),
    ]
}

fn name_cases() -> Vec<Case> {
    let fine = json!({"instances": [row()]});
    let pinned = json!({"model": "elec2", "version": "nope", "instances": [row()]});
    let fine = fine.to_string();
    vec![
        body(
            "unknown model",
            r#"{"model":"nope","instances":[{}]}"#,
            (404, "unknown_model", "nope"),
        ),
        body("unknown version", pinned.to_string(), (404, "unknown_version", "nope")),
        body("no model of two named", &fine, (400, "bad_request", "model")),
        case(
            "two models named",
            Data,
            request(
                "POST",
                "/models/plain/predict",
                "",
                br#"{"model":"elec2","instances":[{}]}"#,
            ),
            (400, "bad_request", "path"),
        ),
        case(
            "a name that is not UTF-8",
            Data,
            request("POST", "/models/%ff/predict", "", fine.as_bytes()),
            (400, "bad_request", "percent"),
        ),
    ]
}

fn http_cases() -> Vec<Case> {
    let huge = vec![b' '; (1 << 20) + 1];
    let chunked = |body: &[u8]| {
        let mut bytes =
            b"POST /predict HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        bytes.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(b"\r\n0\r\n\r\n");
        bytes
    };
    let claim =
        b"POST /predict HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 99999999999\r\n\r\n".to_vec();
    let head = |headers: &str| request("POST", "/predict", headers, b"{}");
    vec![
        body("too large", &huge, (413, "too_large", "1048576")),
        case(
            "too large in chunks",
            Data,
            chunked(&huge),
            (413, "too_large", "1048576"),
        ),
        case("too large by its claim", Data, claim, (413, "too_large", "1048576")),
        case(
            "unknown path",
            Data,
            request("GET", "/nope", "", b""),
            (404, "not_found", "/nope"),
        ),
        case(
            "wrong method",
            Data,
            request("GET", "/predict", "", b""),
            (405, "method_not_allowed", "POST"),
        ),
        case(
            "wrong method on health",
            Data,
            request("POST", "/v2", "", b"{}"),
            (405, "method_not_allowed", "GET"),
        ),
        case(
            "two hosts",
            Data,
            head("host: a\r\nhost: b\r\n"),
            (400, "bad_request", "Host"),
        ),
        case(
            "a GET with a body",
            Data,
            request("GET", "/v2", "", b"{}"),
            (400, "bad_request", "body"),
        ),
        case(
            "XML",
            Data,
            head("content-type: text/xml\r\n"),
            (415, "unsupported_media_type", "json"),
        ),
        case(
            "a form",
            Data,
            head("content-type: multipart/form-data\r\n"),
            (415, "unsupported_media_type", "json"),
        ),
        case(
            "compressed",
            Data,
            head("content-encoding: br\r\n"),
            (415, "unsupported_media_type", "Encoding"),
        ),
        case(
            "a bad deadline",
            Data,
            head("x-dethrone-timeout-ms: soon\r\n"),
            (400, "bad_request", "milliseconds"),
        ),
        case(
            "a bad opt-out",
            Data,
            head("x-dethrone-opt-out: perhaps\r\n"),
            (400, "bad_request", "opt-out"),
        ),
        case(
            "metrics on the data port",
            Data,
            request("GET", "/metrics", "", b""),
            (404, "not_found", "listener"),
        ),
        case(
            "admin on the data port",
            Data,
            request("GET", "/api/models", "", b""),
            (404, "not_found", "listener"),
        ),
        case(
            "predict on the admin port",
            Admin,
            request("POST", "/predict", "", b"{}"),
            (404, "not_found", "listener"),
        ),
    ]
}

fn admin_cases() -> Vec<Case> {
    let typed = "content-type: application/json\r\n";
    let order = |headers: &str, body: &str| {
        request(
            "POST",
            "/api/models/elec2/hold",
            &format!("{typed}{headers}"),
            body.as_bytes(),
        )
    };
    let fine = r#"{"author":"ada","reason":"test"}"#;
    vec![
        case(
            "foreign host",
            Admin,
            order("host: evil.example\r\n", fine),
            (403, "forbidden", "evil"),
        ),
        case(
            "foreign origin",
            Admin,
            order("origin: http://evil.example\r\n", fine),
            (403, "forbidden", "evil"),
        ),
        case(
            "a page of another port of this machine",
            Admin,
            order("origin: http://127.0.0.1:3000\r\n", fine),
            (403, "forbidden", "3000"),
        ),
        case(
            "a page of another scheme",
            Admin,
            order("origin: https://localhost\r\n", fine),
            (403, "forbidden", "https"),
        ),
        case(
            "an order from another site",
            Admin,
            order("sec-fetch-site: cross-site\r\n", fine),
            (403, "forbidden", "site"),
        ),
        case(
            "no origin",
            Admin,
            order("origin: null\r\n", fine),
            (403, "forbidden", "null"),
        ),
        case(
            "no author",
            Admin,
            order("", r#"{"reason":"x"}"#),
            (400, "bad_request", "author"),
        ),
        case(
            "no reason",
            Admin,
            order("", r#"{"author":"x","reason":" "}"#),
            (400, "bad_request", "reason"),
        ),
        case(
            "an order that is not JSON",
            Admin,
            order("", "promote!"),
            (400, "malformed_json", "order"),
        ),
        case(
            "an order without its type",
            Admin,
            request("POST", "/api/models/elec2/hold", "", fine.as_bytes()),
            (415, "unsupported_media_type", "application/json"),
        ),
        case(
            "unknown model",
            Admin,
            request("GET", "/api/models/nope", "", b""),
            (404, "unknown_model", "nope"),
        ),
        case(
            "unknown order",
            Admin,
            request("POST", "/api/models/elec2/fire", typed, b"{}"),
            (404, "not_found", "fire"),
        ),
        case(
            "wrong method",
            Admin,
            request("GET", "/api/models/elec2/hold", "", b""),
            (405, "method_not_allowed", "POST"),
        ),
    ]
}

fn feedback_cases() -> Vec<Case> {
    let post = |body: &str| request("POST", "/feedback", "", body.as_bytes());
    vec![
        case(
            "labels as a number",
            Data,
            post("7"),
            (400, "wrong_type", "an object with 'labels'"),
        ),
        case(
            "labels as an object",
            Data,
            post("{\"labels\":{}}"),
            (400, "wrong_type", "expected a list"),
        ),
        case(
            "an order that is a number",
            Admin,
            request(
                "POST",
                "/api/models/elec2/hold",
                "content-type: application/json\r\n",
                b"7",
            ),
            (400, "malformed_json", "an object with 'author'"),
        ),
        case(
            "an input of the protocol that is a number",
            Data,
            request("POST", "/v2/models/plain/infer", "", b"{\"inputs\":[7]}"),
            (400, "wrong_type", "an input as an object"),
        ),
        case(
            "a shape of text",
            Data,
            request(
                "POST",
                "/v2/models/plain/infer",
                "",
                b"{\"inputs\":[{\"name\":\"a\",\"shape\":[{}],\"datatype\":\"FP32\",\"data\":[]}]}",
            ),
            (400, "wrong_type", "expected an integer"),
        ),
        body(
            "a body that is a number",
            "7",
            (400, "wrong_type", "an object with 'instances'"),
        ),
        case(
            "labels that are not JSON",
            Data,
            post("label"),
            (400, "malformed_json", "not JSON"),
        ),
        case(
            "no labels",
            Data,
            post(r#"{"model":"elec2","labels":[]}"#),
            (400, "empty_request", "labels"),
        ),
        case(
            "labels for an unknown model",
            Data,
            post(r#"{"model":"nope","labels":[{"id":"a","label":1}]}"#),
            (404, "unknown_model", "nope"),
        ),
    ]
}

fn send(gateway: &Gateway, case: &Case) -> Answer {
    let to = match case.to {
        Data => gateway.data,
        Admin => gateway.admin,
    };
    raw(to, &case.bytes).unwrap_or_else(|e| panic!("{}: {e}", case.name))
}

#[test]
fn bad_input_is_refused_with_status_code_and_a_helping_word_and_never_500() {
    let gateway = gateway();
    let groups = [
        json_cases(),
        row_cases(),
        tensor_cases(),
        name_cases(),
        http_cases(),
        admin_cases(),
        feedback_cases(),
    ];
    let mut faults = Vec::new();
    for case in groups.iter().flatten() {
        let answer = send(&gateway, case);
        let said = answer.json();
        let (error, code) = (
            said["error"].as_str().unwrap_or(""),
            said["code"].as_str().unwrap_or(""),
        );
        if (answer.status, code) != (case.status, case.code) || !error.contains(case.says) {
            faults.push(format!(
                "{}: expected {} {} with '{}', got {} {}",
                case.name,
                case.status,
                case.code,
                case.says,
                answer.status,
                answer.text()
            ));
        }
        let of_rust = ["struct ", "enum ", "f64", "f32", "u64", "i64", "RawValue", "visitor"];
        if let Some(word) = of_rust.into_iter().find(|word| error.contains(word)) {
            faults.push(format!("{}: '{word}' is no word of ours: {error}", case.name));
        }
        if !answer.head.contains("content-type: application/json\r\n") && !answer.head.ends_with("application/json") {
            faults.push(format!("{}: not JSON: {}", case.name, answer.head));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let fine = post(
        gateway.data,
        "/predict",
        &json!({"model": "elec2", "instances": [row()]}),
    );
    assert_eq!(fine.status, 200, "{}", fine.text());
    assert_eq!(get(gateway.data, "/v2/health/ready").status, 200);
}

#[test]
fn a_client_that_sends_all_before_it_reads_gets_to_read_why_it_was_refused() {
    use std::io::Write as _;
    let gateway = gateway();
    // Larger by far than what the sockets hold.
    let body = vec![b' '; 96 << 20];
    let mut chunked =
        b"POST /predict HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.chunks(1 << 20) {
        write!(chunked, "{:x}\r\n", chunk.len()).unwrap();
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    for (name, bytes, status) in [
        ("too large", request("POST", "/predict", "", &body), 413),
        ("too large in chunks", chunked, 413),
        ("no such path", request("POST", "/nope", "", &body), 404),
        (
            "another type",
            request("POST", "/feedback", "content-type: text/xml\r\n", &body),
            415,
        ),
    ] {
        let mut stream = std::net::TcpStream::connect(gateway.data).unwrap();
        stream
            .set_read_timeout(Some(std::time::Duration::from_secs(60)))
            .unwrap();
        stream
            .write_all(&bytes)
            .unwrap_or_else(|e| panic!("{name}: sending broke off: {e}"));
        let answer = crate::support::client::rest(&mut stream).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(answer.status, status, "{name}");
        assert!(answer.json()["error"].is_string(), "{name}: {}", answer.text());
    }
}

#[test]
fn a_wrong_method_is_told_the_right_one() {
    let gateway = gateway();
    let answer = raw(gateway.data, &request("PUT", "/predict", "", b"{}")).unwrap();
    assert_eq!(answer.status, 405);
    assert!(answer.head.contains("allow: post"), "{}", answer.head);
}

#[test]
fn a_bad_label_does_not_spoil_the_others() {
    let gateway = gateway();
    let predicted = post(
        gateway.data,
        "/predict",
        &json!({"model": "elec2", "instances": [row()]}),
    )
    .json();
    let id = predicted["predictions"][0]["id"].as_str().unwrap();
    let labels = json!({"model": "elec2", "labels": [{"id": "x"}, {"id": id, "label": 1}, 7]});
    let answer = post(gateway.data, "/feedback", &labels).json();
    assert_eq!(answer["accepted"], 1, "{answer}");
    let statuses: Vec<&str> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["status"].as_str().unwrap())
        .collect();
    assert_eq!(statuses, ["invalid", "accepted", "invalid"]);

    let lines = format!("{{\"model\":\"elec2\",\"id\":\"{id}\",\"label\":1}}\n\nnonsense\n");
    let bytes = request(
        "POST",
        "/feedback",
        "content-type: application/x-ndjson\r\n",
        lines.as_bytes(),
    );
    let answer = raw(gateway.data, &bytes).unwrap().json();
    assert_eq!(answer["counts"], json!({"duplicate": 1, "invalid": 1}), "{answer}");
    assert_eq!(answer["rejected"][1]["line"], 3, "{answer}");
}
