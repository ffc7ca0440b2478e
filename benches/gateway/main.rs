//! The gateway against the floor under it: `cargo bench --bench gateway -- [--quick] [--out DIR] [--only NAME]…`.
//!
//! Starts the gateway (the binary that cargo built with this), the floor (`floor`: the thinnest hyper and ONNX Runtime
//! program), and, where `DETHRONE_BENCH_PYTHON` names a Python that has them, a FastAPI and a bare ASGI server, all on
//! the same models, and gives them the same load in turns. What is stated is the ratio within each turn: the median
//! over all turns with its 95 % interval; an absolute time says little on a machine that does other work too.
//!
//! `models DIR` only writes the models, for profilers and other loads.
//!
//! Always holds: nothing is downloaded; models and bodies come from a seed; servers listen on loopback, on free ports,
//! and end with this program; a failed or wrong answer fails the run.

#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a program that measures: it may end with a message"
)]

mod body;
mod cases;
mod client;
mod duel;
mod floor;
mod hostile;
mod load;
mod models;
mod numbers;
mod onnx;
mod plot;
mod report;
mod server;
mod settings;

use std::path::Path;
use std::process::ExitCode;

use settings::Settings;

/// The program's, as it is the gateway's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A result whose error is a message.
type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let dir = Path::new(arguments.get(2).map_or("models", String::as_str));
    let done = match arguments.get(1).map(String::as_str) {
        Some("floor") => floor::run(dir),
        Some("models") => models::lay_down(dir, &models::ALL, 2, "").map_err(Into::into),
        _ => measure(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Fallible<()> {
    let settings = Settings::read()?;
    let report = cases::run(&settings)?;
    report.write(&settings.out)
}
