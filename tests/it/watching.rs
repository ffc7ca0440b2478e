//! What watches the gateway, tried on it: the rules and the dashboard under `deploy/` ask for what it really exports, and
//! the real Prometheus reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::client::{get, raw, request};
use crate::support::{Gateway, Site, elec2_row, gateway, gateway_with, ids, shipped, stream, until};

const RULES: &str = "deploy/prometheus/rules.yml";
const BOARD: &str = "deploy/grafana/dethrone.json";

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap()
}

/// Series that a gateway exports: name, and its labels.
pub(super) type Exported = BTreeMap<String, Vec<BTreeMap<String, String>>>;

pub(super) fn exported(text: &str) -> Exported {
    let mut all = Exported::new();
    for line in text.lines() {
        // A family is there before its first series is.
        if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').unwrap();
            let suffixes: &[&str] = if kind == "histogram" {
                &["_bucket", "_sum", "_count"]
            } else {
                &[""]
            };
            for suffix in suffixes {
                all.entry(format!("{name}{suffix}")).or_default();
            }
            continue;
        }
        let Some((series, _)) = line.rsplit_once(' ').filter(|_| !line.starts_with('#')) else {
            continue;
        };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        all.entry(name.to_owned())
            .or_default()
            .push(matchers(labels).into_iter().map(|(k, _, v)| (k, v)).collect());
    }
    all
}

/// Key, operator, value.
type Matcher = (String, String, String);

/// `a="b",c=~"d"}…`
fn matchers(text: &str) -> Vec<Matcher> {
    let mut all = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['=', '!']) {
        let key = rest[..at].trim_matches([',', ' ', '{']).to_owned();
        if key.contains('}') {
            break;
        }
        let Some((operator, behind)) = rest[at..].split_once('"') else {
            break;
        };
        let Some((value, behind)) = behind.split_once('"') else {
            break;
        };
        all.push((key, operator.to_owned(), value.to_owned()));
        rest = behind;
        if rest.starts_with('}') {
            break;
        }
    }
    all
}

/// Words that are names of metrics, and the labels that are asked of each.
fn asked(text: &str) -> Vec<(String, Vec<Matcher>)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut all = Vec::new();
    for (at, _) in text.match_indices(['d', 'p']) {
        if text[..at].chars().next_back().is_some_and(is_word) {
            continue;
        }
        let word: String = text[at..].chars().take_while(|c| is_word(*c)).collect();
        if !word.starts_with("dethrone_") && !word.starts_with("dethrone:") && !word.starts_with("process_") {
            continue;
        }
        let behind = &text[at + word.len()..];
        all.push((word, behind.strip_prefix('{').map(matchers).unwrap_or_default()));
    }
    all
}

/// Labels that Prometheus and the dashboard's variables give.
const FOREIGN: [&str; 2] = ["job", "instance"];

fn demand(of: &str, text: &str, exported: &Exported, records: &BTreeSet<String>) -> usize {
    let mut count = 0;
    for (name, labels) in asked(text) {
        if name.contains(':') {
            assert!(records.contains(&name), "{of} asks for the rule {name}, which is none");
            continue;
        }
        // In a sentence a histogram goes by its bare name.
        let name = if exported.contains_key(&name) {
            name
        } else {
            format!("{name}_count")
        };
        let series = exported
            .get(&name)
            .unwrap_or_else(|| panic!("{of} asks for {name}, which the gateway does not export"));
        count += 1;
        for (key, operator, value) in labels.iter().filter(|(key, _, _)| !FOREIGN.contains(&key.as_str())) {
            if series.is_empty() {
                continue;
            }
            let known: BTreeSet<&str> = series
                .iter()
                .filter_map(|labels| labels.get(key).map(String::as_str))
                .collect();
            assert!(
                !known.is_empty(),
                "{of} asks for {key} of {name}, which has no such label"
            );
            let wanted: Vec<&str> = match operator.as_str() {
                "=" => vec![value],
                // Words, not patterns: each of them is one.
                "=~" if !value.contains(['.', '*', '$']) => value.split('|').collect(),
                _ => continue,
            };
            for word in wanted {
                assert!(
                    known.contains(word),
                    "{of} asks for {name} with {key} {word}; there are {known:?}"
                );
            }
        }
    }
    count
}

