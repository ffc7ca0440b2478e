//! `dethrone demo` as a process: what it leaves behind when it is stopped, and what it says when it fails.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::until;

/// A demonstration that has started its gateway: itself, and the gateway's process.
fn demo() -> (tempfile::TempDir, Child, u32) {
    let dir = tempfile::tempdir().unwrap();
    // Neither the settings of the caller's directory nor those of its environment are the demonstration's.
    std::fs::write(dir.path().join("dethrone.toml"), "no_such_setting = 1").unwrap();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_dethrone"))
        .args(["demo", "--rows", "20000", "--dir"])
        .arg(dir.path().join("work"))
        .current_dir(dir.path())
        .env("DETHRONE_MAX_ROWS", "none at all")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stderr.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    assert!(first.starts_with("gateway on http://"), "{first}");
    // It must never wait for somebody to read.
    std::thread::spawn(move || lines.for_each(drop));
    let parent = format!("PPid:\t{}", demo.id());
    let child = std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        let pid = entry.file_name().to_str()?.parse().ok()?;
        status.lines().any(|line| line == parent).then_some(pid)
    });
    (dir, demo, child.expect("the gateway is a child of the demonstration"))
}

fn is_running(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    // One that nobody waits for stays as a zombie.
    !(status.is_empty() || status.contains("State:\tZ"))
}

#[test]
fn the_gateway_ends_with_a_demonstration_that_is_told_to_end() {
    let (_dir, mut demo, gateway) = demo();
    let asked = Command::new("kill").arg(demo.id().to_string()).status().unwrap();
    assert!(asked.success());
    let ended = until("the end", || demo.try_wait().unwrap());
    assert_eq!(ended.code(), Some(1), "it ends in order, as one that failed");
    assert!(!is_running(gateway));
}

#[test]
fn the_gateway_ends_with_a_demonstration_that_is_killed() {
    let (_dir, mut demo, gateway) = demo();
    demo.kill().unwrap();
    demo.wait().unwrap();
    until("the gateway's end", || (!is_running(gateway)).then_some(()));
}

#[test]
fn a_demonstration_that_fails_says_so_in_one_line_of_json() {
    let out = Command::new(env!("CARGO_BIN_EXE_dethrone"))
        .args(["demo", "--json", "--models", "/nowhere"])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(64));
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let line: Value = serde_json::from_str(&text).unwrap();
    assert!(
        line["error"]
            .as_str()
            .unwrap()
            .contains("the shipped stream is not here"),
        "{line}"
    );
    assert!(line["gap_closed"].is_null() && line.get("errors").is_some(), "{line}");
}
