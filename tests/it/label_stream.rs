//! However many labels come in one stream, the gateway holds a few of them at a time.
//!
//! `DETHRONE_STREAMED_LABELS=1000000 cargo test --release --test it label_stream -- --nocapture` is the long form.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use super::support::client::rest;
use super::support::{Gateway, Site, elec2_row, ids, shipped, until};

const ROWS: usize = 10_000;
/// Blanks in each line of the short form: what is held of the stream would show.
const PAD: usize = 1_000;

fn labels() -> usize {
    let asked = std::env::var("DETHRONE_STREAMED_LABELS").ok();
    asked.and_then(|n| n.parse().ok()).unwrap_or(50_000)
}

/// A line of `/proc/PID/status` in MiB.
fn memory(gateway: &Gateway, key: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

#[test]
fn a_stream_of_labels_is_taken_in_bounded_memory() {
    let site = Site::new("recorder_percent = 100\nmax_rows = 10000\nbody_timeout = \"10m\"\n");
    site.model_toml("elec2", "[policy]\nmode = \"off\"\n")
        .drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    let gateway = site.start().ready();
    let (labels, mut lines) = (labels(), Vec::new());
    let pad = if labels > 200_000 { 0 } else { PAD };
    let body = json!({"model": "elec2", "instances": vec![elec2_row(); ROWS]});
    let mut asked = 0;
    while asked < labels {
        let (status, answer) = gateway.predict(&body);
        assert_eq!(status, 200);
        for id in ids(&answer).into_iter().take(labels - asked) {
            lines.extend(format!("{{\"id\":\"{id}\",\"label\":{}", asked % 2).bytes());
            lines.resize(lines.len() + pad, b' ');
            lines.extend(b"}\n");
            asked += 1;
        }
        until("the rows are recorded", || {
            (gateway.view("elec2")["rows"]["recorded"].as_u64()? >= asked as u64).then_some(())
        });
    }
    // The peak is counted from here.
    let _ = std::fs::write(format!("/proc/{}/clear_refs", gateway.pid()), "5");
    let before = memory(&gateway, "VmRSS");
    let start = Instant::now();
    let mut stream = TcpStream::connect(gateway.data).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(600))).unwrap();
    let head = format!(
        "POST /feedback HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n",
        lines.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&lines).unwrap();
    let said = rest(&mut stream).unwrap().json();
    assert_eq!(said["counts"], json!({"accepted": labels}), "{said}");
    let (took, after, peak) = (start.elapsed(), memory(&gateway, "VmRSS"), memory(&gateway, "VmHWM"));
    println!(
        "{labels} labels in {} MiB: {:.1} s, {:.0} a second; memory before {before:.0} MiB, at the peak {peak:.0}, after {after:.0}",
        lines.len() >> 20,
        took.as_secs_f64(),
        labels as f64 / took.as_secs_f64(),
    );
    // The short form is twice as long; in the long one the ledger's own cache, 32 MiB, may fill.
    let most = if pad > 0 { 24.0 } else { 64.0 };
    assert!(peak - before < most, "before {before:.0} MiB, at the peak {peak:.0}");
}