pub(super) fn busy() -> (Site, Gateway) {
    let site = Site::new("");
    site.model_toml(
        "elec2",
        "champion = \"e01_logreg\"\n[label]\nmaturity = \"50 rows\"\nhorizon = \"100000 rows\"\n[policy]\nmode = \"off\"\n\
         [monitor]\nbaseline_rows = 100\nwindow = \"50 rows\"\ncycle = \"1 row\"\n",
    )
    .drop_file("elec2", "e01_logreg", &shipped("e01_logreg"))
    .drop_file("elec2", "e02_tree", &shipped("e02_tree"));
    let gateway = site.start().ready();
    gateway.until_role("elec2", "e02_tree", "challenger");
    gateway.feed("elec2", &stream(0, 400));
    (site, gateway)
}

#[test]
fn rules_and_dashboard_ask_for_nothing_that_a_gateway_under_traffic_does_not_export() {
    let (_site, gateway) = busy();
    // The families that need most: recent losses of the champion, and the distance of a feature.
    let text = until("evidence, and a look of the monitor", || {
        let text = get(gateway.admin, "/metrics").text();
        let has = |start: &str| text.lines().any(|line| line.starts_with(start));
        let all = has("dethrone_evidence_log_wealth{") && has("dethrone_monitor_stability_index{");
        all.then_some(text)
    });
    let exported = exported(&text);
    assert!(exported.len() > 80, "{}", exported.len());
    let (rules, board) = (read(RULES), read(BOARD));
    let records = rules.lines().filter_map(|line| line.trim().strip_prefix("- record: "));
    let records: BTreeSet<String> = records.map(str::to_owned).collect();
    assert!(records.len() >= 8, "{records:?}");
    let board: Value = serde_json::from_str(&board).unwrap();
    let mut expressions = Vec::new();
    for panel in board["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            expressions.push(target["expr"].as_str().unwrap().to_owned());
        }
    }
    for variable in board["templating"]["list"].as_array().unwrap() {
        expressions.extend(variable["query"]["query"].as_str().map(str::to_owned));
    }
    expressions.extend(board["annotations"]["list"][0]["expr"].as_str().map(str::to_owned));
    assert!(expressions.len() > 60, "{}", expressions.len());
    let of_rules = demand(RULES, &rules, &exported, &records);
    let of_board: usize = expressions
        .iter()
        .map(|text| demand(BOARD, text, &exported, &records))
        .sum();
    assert!(of_rules > 50 && of_board > 60, "{of_rules}, {of_board}");
    // Each alert says what to do.
    let alerts = rules.matches("- alert: ").count();
    assert_eq!(
        (
            rules.matches("summary: ").count(),
            rules.matches("description: ").count()
        ),
        (alerts, alerts)
    );
    assert!(alerts >= 25, "{alerts}");
}

#[test]
fn a_start_with_models_and_an_empty_state_is_reported_and_a_second_start_is_none() {
    let site = Site::new("");
    site.model_toml("elec2", "")
        .drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    let said = "there are models, and the state directory knows none of them";
    let first = site.start().ready();
    assert_eq!(first.metric("dethrone_started_empty"), Some(1.0));
    assert_eq!(site.log().matches(said).count(), 1, "{}", site.log());
    assert_eq!(first.stop(), Some(0));
    let second = site.start().ready();
    assert_eq!(second.metric("dethrone_started_empty"), Some(0.0));
    assert_eq!(site.log().matches(said).count(), 1, "{}", site.log());
}

/// `prometheus` and `promtool`: in the directory that `DETHRONE_PROMETHEUS` names, or on the path.
fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let named = std::env::var_os("DETHRONE_PROMETHEUS").map(PathBuf::from);
    let found = named
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|dir| dir.join(name))
        .find(|p| p.is_file());
    if found.is_none() {
        eprintln!("\n!!! SKIPPED: {name} is missing (Debian's package `prometheus` has it): NOT TESTED with it !!!\n");
    }
    found
}

fn runs(command: &mut Command) -> String {
    let done = command.output().unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(done.status.success(), "{command:?}: {said}");
    said
}

