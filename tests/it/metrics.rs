//! `/metrics` after real traffic: edges, counts, roles, and a process that stays small when nobody scrapes.

#![expect(clippy::float_cmp, reason = "what is compared are counts")]

use std::io::{Read, Write};
use std::net::TcpStream;

use dethrone::metrics::protobuf::{Histogram, MetricFamily};
use prost::Message;
use serde_json::{Value, json};

use crate::support::client::{Answer, get, post, raw, request};
use crate::support::{Gateway, Site, elec2_row, gateway, gateway_with, ids, shipped, until};

const EDGES: [&str; 19] = [
    "0.000025", "0.00005", "0.0001", "0.0002", "0.00035", "0.0005", "0.00075", "0.001", "0.0015", "0.0025", "0.005",
    "0.01", "0.025", "0.05", "0.1", "0.25", "1", "5", "+Inf",
];

fn scrape(gateway: &Gateway) -> String {
    let answer = get(gateway.admin, "/metrics");
    assert_eq!(answer.status, 200);
    let kind = answer.head.lines().find(|l| l.starts_with("content-type:")).unwrap();
    assert_eq!(kind, "content-type: text/plain; version=0.0.4");
    answer.text()
}

fn value(text: &str, series: &str) -> Option<f64> {
    text.lines()
        .find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

/// Edges and counts of one histogram series, its labels given without braces.
fn buckets(text: &str, family: &str, labels: &str) -> Vec<(String, f64)> {
    let comma = if labels.is_empty() { "" } else { "," };
    let start = format!("{family}_bucket{{{labels}{comma}le=\"");
    let one = |line: &str| {
        let (edge, count) = line.strip_prefix(&start)?.split_once("\"} ")?;
        Some((edge.to_owned(), count.parse().ok()?))
    };
    text.lines().filter_map(one).collect()
}

fn predict(gateway: &Gateway, more: &Value) -> Value {
    let mut body = json!({"model": "elec2", "instances": [elec2_row()]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, answer) = gateway.predict(&body);
    assert_eq!(status, 200, "{answer}");
    answer
}

#[test]
fn every_counter_is_there_at_zero_before_the_first_request() {
    let gateway = gateway();
    let text = scrape(&gateway);
    for model in ["elec2", "plain"] {
        for family in [
            "dethrone_shadow_offered_total",
            "dethrone_shadow_executed_total",
            "dethrone_fallbacks_total",
            "dethrone_runner_restarts_total",
        ] {
            assert_eq!(
                value(&text, &format!("{family}{{model=\"{model}\"}}")),
                Some(0.0),
                "{family}"
            );
        }
        let statuses = "accepted late duplicate conflict unrecorded unknown expired invalid";
        for (family, key, values) in [
            ("dethrone_labels_total", "status", statuses),
            (
                "dethrone_recorder_dropped_total",
                "reason",
                "queue_full ledger_failed duplicate_id opted_out overload",
            ),
            ("dethrone_shadow_dropped_total", "reason", "queue_full starved"),
            ("dethrone_swaps_total", "kind", "promotion rollback order"),
        ] {
            for label in values.split(' ') {
                let series = format!("{family}{{model=\"{model}\",{key}=\"{label}\"}}");
                assert_eq!(value(&text, &series), Some(0.0), "{series}");
            }
        }
    }
    assert_eq!(value(&text, "dethrone_requests_dropped_by_swap_total"), Some(0.0));
    for code in ["200", "400", "404", "413", "422", "429", "503", "504"] {
        let series = format!("dethrone_requests_total{{route=\"predict\",code=\"{code}\"}}");
        assert_eq!(value(&text, &series), Some(0.0), "{series}");
    }
    assert!(
        !text.contains("summary") && !text.contains("quantile"),
        "histograms, never summaries"
    );
}

#[test]
fn histograms_have_the_documented_edges_and_count_every_request_once() {
    let gateway = gateway();
    for _ in 0..30 {
        predict(&gateway, &json!({}));
    }
    for _ in 0..4 {
        predict(&gateway, &json!({"version": "e01_logreg"}));
    }
    for _ in 0..3 {
        assert_eq!(gateway.predict(&json!({"model": "elec2", "instances": []})).0, 400);
    }
    // The last byte may leave a moment after the client has read it.
    let write = "dethrone_phase_duration_seconds_count{phase=\"write\"}";
    until("the writing of all answers", || {
        (gateway.metric(write) == Some(37.0)).then_some(())
    });
    let text = scrape(&gateway);
    let duration = "dethrone_request_duration_seconds";
    let labels = |role: &str, outcome: &str| format!("route=\"predict\",role=\"{role}\",outcome=\"{outcome}\"");
    for (role, outcome, count) in [
        ("champion", "ok", 30.0),
        ("pinned", "ok", 4.0),
        ("previous", "ok", 0.0),
        ("champion", "refused", 3.0),
    ] {
        let series = buckets(&text, duration, &labels(role, outcome));
        let edges: Vec<&str> = series.iter().map(|(edge, _)| edge.as_str()).collect();
        assert_eq!(edges, EDGES, "{role} {outcome}");
        assert!(series.windows(2).all(|w| w[0].1 <= w[1].1), "cumulative: {series:?}");
        assert_eq!(series.last().unwrap().1, count, "{role} {outcome}");
    }
    // Of a request that is refused in decoding only the reading counts as a phase, and the writing of the refusal.
    for (phase, count) in [
        ("read", 37.0),
        ("decode", 34.0),
        ("queue", 34.0),
        ("compute", 34.0),
        ("encode", 34.0),
    ] {
        let series = buckets(&text, "dethrone_phase_duration_seconds", &format!("phase=\"{phase}\""));
        let edges: Vec<&str> = series.iter().map(|(edge, _)| edge.as_str()).collect();
        assert_eq!(edges, EDGES, "{phase}");
        assert_eq!(series.last().unwrap().1, count, "{phase}");
    }
    assert_eq!(buckets(&text, "dethrone_overhead_seconds", "").last().unwrap().1, 34.0);
    let sum = |series: &str| value(&text, series).unwrap();
    let total = sum(&format!("{duration}_sum{{{}}}", labels("champion", "ok")))
        + sum(&format!("{duration}_sum{{{}}}", labels("pinned", "ok")));
    let compute = sum("dethrone_phase_duration_seconds_sum{phase=\"compute\"}");
    let overhead = sum("dethrone_overhead_seconds_sum");
    assert!(
        compute > 0.0 && overhead > 0.0 && compute + overhead <= total * 1.001,
        "{compute} + {overhead} of {total}"
    );
    assert_eq!(
        value(&text, "dethrone_requests_total{route=\"predict\",code=\"200\"}"),
        Some(34.0)
    );
    assert_eq!(
        value(&text, "dethrone_requests_total{route=\"predict\",code=\"400\"}"),
        Some(3.0)
    );
}

#[test]
fn versions_are_named_by_role_and_leave_no_series_when_they_go() {
    let site = Site::new("");
    site.model_toml(
        "elec2",
        "champion = \"e01_logreg\"\n[label]\nmaturity = \"1 rows\"\nhorizon = \"100 rows\"\n[policy]\nmode = \"off\"\n",
    )
    .drop_file("elec2", "e01_logreg", &shipped("e01_logreg"))
    .drop_file("elec2", "e02_tree", &shipped("e02_tree"))
    .drop_file("elec2", "e07_mlp", &shipped("e07_mlp"));
    let gateway = site.start().ready();
    gateway.until_role("elec2", "e02_tree", "challenger");
    gateway.until_role("elec2", "e07_mlp", "challenger");
    let wealth = |version: &str| format!("dethrone_evidence_log_wealth{{model=\"elec2\",version=\"{version}\"}}");
    until("evidence of both challengers", || {
        let id = ids(&predict(&gateway, &json!({}))).remove(0);
        gateway.label("elec2", &[(&id, json!(1))]);
        let text = scrape(&gateway);
        (value(&text, &wealth("e02_tree")).is_some() && value(&text, &wealth("e07_mlp")).is_some()).then_some(())
    });
    let info = |text: &str, role: &str, version: &str| {
        let start =
            format!("dethrone_model_info{{model=\"elec2\",role=\"{role}\",version=\"{version}\",digest=\"sha256:");
        text.lines()
            .any(|line| line.starts_with(&start) && line.ends_with("\"} 1"))
    };
    let text = scrape(&gateway);
    assert!(
        info(&text, "champion", "e01_logreg") && info(&text, "challenger", "e02_tree"),
        "{text}"
    );
    let since = "dethrone_champion_since_timestamp_seconds{model=\"elec2\"}";
    assert!(value(&text, since).unwrap() > 1.6e9);
    assert!(
        value(&text, &wealth("e01_logreg")).is_none(),
        "no evidence about the champion against itself"
    );
    for (family, more) in [
        ("dethrone_evidence_log_bar", ""),
        ("dethrone_evidence_labels", ""),
        ("dethrone_evidence_mean_difference", ""),
        ("dethrone_guardrail", ",guardrail=\"latency\""),
        ("dethrone_guardrail", ",guardrail=\"coverage\""),
        ("dethrone_shadow_queue_rows", ""),
    ] {
        let series = format!("{family}{{model=\"elec2\",version=\"e02_tree\"{more}}}");
        assert!(value(&text, &series).is_some(), "{series}\n{text}");
    }
    let of = |family: &str, version: &str| value(&text, &format!("{family}{{model=\"elec2\",version=\"{version}\"}}"));
    assert_eq!(of("dethrone_runner_up", "e02_tree"), Some(1.0));
    assert_eq!(
        of("dethrone_runner_up", "e01_logreg"),
        None,
        "the champion answers here"
    );
    let count = |family: &str| value(&text, &format!("{family}_count{{model=\"elec2\"}}")).unwrap();
    for family in [
        "dethrone_shadow_run_seconds",
        "dethrone_shadow_lag_seconds",
        "dethrone_label_delay_seconds",
        "dethrone_model_load_seconds",
    ] {
        assert!(count(family) >= 1.0, "{family}\n{text}");
    }
    let model = |family: &str| value(&text, &format!("{family}{{model=\"elec2\"}}"));
    assert_eq!(
        (
            model("dethrone_model_ready"),
            model("dethrone_stand_in"),
            model("dethrone_settings_fault")
        ),
        (Some(1.0), Some(0.0), Some(0.0))
    );

    assert_eq!(gateway.act("elec2", "promote", Some("e02_tree")).0, 200);
    let text = scrape(&gateway);
    assert!(
        info(&text, "champion", "e02_tree") && info(&text, "previous", "e01_logreg"),
        "{text}"
    );
    assert!(!info(&text, "challenger", "e01_logreg"), "one role each: {text}");
    assert_eq!(
        value(&text, "dethrone_swaps_total{model=\"elec2\",kind=\"order\"}"),
        Some(1.0)
    );
    assert_eq!(value(&text, "dethrone_requests_dropped_by_swap_total"), Some(0.0));

    assert_eq!(gateway.act("elec2", "retire", Some("e07_mlp")).0, 200);
    until("no series of the retired version", || {
        (!scrape(&gateway).contains("version=\"e07_mlp\"")).then_some(())
    });
}

/// Resident memory in KiB.
fn resident(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Sends the same request again and again over one connection, without waiting for each answer.
fn hammer(gateway: &Gateway, requests: usize) {
    let body = json!({"model": "plain", "inputs": {"features": [[0.1, 0.2, 0.3]]}, "shadow": false}).to_string();
    let one = format!(
        "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(gateway.data).unwrap();
    let burst = one.repeat(50);
    let mut buffer = vec![0; 1 << 16];
    let (mut answered, mut sent, mut tail) = (0, 0, Vec::new());
    while answered < requests {
        if sent - answered < 100 {
            stream.write_all(burst.as_bytes()).unwrap();
            sent += 50;
        }
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "closed after {answered} answers");
        tail.extend_from_slice(&buffer[..read]);
        let last = tail.windows(15).rposition(|w| w == b"HTTP/1.1 200 OK").unwrap_or(0);
        answered += tail[..last].windows(15).filter(|w| *w == b"HTTP/1.1 200 OK").count();
        tail.drain(..last);
        if answered + 1 >= sent && sent >= requests {
            return;
        }
    }
}

#[test]
fn a_process_that_nobody_scrapes_does_not_grow() {
    let gateway = gateway();
    // What is allocated once: arenas, buffers, caches.
    hammer(&gateway, 4_000);
    let before = resident(&gateway);
    hammer(&gateway, 40_000);
    let after = resident(&gateway);
    // Every request leaves eight samples: 24 bytes each, were they kept until a scrape, would be over 7 MiB.
    assert!(after < before + 3_072, "{before} KiB before, {after} KiB after");
    let count = gateway.metric("dethrone_overhead_seconds_count").unwrap();
    assert!(count >= 44_000.0, "no sample is lost: {count}");
}

#[test]
fn labels_that_cannot_be_read_are_counted_too() {
    let gateway = gateway();
    let id = ids(&predict(&gateway, &json!({}))).remove(0);
    let items = json!([{"id": id}, {"id": id, "label": {}}, 7, {"id": id, "label": 1}]);
    let answer = post(gateway.data, "/feedback", &json!({"model": "elec2", "labels": items}));
    assert_eq!(answer.json()["accepted"], 1, "{}", answer.text());
    let series = |status: &str| format!("dethrone_labels_total{{model=\"elec2\",status=\"{status}\"}}");
    assert_eq!(
        (gateway.metric(&series("invalid")), gateway.metric(&series("accepted"))),
        (Some(3.0), Some(1.0))
    );
}

fn scraped_as(gateway: &Gateway, accept: &str) -> Answer {
    let headers = format!("accept: {accept}\r\n");
    let answer = raw(gateway.admin, &request("GET", "/metrics", &headers, b"")).unwrap();
    assert_eq!(answer.status, 200, "{accept}");
    answer
}

fn families(mut bytes: &[u8]) -> Vec<MetricFamily> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        all.push(MetricFamily::decode_length_delimited(&mut bytes).unwrap());
    }
    all
}

#[test]
fn a_scraper_gets_open_metrics_or_native_histograms_where_it_asks_for_them() {
    let gateway = gateway();
    for _ in 0..20 {
        predict(&gateway, &json!({}));
    }
    let open = scraped_as(
        &gateway,
        "application/openmetrics-text; version=1.0.0, text/plain;q=0.5",
    );
    assert!(
        open.head
            .contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    let text = open.text();
    assert!(text.ends_with("# EOF\n") && !text.contains("\n\n"));
    assert!(text.contains("# TYPE dethrone_requests counter\n"));
    assert_eq!(
        value(&text, "dethrone_requests_total{route=\"predict\",code=\"200\"}"),
        Some(20.0)
    );

    let accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let answer = scraped_as(&gateway, &format!("{accept},text/plain;q=0.5"));
    assert!(
        answer.head.contains("content-type: application/vnd.google.protobuf;"),
        "{}",
        answer.head
    );
    let all = families(&answer.body);
    let of = |family: &str, labels: &[(&str, &str)]| -> Histogram {
        let family = all.iter().find(|f| f.name == family).unwrap();
        let is_it = |labelled: &[(String, String)]| {
            labels
                .iter()
                .all(|(k, v)| labelled.iter().any(|(name, value)| name == k && value == v))
        };
        let metric = family.metric.iter().find(|metric| {
            let pairs: Vec<_> = metric.label.iter().map(|l| (l.name.clone(), l.value.clone())).collect();
            is_it(&pairs)
        });
        metric.unwrap().histogram.clone().unwrap()
    };
    let labels = [("route", "predict"), ("role", "champion"), ("outcome", "ok")];
    let duration = of("dethrone_request_duration_seconds", &labels);
    assert_eq!((duration.sample_count, duration.schema), (Some(20), Some(3)));
    assert_eq!(duration.bucket.len(), EDGES.len(), "classic buckets go with them");
    // Differences add up to counts, and counts to all samples.
    let mut count = 0;
    let counts: i64 = duration
        .positive_delta
        .iter()
        .map(|delta| {
            count += delta;
            count
        })
        .sum();
    assert_eq!(counts + i64::try_from(duration.zero_count.unwrap()).unwrap(), 20);
    let lengths: u32 = duration.positive_span.iter().map(|span| span.length.unwrap()).sum();
    assert_eq!(lengths as usize, duration.positive_delta.len());
    let silent = of(
        "dethrone_request_duration_seconds",
        &[("route", "predict"), ("role", "previous")],
    );
    assert_eq!(silent.sample_count, Some(0));
    assert_eq!(silent.positive_span.len(), 1, "native also before the first sample");
}

#[test]
fn an_objective_is_an_edge_exactly_and_the_names_of_triton_are_there_where_they_are_asked_for() {
    let plain = gateway();
    assert!(!scrape(&plain).contains("nv_inference"));
    drop(plain);
    let gateway = gateway_with("metrics_edges = [\"3ms\", \"40ms\"]\nmetrics_triton = true\n");
    for _ in 0..5 {
        predict(&gateway, &json!({}));
    }
    let text = scrape(&gateway);
    let labels = "route=\"predict\",role=\"champion\",outcome=\"ok\"";
    let edges = buckets(&text, "dethrone_request_duration_seconds", labels);
    for edge in EDGES.iter().chain(&["0.003", "0.04"]) {
        assert!(edges.iter().any(|(e, _)| e == edge), "{edge}: {edges:?}");
    }
    let info = "dethrone_model_info{model=\"elec2\",role=\"champion\",version=\"e01_logreg\"";
    assert!(text.contains(info), "{text}");
    let of = |name: &str| {
        let start = format!("{name}{{model=\"elec2\",version=\"");
        let line = text
            .lines()
            .find(|line| line.starts_with(&start))
            .unwrap_or_else(|| panic!("{name}"));
        line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
    };
    assert_eq!(
        (of("nv_inference_request_success"), of("nv_inference_count")),
        (5.0, 5.0)
    );
    assert!(of("nv_inference_exec_count") >= 5.0);
    assert_eq!(of("nv_inference_request_failure"), 0.0);
    assert_eq!(of("nv_inference_pending_request_count"), 0.0);
    assert!(of("nv_inference_request_duration_us") >= of("nv_inference_compute_infer_duration_us"));
}
