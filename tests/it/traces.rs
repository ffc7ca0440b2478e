//! Spans and slow requests: a collector that decodes them, one that hangs, one that is not there.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use dethrone::grpc::pb::inference as pb;
use dethrone::metrics::protobuf::MetricFamily;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::{Value, json};

use crate::support::client::{raw, request, rest};
use crate::support::grpc;
use crate::support::{elec2_row, gateway, gateway_with, ids, until};

/// Takes exports until the test ends.
fn collector() -> (String, Receiver<ExportTraceServiceRequest>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let (sender, exports) = sync_channel(1_024);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            while let Some(export) = export(&mut stream) {
                if sender.send(export).is_err() {
                    return;
                }
            }
        }
    });
    (url, exports)
}

/// One call, answered with 200.
fn export(stream: &mut BufReader<TcpStream>) -> Option<ExportTraceServiceRequest> {
    let (mut length, mut is_protobuf) = (None, false);
    let mut line = String::new();
    assert!(
        stream.read_line(&mut line).ok()? == 0 || line.starts_with("POST /v1/traces HTTP/1.1"),
        "{line}"
    );
    loop {
        line.clear();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let head = line.trim().to_lowercase();
        if head.is_empty() {
            break;
        }
        length = length.or_else(|| head.strip_prefix("content-length: ")?.parse::<usize>().ok());
        is_protobuf |= head == "content-type: application/x-protobuf";
    }
    assert!(is_protobuf, "the only encoding that every collector takes");
    let mut body = vec![0; length?];
    stream.read_exact(&mut body).ok()?;
    stream
        .get_mut()
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        .ok()?;
    Some(ExportTraceServiceRequest::decode(&body[..]).unwrap())
}

fn attribute(span: &Span, key: &str) -> Value {
    let pair = span.attributes.iter().find(|pair| pair.key == key);
    match pair.and_then(|pair| pair.value.clone()?.value) {
        Some(Any::StringValue(text)) => json!(text),
        Some(Any::IntValue(number)) => json!(number),
        other => panic!("{key}: {other:?}"),
    }
}

