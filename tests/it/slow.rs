//! slowhttptest, the tool that others try their servers with, against the real program: whoever sends a head or a body slowly,
//! or reads an answer slowly, is cut, and others are served meanwhile.
//!
//! The long form: `DETHRONE_SLOW_CLIENTS=1000`, with `ulimit -n` above that.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::client::get;
use crate::support::{gateway_with, until};

/// In the directory that `DETHRONE_SLOWHTTPTEST` names, or on the path.
fn tool() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let named = std::env::var_os("DETHRONE_SLOWHTTPTEST").map(PathBuf::from);
    let mut places = named.into_iter().chain(std::env::split_paths(&path));
    let found = places.find_map(|place| Some(place.join("slowhttptest")).filter(|file| file.is_file()));
    if found.is_none() {
        eprintln!("\n!!! SKIPPED: slowhttptest is missing (Debian's package has its name): NOT TESTED with it !!!\n");
    }
    found
}

#[test]
fn slowhttptest_finds_the_service_available_and_all_of_its_slow_connections_closed() {
    let Some(tool) = tool() else { return };
    let many = std::env::var("DETHRONE_SLOW_CLIENTS").unwrap_or_else(|_| "40".into());
    let gateway = gateway_with(
        "header_timeout = \"1s\"\nbody_timeout = \"1s\"\nbody_idle_timeout = \"1s\"\nwrite_timeout = \"1s\"\nidle_timeout = \"1s\"\n",
    );
    let url = |path: &str| format!("http://{}{path}", gateway.data);
    let start = |words: &[&str], url: String| {
        // It ends by itself when nobody is left, and gives up after this time.
        let all = ["-c", &many, "-r", "200", "-l", "60", "-p", "5", "-v", "1", "-u", &url];
        let mut command = Command::new(&tool);
        command
            .args(words)
            .args(all)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    // Whoever reads slowly learns of its end only when it has read all that the system held for it: the gateway is asked.
    let mut reading = start(
        &["-X", "-k", "10", "-n", "5", "-z", "1", "-w", "1", "-y", "16"],
        url("/openapi.json"),
    );
    let open = || gateway.metric("dethrone_open_connections{listener=\"data\"}");
    until("they are connected", || open().filter(|open| *open > 0.0));
    until("they are cut", || open().filter(|open| *open < 1.0));
    assert!(reading.try_wait().unwrap().is_none(), "it has gone by itself");
    reading.kill().unwrap();
    reading.wait().unwrap();
    let runs = [
        ("slow heads", start(&["-H", "-i", "1", "-x", "8"], url("/v2"))),
        (
            "slow bodies",
            start(
                &["-B", "-i", "1", "-s", "8192", "-f", "application/json"],
                url("/predict"),
            ),
        ),
    ];
    for (name, run) in runs {
        let said = run.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        println!("{name}: {said}");
        assert!(!said.contains("NO"), "{name}: the service was not available: {said}");
        assert!(
            said.contains("No open connections left"),
            "{name}: somebody was held to the end: {said}"
        );
    }
    assert_eq!(get(gateway.data, "/v2/health/live").status, 200);
}
