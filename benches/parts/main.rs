//! The parts of a request, one by one: time, instructions, allocations.
//!
//! - `cargo bench --bench parts` — time, by criterion.
//! - `cargo bench --bench parts -- --instructions [--against FILE]` — instructions per call, counted by valgrind's
//!   callgrind: the same on a busy machine, so that a regression of a few percent shows. `FILE` holds what an earlier
//!   run printed.
//! - `cargo bench --bench parts -- --allocations` — allocations per call, and of a whole `/predict` over a socket by
//!   thread.
//!
//! A gateway runs in this process, so that what is measured is what answers requests: the model comes from the
//! gateway's own admission, the interface from the model.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a program that measures: it may end with a message"
)]

mod allocations;
mod instructions;
#[allow(dead_code, reason = "shared with the bench of the whole gateway")]
#[path = "../gateway/models.rs"]
mod models;
#[allow(dead_code, reason = "shared with the bench of the whole gateway")]
#[path = "../gateway/numbers.rs"]
mod numbers;
#[allow(dead_code, reason = "shared with the bench of the whole gateway")]
#[path = "../gateway/onnx.rs"]
mod onnx;
mod rig;

use std::path::PathBuf;

use criterion::Criterion;

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

fn main() {
    dethrone::model::runtime::silence_telemetry();
    let arguments: Vec<String> = std::env::args().collect();
    let after = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        Some(arguments.get(at + 1).map(PathBuf::from).unwrap_or_default())
    };
    if after("--instructions").is_some() {
        instructions::print(after("--against").as_deref());
    } else if let Some(dir) = after("--counted") {
        instructions::repeat(&dir);
    } else if after("--allocations").is_some() {
        allocations::print();
    } else {
        let mut criterion = Criterion::default().configure_from_args();
        for (name, mut part) in rig::Rig::start().parts() {
            criterion.bench_function(name, |bencher| bencher.iter(&mut part));
        }
        criterion.final_summary();
    }
}