const PROTOBUF: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_request_in_a_callers_trace_reaches_the_collector_with_its_phases_and_others_are_drawn_by_the_share() {
    let (url, exports) = collector();
    let gateway = gateway_with(&format!("trace_endpoint = \"{url}\"\ntrace_sample = 0.0\n"));
    let body = json!({"model": "elec2", "instances": [elec2_row(), elec2_row()]}).to_string();
    let predict = |flags: &str| {
        let headers = format!(
            "content-type: application/json\r\ntraceparent: 00-{TRACE}-{CALLER}-{flags}\r\ntracestate: a=b\r\n"
        );
        let answer = raw(gateway.data, &request("POST", "/predict", &headers, body.as_bytes())).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer
    };
    // Neither the caller's no, nor nobody's word where the share is 0, makes a span.
    assert!(!predict("00").head.contains("traceresponse"));
    let (status, _) = gateway.predict(&serde_json::from_str(&body).unwrap());
    assert_eq!(status, 200);
    let answer = predict("01");
    let told = answer
        .head
        .lines()
        .find_map(|line| line.strip_prefix("traceresponse: "))
        .unwrap()
        .to_owned();
    let export = exports.recv_timeout(Duration::from_secs(30)).unwrap();
    let [resource] = &export.resource_spans[..] else {
        panic!("{export:?}")
    };
    let service = &resource.resource.as_ref().unwrap().attributes[0];
    assert_eq!(service.key, "service.name");
    let spans = &resource.scope_spans[0].spans;
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["predict", "read", "decode", "queue", "compute", "encode"]);
    assert!(
        spans
            .iter()
            .all(|span| hex(&span.trace_id) == TRACE && span.span_id.len() == 8)
    );
    let (root, phases) = spans.split_first().unwrap();
    assert_eq!(told, format!("00-{TRACE}-{}-01", hex(&root.span_id)));
    assert_eq!((hex(&root.parent_span_id), root.kind), (CALLER.to_owned(), 2));
    assert_eq!(root.trace_state, "a=b");
    assert_eq!(attribute(root, "dethrone.model"), "elec2");
    assert_eq!(attribute(root, "dethrone.version"), "e01_logreg");
    assert_eq!(attribute(root, "dethrone.role"), "champion");
    assert_eq!(attribute(root, "dethrone.rows"), 2);
    assert_eq!(attribute(root, "http.response.status_code"), 200);
    let id = ids(&answer.json()).remove(0);
    assert!(
        id.starts_with(attribute(root, "dethrone.prediction_id").as_str().unwrap()),
        "{id}"
    );
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let age = now.as_nanos().abs_diff(u128::from(root.end_time_unix_nano));
    assert!(age < 60_000_000_000, "{age} ns");
    let mut before = root.start_time_unix_nano;
    for phase in phases {
        assert_eq!(phase.parent_span_id, root.span_id, "{}", phase.name);
        assert!(
            phase.start_time_unix_nano >= before && phase.end_time_unix_nano <= root.end_time_unix_nano,
            "{phase:?}"
        );
        before = phase.start_time_unix_nano;
    }
    until("all spans are counted", || {
        (gateway.metric("dethrone_trace_spans_total{result=\"sent\"}") == Some(6.0)).then_some(())
    });

    // A request that is refused has no phases; labels have a span too.
    let headers = format!("content-type: application/json\r\ntraceparent: 00-{TRACE}-{CALLER}-01\r\n");
    let refused = raw(gateway.data, &request("POST", "/predict", &headers, b"{")).unwrap();
    assert_eq!(refused.status, 400);
    let labels = json!({"model": "elec2", "labels": [{"id": id, "label": 1}]}).to_string();
    assert_eq!(
        raw(gateway.data, &request("POST", "/feedback", &headers, labels.as_bytes()))
            .unwrap()
            .status,
        200
    );
    let mut told = Vec::new();
    while told.len() < 2 {
        let export = exports.recv_timeout(Duration::from_secs(30)).unwrap();
        told.extend(export.resource_spans[0].scope_spans[0].spans.clone());
    }
    let names: Vec<(&str, Value)> = told
        .iter()
        .map(|span| (span.name.as_str(), attribute(span, "http.response.status_code")))
        .collect();
    assert_eq!(names, [("predict", json!(400)), ("feedback", json!(200))]);
}