#[test]
fn promtool_takes_the_rules_their_tests_and_the_text_of_a_scrape() {
    let Some(promtool) = tool("promtool") else { return };
    let checked = runs(Command::new(&promtool).args(["check", "rules"]).arg(file(RULES)));
    assert!(checked.contains("SUCCESS"), "{checked}");
    for tests in ["deploy/prometheus/rules_test.yml", "deploy/prometheus/days_test.yml"] {
        runs(Command::new(&promtool).args(["test", "rules"]).arg(file(tests)));
    }
    let gateway = gateway();
    let dir = TempDir::new().unwrap();
    let scraped = dir.path().join("scrape.txt");
    std::fs::write(&scraped, get(gateway.admin, "/metrics").body).unwrap();
    let read = std::fs::File::open(&scraped).unwrap();
    runs(Command::new(&promtool).args(["check", "metrics"]).stdin(read));
}

/// A running Prometheus.
struct Prometheus {
    child: Child,
    address: std::net::SocketAddr,
    _dir: TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    /// Scrapes this gateway every half second.
    fn start(program: &Path, gateway: &Gateway, flags: &[&str]) -> Self {
        let dir = TempDir::new().unwrap();
        let settings = dir.path().join("prometheus.yml");
        let (rules, target) = (file(RULES), gateway.admin);
        let text = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}\n\
             rule_files: [{rules:?}]\n\
             scrape_configs:\n  - job_name: dethrone\n    static_configs: [{{targets: [\"{target}\"]}}]\n"
        );
        std::fs::write(&settings, text).unwrap();
        // It does not tell which port it took where it may choose: somebody else may have been quicker at this one.
        for _ in 0..5 {
            let free = std::net::TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap();
            let mut child = Command::new(program)
                .arg(format!("--config.file={}", settings.display()))
                .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
                .arg(format!("--web.listen-address={free}"))
                .args(flags)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let ended = until("Prometheus listens, or ends", || {
                let ended = child.try_wait().unwrap().is_some();
                (ended || std::net::TcpStream::connect(free).is_ok()).then_some(ended)
            });
            if !ended {
                return Self {
                    child,
                    address: free,
                    _dir: dir,
                };
            }
        }
        panic!("Prometheus does not start: {program:?} {flags:?}")
    }

    /// An answer of its API. Over HTTP/1.0 it comes in one piece, however long.
    fn api(&self, path: &str) -> Value {
        raw(self.address, format!("GET /api/v1/{path} HTTP/1.0\r\n\r\n").as_bytes())
            .unwrap()
            .json()
    }

    /// The only sample of a query.
    fn number(&self, query: &str) -> Option<f64> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = self.api(&format!("query?query={encoded}"));
        let samples = answer["data"]["result"].as_array()?;
        assert!(samples.len() <= 1, "{query}: {answer}");
        samples.first()?["value"][1].as_str()?.parse().ok()
    }

    fn until_number(&self, query: &str, is: impl Fn(f64) -> bool) -> f64 {
        let mut last = None;
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(query, || {
                last = self.number(query);
                last.filter(|number| is(*number))
            })
        }));
        found.unwrap_or_else(|_| panic!("{query}: last {last:?}"))
    }
}

#[test]
fn the_real_prometheus_scrapes_classic_histograms_and_evaluates_the_rules() {
    let Some(program) = tool("prometheus") else { return };
    let (_site, gateway) = busy();
    let prometheus = Prometheus::start(&program, &gateway, &[]);
    prometheus.until_number("up", |up| up > 0.5);
    let counted = "sum(dethrone_requests_total{route=\"predict\",code=\"200\"})";
    prometheus.until_number(counted, |count| (count - 10.0).abs() < 0.5);
    let bucket = "sum(dethrone_request_duration_seconds_bucket{route=\"predict\",outcome=\"ok\",le=\"+Inf\"})";
    prometheus.until_number(bucket, |count| (count - 10.0).abs() < 0.5);
    prometheus.until_number("dethrone_evidence_log_bar", |bar| bar > 1.0);
    // Every rule is evaluated, and none fails.
    until("all rules are evaluated", || {
        let rules = prometheus.api("rules");
        let groups = rules["data"]["groups"].as_array()?.clone();
        let all: Vec<Value> = groups
            .iter()
            .flat_map(|g| g["rules"].as_array().unwrap().clone())
            .collect();
        for rule in &all {
            assert!(rule["health"] != "err", "{rule}");
        }
        (all.len() > 30 && all.iter().all(|rule| rule["health"] == "ok")).then_some(())
    });
    let firing =
        prometheus.number("count(ALERTS{alertname!=\"DethroneStartedEmpty\",alertstate=\"firing\",severity=\"page\"})");
    assert_eq!(firing, None, "a sound gateway wakes nobody");
}

