//! Hours of what a service goes through: half the load that it can take, a change of champion every ten seconds, a bad
//! file a minute. The short form runs seconds of it; the long one prints memory, descriptors and the tail as they go:
//!
//! ```sh
//! DETHRONE_SOAK=1h cargo test --release --locked --test it soak -- --nocapture
//! ```

use std::process::Command;
use std::time::{Duration, Instant};

use dethrone::span::Span;
use serde_json::Value;

use crate::support::{Gateway, Site, shipped, until};

/// How long, and how often what happens.
struct Plan {
    /// One line of the table.
    segment: Duration,
    segments: u32,
    /// The search for what the machine can take.
    search: Duration,
    swap_every: Duration,
    /// A bad file comes with every so many lines.
    bad_every: u32,
}

impl Plan {
    fn of_environment() -> Self {
        let Ok(text) = std::env::var("DETHRONE_SOAK") else {
            return Self {
                segment: Duration::from_secs(1),
                segments: 4,
                search: Duration::from_millis(500),
                swap_every: Duration::from_millis(500),
                bad_every: 2,
            };
        };
        let Ok(Span::Time(time)) = text.parse() else {
            panic!("DETHRONE_SOAK={text} is no time such as 1h")
        };
        let segment = Duration::from_secs(60);
        Self {
            segment,
            segments: u32::try_from((time.as_secs() / segment.as_secs()).max(2)).unwrap(),
            search: Duration::from_secs(10),
            swap_every: Duration::from_secs(10),
            bad_every: 1,
        }
    }
}

/// One line.
struct Line {
    at: Duration,
    resident_kib: u64,
    descriptors: usize,
    p99_us: u64,
}

fn resident_kib(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn descriptors(gateway: &Gateway) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", gateway.pid()))
        .unwrap()
        .count()
}

/// The program's own load generator; its rows are recorded and shadowed.
fn load(gateway: &Gateway, time: Duration, rate: Option<u64>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dethrone"));
    let (to, time) = (gateway.data.to_string(), format!("{}ms", time.as_millis()));
    command.args(["bench", "--model", "elec2", "--connections", "4", "--record", "--json"]);
    command.args(["--to", &to, "--time", &time]);
    if let Some(rate) = rate {
        command.args(["--rate", &rate.to_string()]);
    }
    command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    command
}

fn loaded(done: std::process::Output) -> Value {
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let line: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(line["failed"], 0, "{line}");
    line
}

fn swap(gateway: &Gateway, to: &str) {
    gateway.until_role("elec2", to, "previous");
    let (status, answer) = gateway.act("elec2", "promote", Some(to));
    assert_eq!(status, 200, "{answer}");
}

/// The slope of a straight line through the later half of the lines, KiB an hour.
fn slope(lines: &[Line]) -> f64 {
    let later = &lines[lines.len() / 2..];
    #[expect(clippy::cast_precision_loss, reason = "KiB and lines are few")]
    let points: Vec<(f64, f64)> = later
        .iter()
        .map(|line| (line.at.as_secs_f64() / 3_600.0, line.resident_kib as f64))
        .collect();
    #[expect(clippy::cast_precision_loss, reason = "lines are few")]
    let n = points.len() as f64;
    let (x, y) = points
        .iter()
        .fold((0.0, 0.0), |(x, y), point| (x + point.0 / n, y + point.1 / n));
    let covariance: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let variance: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    if variance > 0.0 { covariance / variance } else { 0.0 }
}

#[test]
fn soak_under_half_the_load_with_swaps_and_bad_files_loses_no_request_and_gives_its_descriptors_back() {
    let plan = Plan::of_environment();
    let site = Site::new("");
    site.model_toml("elec2", "champion = \"e01_logreg\"\n[policy]\nmode = \"off\"\n")
        .drop_file("elec2", "e01_logreg", &shipped("e01_logreg"))
        .drop_file("elec2", "e02_tree", &shipped("e02_tree"));
    let gateway = site.start().ready();
    gateway.until_role("elec2", "e02_tree", "challenger");
    assert_eq!(gateway.act("elec2", "promote", Some("e02_tree")).0, 200);
    // Once there and back: what is opened once is open.
    swap(&gateway, "e01_logreg");
    let most = loaded(load(&gateway, plan.search, None).output().unwrap());
    swap(&gateway, "e02_tree");
    swap(&gateway, "e01_logreg");
    gateway.until_role("elec2", "e02_tree", "previous");
    let rate = most["requests_per_second"].as_f64().unwrap() / 2.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "requests a second"
    )]
    let rate = (rate as u64).max(1);
    let before = until("descriptors at rest", || {
        let now = descriptors(&gateway);
        (now == descriptors(&gateway)).then_some(now)
    });
    println!("{rate} requests/s, half of what four connections got; {before} descriptors at rest");
    println!("minute  resident KiB  descriptors  p99 µs  swaps  bad files");
    let (begun, mut lines, mut swaps, mut bad) = (Instant::now(), Vec::new(), 0, 0);
    for segment in 0..plan.segments {
        let mut child = load(&gateway, plan.segment, Some(rate)).spawn().unwrap();
        if segment % plan.bad_every == 0 {
            bad += 1;
            site.drop_bytes(
                "elec2",
                &format!("bad_{bad}"),
                format!("this is no model, {bad}").as_bytes(),
            );
        }
        let mut due = Instant::now() + plan.swap_every;
        while child.try_wait().unwrap().is_none() {
            if Instant::now() >= due {
                swaps += 1;
                swap(&gateway, if swaps % 2 == 1 { "e02_tree" } else { "e01_logreg" });
                due = Instant::now() + plan.swap_every;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let line = loaded(child.wait_with_output().unwrap());
        lines.push(Line {
            at: begun.elapsed(),
            resident_kib: resident_kib(&gateway),
            descriptors: descriptors(&gateway),
            p99_us: line["latency_us"]["p99"].as_u64().unwrap(),
        });
        let line = lines.last().unwrap();
        println!(
            "{:>6.1}  {:>12}  {:>11}  {:>6}  {swaps:>5}  {bad:>9}",
            line.at.as_secs_f64() / 60.0,
            line.resident_kib,
            line.descriptors,
            line.p99_us
        );
    }
    let p99 = |lines: &[Line]| {
        let mut all: Vec<u64> = lines.iter().map(|line| line.p99_us).collect();
        all.sort_unstable();
        all[all.len() / 2]
    };
    let (early, late) = lines.split_at(lines.len() / 2);
    println!(
        "memory: {:+.0} KiB an hour over the later half; p99: median {} µs before half-time, {} µs after",
        slope(&lines),
        p99(early),
        p99(late)
    );
    assert!(swaps >= 2, "{swaps}");
    until("all bad files are refused", || {
        let refused = gateway.metric("dethrone_refusals_total{model=\"elec2\"}")?;
        (refused >= f64::from(bad)).then_some(())
    });
    assert_eq!(gateway.metric("dethrone_requests_dropped_by_swap_total"), Some(0.0));
    assert_eq!(gateway.metric("dethrone_quarantines_total{model=\"elec2\"}"), Some(0.0));
    if swaps % 2 == 1 {
        swap(&gateway, "e01_logreg");
    }
    gateway.until_role("elec2", "e02_tree", "previous");
    until("descriptors come back", || {
        let now = descriptors(&gateway);
        (now <= before).then_some(())
    });
    assert_eq!(gateway.stop(), Some(0));
}