#[test]
fn each_message_of_a_stream_is_a_span_in_its_callers_trace_and_an_example_in_its_histogram() {
    let (url, exports) = collector();
    let gateway = gateway_with(&format!("trace_endpoint = \"{url}\"\ntrace_sample = 0.0\n"));
    let message = |columns: i64| {
        let values = vec![0.1; usize::try_from(columns).unwrap()];
        grpc::request("plain", vec![grpc::fp32("features", &[1, columns], &values)], vec![])
    };
    let streamed = async |flags: &str| {
        let mut client = grpc::Client::connect(gateway.grpc).await;
        let mut call = tonic::Request::new(tokio_stream::iter([message(3), message(1)]));
        let parent = format!("00-{TRACE}-{CALLER}-{flags}");
        call.metadata_mut().insert("traceparent", parent.parse().unwrap());
        let path = "inference.GRPCInferenceService/ModelStreamInfer";
        let mut answers: tonic::Streaming<pb::ModelStreamInferResponse> = client.stream(path, call).await.unwrap();
        let mut said = Vec::new();
        while let Some(answer) = answers.message().await.unwrap() {
            said.push(answer.error_message.is_empty());
        }
        assert_eq!(said, [true, false]);
    };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        streamed("00").await;
        streamed("01").await;
    });
    let mut spans: Vec<Span> = Vec::new();
    while spans.len() < 7 {
        let export = exports.recv_timeout(Duration::from_secs(30)).unwrap();
        spans.extend(export.resource_spans[0].scope_spans[0].spans.clone());
    }
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    let phases = ["read", "decode", "queue", "compute", "encode"];
    assert_eq!(names[..6], [&["ModelStreamInfer"][..], &phases].concat());
    assert_eq!(names[6..], ["ModelStreamInfer"]);
    for (at, code) in [(0, 0), (6, 3)] {
        assert_eq!(
            (hex(&spans[at].trace_id), hex(&spans[at].parent_span_id)),
            (TRACE.into(), CALLER.into())
        );
        assert_eq!(attribute(&spans[at], "rpc.grpc.status_code"), code);
    }
    assert_eq!(attribute(&spans[0], "dethrone.model"), "plain");

    let scrape = |accept: &str| {
        let asked = request("GET", "/metrics", &format!("accept: {accept}\r\n"), b"");
        raw(gateway.admin, &asked).unwrap().text()
    };
    let text = scrape("application/openmetrics-text; version=1.0.0");
    let examples: Vec<&str> = text.lines().filter(|line| line.contains(" # {trace_id=")).collect();
    let of = |outcome: &str| {
        let (rpc, example) = ("rpc=\"ModelStreamInfer\"", format!(" # {{trace_id=\"{TRACE}\"}} "));
        let is_it = |line: &&&str| line.contains(rpc) && line.contains(outcome) && line.contains(&example);
        examples.iter().filter(is_it).count()
    };
    assert_eq!(
        (of("outcome=\"ok\""), of("outcome=\"refused\"")),
        (1, 1),
        "{examples:?}"
    );
    assert!(!scrape("text/plain").contains("trace_id"));
    // The same in protobuf: in the bucket that the sample is in, and in no other.
    let asked = request("GET", "/metrics", &format!("accept: {PROTOBUF}\r\n"), b"");
    let body = raw(gateway.admin, &asked).unwrap().body;
    let mut bytes = &body[..];
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let family = MetricFamily::decode_length_delimited(&mut bytes).unwrap();
        for metric in family.metric {
            let has = |key: &str, value: &str| {
                metric
                    .label
                    .iter()
                    .any(|label| label.name == key && label.value == value)
            };
            let streamed = has("rpc", "ModelStreamInfer");
            let outcome = metric
                .label
                .iter()
                .find(|label| label.name == "outcome")
                .map(|label| label.value.clone());
            let mut below = f64::NEG_INFINITY;
            for bucket in metric.histogram.iter().flat_map(|histogram| &histogram.bucket) {
                let edge = bucket.upper_bound.unwrap();
                if let Some(example) = &bucket.exemplar {
                    let value = example.value.unwrap();
                    assert!(value > below && value <= edge, "{below} < {value} <= {edge}");
                    assert!(streamed, "{metric:?}");
                    assert_eq!((example.label.len(), example.label[0].name.as_str()), (1, "trace_id"));
                    assert_eq!(example.label[0].value, TRACE);
                    let at = example.timestamp.unwrap();
                    assert!(
                        at.seconds > 1_700_000_000 && (0..1_000_000_000).contains(&at.nanos),
                        "{at:?}"
                    );
                    found.push((family.name.clone(), outcome.clone().unwrap()));
                }
                below = edge;
            }
        }
    }
    found.sort();
    let family = "dethrone_grpc_request_duration_seconds".to_owned();
    assert_eq!(
        found,
        [(family.clone(), "ok".to_owned()), (family, "refused".to_owned())]
    );
}

#[test]
fn what_waits_is_sent_when_the_gateway_stops() {
    let (url, exports) = collector();
    let gateway = gateway_with(&format!("trace_endpoint = \"{url}\"\ntrace_sample = 1.0\n"));
    let body = json!({"model": "elec2", "instances": [elec2_row()]});
    for _ in 0..20 {
        assert_eq!(gateway.predict(&body).0, 200);
    }
    assert_eq!(gateway.stop(), Some(0));
    let mut roots = 0;
    while let Ok(export) = exports.recv_timeout(Duration::from_millis(500)) {
        let spans = &export.resource_spans[0].scope_spans[0].spans;
        roots += spans.iter().filter(|span| span.name == "predict").count();
        if roots == 20 {
            return;
        }
    }
    panic!("{roots} of 20 requests were told");
}