#[test]
fn the_real_prometheus_reads_the_traces_of_examples_out_of_protobuf_and_open_metrics() {
    let Some(program) = tool("prometheus") else { return };
    let settings = "trace_endpoint = \"http://127.0.0.1:9/v1/traces\"\ntrace_sample = 0.0\n";
    let gateway = gateway_with(settings);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let body = json!({"model": "elec2", "instances": [elec2_row()]}).to_string();
    let headers = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01\r\n");
    let answer = raw(gateway.data, &request("POST", "/predict", &headers, body.as_bytes())).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    // The first asks for protobuf, the second for OpenMetrics.
    for features in ["exemplar-storage,native-histograms", "exemplar-storage"] {
        let prometheus = Prometheus::start(&program, &gateway, &[&format!("--enable-feature={features}")]);
        let found = until(features, || {
            let query = "query_exemplars?query=%7B__name__%3D~%22dethrone_request_duration_seconds.*%22%7D";
            let now = prometheus.api("query?query=time()")["data"]["result"][1].clone();
            let now: f64 = now.as_str()?.parse().ok()?;
            let answer = prometheus.api(&format!("{query}&start={}&end={}", now - 600.0, now + 60.0));
            let series = answer["data"].as_array()?.clone();
            (!series.is_empty()).then_some(series)
        });
        let [series] = &found[..] else {
            panic!("{features}: {found:?}")
        };
        let example = &series["exemplars"][0];
        assert_eq!(example["labels"], json!({"trace_id": trace}), "{features}: {series}");
        assert_eq!(series["seriesLabels"]["outcome"], "ok", "{features}: {series}");
        let value: f64 = example["value"].as_str().unwrap().parse().unwrap();
        assert!(value > 0.0 && value < 60.0, "{features}: {series}");
    }
}

#[test]
fn the_real_prometheus_takes_native_histograms() {
    let Some(program) = tool("prometheus") else { return };
    let gateway = gateway();
    let asked = json!({"model": "elec2", "instances": [elec2_row()]});
    for _ in 0..25 {
        let (status, answer) = gateway.predict(&asked);
        assert_eq!((status, ids(&answer).len()), (200, 1));
    }
    let prometheus = Prometheus::start(&program, &gateway, &["--enable-feature=native-histograms"]);
    let series = "dethrone_request_duration_seconds{route=\"predict\",role=\"champion\",outcome=\"ok\"}";
    prometheus.until_number(&format!("histogram_count({series})"), |count| {
        (count - 25.0).abs() < 0.5
    });
    // The median by a native histogram lies where the classic buckets of the same scrape have it.
    let median = prometheus.until_number(&format!("histogram_quantile(0.5, {series})"), |median| median > 0.0);
    let sum = prometheus.until_number(&format!("histogram_sum({series})"), |sum| sum > 0.0);
    let text = get(gateway.admin, "/metrics").text();
    let start = "dethrone_request_duration_seconds_bucket{route=\"predict\",role=\"champion\",outcome=\"ok\",le=\"";
    let buckets: Vec<(f64, f64)> = text
        .lines()
        .filter_map(|line| {
            let (edge, count) = line.strip_prefix(start)?.split_once("\"} ")?;
            Some((edge.parse().unwrap_or(f64::INFINITY), count.parse().ok()?))
        })
        .collect();
    let at = buckets.iter().position(|(_, count)| *count >= 12.5).unwrap();
    let (low, high) = (at.checked_sub(1).map_or(0.0, |before| buckets[before].0), buckets[at].0);
    // A native bucket is a ninth wide, and may reach over the classic edge by that.
    assert!(median > low / 1.1 && median <= high * 1.1, "{median}: {low} to {high}");
    assert!(sum >= median * 12.0, "{sum}, {median}");
}
