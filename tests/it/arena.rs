//! Runners are real child processes of the real binary here, running real models.

mod admission;
mod challenger;
mod runner;
mod sandbox;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, never};
use dethrone::admission::probe::{ProbeReport, ProbeSettings, probe};
use dethrone::arena::sandbox::RunnerLimits;
use dethrone::arena::{
    Challenger, ChallengerSpec, RunnerClient, RunnerEvent, RunnerFault, RunnerSpec, ShadowReport, ShadowWork, Spawner,
};
use dethrone::batch::{Batch, Cell, Rows, Schema};
use dethrone::container::Pressure;
use dethrone::interference::Gate;
use dethrone::model::head::{Head, HeadSettings};
use dethrone::model::layout::Layout;
use dethrone::model::onnx::Scan;
use dethrone::model::session::Session;
use dethrone::model::tensor::{Data, Tensor, Text};
use dethrone::score::{Outcome, Score, Shed, Task, VersionNo};

/// Far beyond what a busy machine needs: a limit for failures, not a measure.
const LONG: Duration = Duration::from_secs(120);

fn spawner() -> Spawner {
    Spawner::start(PathBuf::from(env!("CARGO_BIN_EXE_dethrone")))
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn runner(spawner: &Spawner, name: &str) -> RunnerClient {
    let mut runner = RunnerClient::new(spawner.spawn(RunnerSpec::default()).unwrap()).unwrap();
    runner.load(&file(name), 1, LONG, LONG).unwrap();
    runner
}

fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::new(shape.to_vec(), Data::Fp32(values.to_vec())).unwrap()
}

fn ints(values: &[i64]) -> Tensor {
    Tensor::new(vec![values.len(), 1], Data::Int64(values.to_vec())).unwrap()
}

/// Rows of three equal features.
fn triples(values: &[f32]) -> Tensor {
    let cells: Vec<f32> = values.iter().flat_map(|&x| [x; 3]).collect();
    floats(&[values.len(), 3], &cells)
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < LONG, "waited for too long");
        let _ = never::<()>().recv_timeout(Duration::from_millis(2));
    }
}

fn kill(pid: u32) {
    // May fail: the process can be gone already.
    let _ = Command::new("sh")
        .args(["-c", &format!("kill -9 {pid}")])
        .stderr(Stdio::null())
        .status();
}

fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}