#[test]
fn a_collector_that_hangs_or_is_not_there_costs_no_request_and_what_finds_no_room_is_counted() {
    // It accepts by the kernel's queue, and never answers.
    let hangs = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/traces", hangs.local_addr().unwrap());
    let gateway = gateway_with(&format!("trace_endpoint = \"{url}\"\ntrace_sample = 1.0\n"));
    let body = json!({"model": "plain", "inputs": {"features": [[0.1, 0.2, 0.3]]}, "shadow": false}).to_string();
    let one = format!(
        "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let last = request("POST", "/predict", "", body.as_bytes());
    let mut answered = 0;
    // More than a call and the queue hold.
    for _ in 0..30 {
        let mut stream = TcpStream::connect(gateway.data).unwrap();
        stream.write_all(one.repeat(99).as_bytes()).unwrap();
        stream.write_all(&last).unwrap();
        answered += rest(&mut stream).map(|_| 100).unwrap();
    }
    assert_eq!(answered, 3_000);
    let of = |result: &str| gateway.metric(&format!("dethrone_trace_spans_total{{result=\"{result}\"}}"));
    assert_eq!(of("sent"), Some(0.0));
    assert!(of("dropped").unwrap() >= 100.0, "{:?}", of("dropped"));
    assert_eq!(
        gateway.metric("dethrone_requests_total{route=\"predict\",code=\"200\"}"),
        Some(3_000.0)
    );
    assert_eq!(gateway.stop(), Some(0));

    drop(hangs);
    let gateway = gateway_with(&format!("trace_endpoint = \"{url}\"\ntrace_sample = 1.0\n"));
    assert_eq!(gateway.predict(&serde_json::from_str(&body).unwrap()).0, 200);
    until("the failure is counted and logged", || {
        let failed = gateway.metric("dethrone_trace_spans_total{result=\"failed\"}")?;
        let is_said = gateway.site().log().contains("the collector does not take traces");
        (failed > 0.0 && is_said).then_some(())
    });
}

#[test]
fn a_slow_request_is_logged_with_its_ids_and_phases_and_a_quick_one_is_not() {
    let gateway = gateway_with("slow_request = \"1s\"\n");
    let body = json!({"model": "elec2", "instances": [elec2_row()]}).to_string();
    let bytes = request(
        "POST",
        "/predict",
        "content-type: application/json\r\n",
        body.as_bytes(),
    );
    assert_eq!(raw(gateway.data, &bytes).unwrap().status, 200);
    // The body comes a second after the head, and that is the client's doing.
    let (head, late) = bytes.split_at(bytes.len() - body.len());
    let mut stream = TcpStream::connect(gateway.data).unwrap();
    stream.write_all(head).unwrap();
    let began = Instant::now();
    until("a second has passed", || {
        (began.elapsed() > Duration::from_millis(1_300)).then_some(())
    });
    stream.write_all(late).unwrap();
    let answer = rest(&mut stream).unwrap();
    assert_eq!(answer.status, 200);
    let id = ids(&answer.json()).remove(0);
    let line = until("the line is there", || {
        let log = gateway.site().log();
        let line = log.lines().find(|line| line.contains("slow request"))?.to_owned();
        Some(line)
    });
    let line: Value = serde_json::from_str(&line).unwrap();
    let fields = &line["fields"];
    assert_eq!(
        (&fields["model"], &fields["version"]),
        (&json!("elec2"), &json!("e01_logreg")),
        "{line}"
    );
    assert_eq!(
        (&fields["route"], &fields["code"], &fields["rows"]),
        (&json!("predict"), &json!(200), &json!(1))
    );
    assert!(id.starts_with(fields["id"].as_str().unwrap()), "{line}");
    assert!(fields["read_us"].as_u64().unwrap() >= 1_000_000, "{line}");
    assert_eq!(gateway.site().log().matches("slow request").count(), 1);
}

#[test]
fn without_a_word_in_the_settings_nothing_is_told() {
    let gateway = gateway();
    let headers = format!("content-type: application/json\r\ntraceparent: 00-{TRACE}-{CALLER}-01\r\n");
    let body = json!({"model": "elec2", "instances": [elec2_row()]}).to_string();
    let answer = raw(gateway.data, &request("POST", "/predict", &headers, body.as_bytes())).unwrap();
    assert!(
        answer.status == 200 && !answer.head.contains("traceresponse"),
        "{}",
        answer.head
    );
    assert_eq!(gateway.metric("dethrone_trace_spans_total{result=\"sent\"}"), Some(0.0));
}
