//! Loading a model again and again gives back what it took.
//!
//! In short by default. `DETHRONE_RELOADS=1000 cargo test --release --test it reload` is the long form, which takes some
//! minutes.

use std::time::Instant;

use crate::support::{Gateway, Site, onnx, until};

/// 30 MiB of weights.
const WIDTH: usize = 1_000;
const LAYERS: usize = 8;
const MIB: u64 = 1 << 20;
/// Less than two of the models: each reload that kept what it replaced would add one.
const ROOM: u64 = 60 * MIB;

fn resident(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = line.trim().strip_suffix("kB").unwrap().trim().parse().unwrap();
    kib * 1_024
}

#[test]
fn reloads_of_a_30_mib_model_leave_memory_flat() {
    let rounds: u64 = std::env::var("DETHRONE_RELOADS").map_or(20, |n| n.parse().unwrap());
    let site = Site::new("settle_ms = 20\npoll = \"50ms\"\nworkers = 1\n");
    let settings = "task = \"regression\"\nscore_output = \"y[0]\"\n";
    site.model_toml("m", settings);
    site.drop_bytes("m", "v1", &onnx::layers(LAYERS, WIDTH, 7));
    let gateway = site.start().ready();
    let first = resident(&gateway);
    assert!(first > 30 * MIB, "the model is in memory: {first}");
    let (started, mut most) = (Instant::now(), first);
    for round in 0..rounds {
        let batch = 10 + round % 2;
        // Renamed into place: an edit that is seen half-written is waited for.
        let draft = site.models().join("m/.model.toml.part");
        std::fs::write(&draft, format!("{settings}[execution]\nmax_batch = {batch}\n")).unwrap();
        std::fs::rename(&draft, site.models().join("m/model.toml")).unwrap();
        until("the model to be loaded again", || {
            (gateway.version("m", "v1")["execution"]["max_batch"] == batch).then_some(())
        });
        most = most.max(resident(&gateway));
    }
    let last = until("the memory of the replaced sessions to come back", || {
        let now = resident(&gateway);
        (now < first + ROOM).then_some(now)
    });
    println!(
        "{rounds} reloads in {:.1?}: {} MiB at first, {} MiB at most, {} MiB at last",
        started.elapsed(),
        first / MIB,
        most / MIB,
        last / MIB
    );
    // The new one beside the old one, and what reading it takes: never the third.
    assert!(most < first + 4 * ROOM, "{} MiB at most", most / MIB);
}
