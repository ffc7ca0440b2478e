//! Vetting a file by running it: in a runner of its own, on made-up rows, within limits.
//!
//! Always holds: whatever the file does, the answer is a report or one sentence, within the limits' time, and no
//! process is left behind; the same file gets the same probes.
//! Leaves to others: what can be read without running it (`model::onnx`), fit to a model's interface (`model::layout`),
//! golden rows, and whether the latency is good enough (`judge`).

mod compare;
mod generate;
mod part;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use self::generate::{FLAVOURS, Sizes};
use self::part::Part;
use crate::arena::client::{RunnerClient, RunnerFault};
use crate::arena::sandbox::RunnerLimits;
use crate::arena::spawner::{RunnerSpec, Spawner};
use crate::model::signature::Signature;
use crate::model::tensor::Tensor;
use crate::priority::do_requests_press;

/// Rows of the probe that shows whether rows may be merged.
const MANY: usize = 4;
/// Sizes tried for dynamic dimensions beyond the first; the last ones are those of pictures, which convolutions shrink.
const FREE: [usize; 4] = [1, 8, 32, 224];
/// A vetting may take the CPU time of so many of the slowest runs; a slow model has about a dozen.
const COSTLY_RUNS: u32 = 24;
const LATENCY_RUNS: usize = 100;
const LATENCY_TIME: Duration = Duration::from_secs(2);
/// Runs that are shorter are not drawn out by rests.
const BRIEF: Duration = Duration::from_millis(1);
/// Runs whose CPU time is read together.
const ROUND_RUNS: u32 = 20;
const LATENCY_ROUND: usize = ROUND_RUNS as usize;

/// Bounds of a vetting.
#[derive(Debug, Clone, Copy)]
pub struct ProbeSettings {
    /// Memory and scheduling of the runner.
    pub limits: RunnerLimits,
    /// CPU time for loading.
    pub load_cpu_limit: Duration,
    /// CPU time for one run.
    pub run_cpu_limit: Duration,
    /// Time for each of these when the machine is busy.
    pub wall_limit: Duration,
    /// Intra-op threads.
    pub threads: u32,
    /// Of the probes.
    pub seed: u64,
}

impl Default for ProbeSettings {
    fn default() -> Self {
        Self {
            limits: RunnerLimits {
                address_space_bytes: Some(8 << 30),
                ..RunnerLimits::default()
            },
            load_cpu_limit: Duration::from_secs(30),
            run_cpu_limit: Duration::from_secs(5),
            // The runner may rest for three quarters of the time.
            wall_limit: Duration::from_secs(300),
            threads: 1,
            seed: 1,
        }
    }
}

impl ProbeSettings {
    /// CPU time of a whole vetting, whatever the file does between its answers.
    fn cpu_in_all(&self) -> Duration {
        self.load_cpu_limit + self.run_cpu_limit * COSTLY_RUNS
    }
}

/// What a file turned out to be.
#[derive(Debug, Clone)]
pub struct ProbeReport {
    /// Inputs and outputs.
    pub signature: Signature,
    /// The file's own metadata.
    pub metadata: BTreeMap<String, String>,
    /// Rows may be merged into one run.
    pub batched: bool,
    /// Rows of `probe_outputs`; 1 where rows may not be merged.
    pub probe_rows: usize,
    /// The made-up rows.
    pub probe_inputs: Vec<Tensor>,
    /// All outputs for them.
    pub probe_outputs: Vec<Tensor>,
    /// Of one row, as the gateway sees it; half of the runs were faster.
    pub latency_us_p50: u64,
    /// 99 of 100 runs were faster.
    pub latency_us_p99: u64,
    /// CPU time of a one-row run, nanoseconds.
    pub cpu_ns: u64,
    /// The most memory the runner held.
    pub memory_bytes: u64,
}

/// Vets a file.
///
/// # Errors
/// One sentence for the engineer whose file it is.
pub fn probe(spawner: &Spawner, path: &Path, settings: &ProbeSettings) -> Result<ProbeReport, String> {
    let in_all = settings.cpu_in_all();
    let spec = RunnerSpec {
        limits: RunnerLimits {
            cpu_seconds: Some(in_all.as_secs().max(1)),
            ..settings.limits
        },
        show_stderr: false,
    };
    let no_runner = |error: std::io::Error| format!("{NO_RUNNER} to try the file: {error}");
    let process = spawner.spawn(spec).map_err(no_runner)?;
    let mut runner = RunnerClient::new(process).map_err(no_runner)?;
    let loaded = runner
        .load(path, settings.threads, settings.load_cpu_limit, settings.wall_limit)
        .map_err(|fault| sentence("loading it", &fault, settings.load_cpu_limit))?;
    if loaded.signature.outputs.is_empty() {
        return Err("it has no output that is a tensor".into());
    }
    let mut subject = Subject {
        runner,
        outputs: (0..loaded.signature.outputs.len()).collect(),
        signature: &loaded.signature,
        settings,
    };
    let trial = subject.first_trial()?;
    subject.check_repeatable(&trial)?;
    let (trial, merged) = subject.merge(trial)?;
    let batched = merged == Merged::Rows;
    let (latency_us, cpu_ns) = subject.latencies(&trial)?;
    let quantile = |share: usize| latency_us.get(latency_us.len() * share / 100).copied().unwrap_or(0);
    Ok(ProbeReport {
        batched,
        probe_rows: if batched { trial.sizes.rows } else { 1 },
        probe_inputs: trial.inputs,
        probe_outputs: trial.outputs,
        latency_us_p50: quantile(50),
        latency_us_p99: quantile(99),
        cpu_ns,
        memory_bytes: subject.runner.process().peak_memory_bytes().unwrap_or(0),
        signature: Signature {
            crossed: merged == Merged::Crossed,
            ..loaded.signature
        },
        metadata: loaded.metadata,
    })
}

/// What becomes of rows that share a run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Merged {
    /// Each is as it is alone.
    Rows,
    /// They may not share one.
    Never,
    /// They are no rows.
    Crossed,
}

/// One probe that ran.
struct Trial {
    flavour: generate::Flavour,
    sizes: Sizes,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

struct Subject<'a> {
    runner: RunnerClient,
    signature: &'a Signature,
    outputs: Vec<usize>,
    settings: &'a ProbeSettings,
}

impl Subject<'_> {
    /// `Ok(Err(…))` is the model's own error, `Err(…)` the end of the vetting.
    fn try_run(&mut self, inputs: &[Tensor]) -> Result<Result<Vec<Tensor>, String>, String> {
        let cpu = self.settings.run_cpu_limit;
        match self.runner.run(inputs, &self.outputs, cpu, self.settings.wall_limit) {
            Ok(outputs) => Ok(Ok(outputs)),
            Err(RunnerFault::Model(reason)) => Ok(Err(reason)),
            Err(fault) => Err(sentence("running it on made-up rows", &fault, cpu)),
        }
    }

    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
        self.try_run(inputs)?
            .map_err(|reason| format!("it fails on a row on which it did not fail before: {reason}"))
    }

    /// The first made-up rows on which it gives finite answers.
    fn first_trial(&mut self) -> Result<Trial, String> {
        let mut last = String::new();
        let mut ran = false;
        let rows: &[usize] = if self.signature.has_dynamic_rows() {
            &[MANY, 1]
        } else {
            &[1]
        };
        for &rows in rows {
            for free in FREE {
                for flavour in FLAVOURS {
                    let sizes = Sizes { rows, free };
                    let inputs = match generate::inputs(self.signature, flavour, sizes, self.settings.seed) {
                        Ok(inputs) => inputs,
                        // With smaller ones it was tried.
                        Err(_) if free > 1 => continue,
                        Err(too_large) => return Err(too_large),
                    };
                    match self.try_run(&inputs)? {
                        Ok(outputs) if compare::finite(&outputs) => {
                            return Ok(Trial {
                                flavour,
                                sizes,
                                inputs,
                                outputs,
                            });
                        }
                        Ok(_) => ran = true,
                        Err(reason) => last = reason,
                    }
                }
            }
        }
        Err(if ran {
            "its outputs are not finite (NaN or infinite) on every made-up row".into()
        } else {
            format!("it fails on every made-up row: {last}")
        })
    }

    fn check_repeatable(&mut self, trial: &Trial) -> Result<(), String> {
        let again = self.run(&trial.inputs)?;
        if compare::same_bits(&again, &trial.outputs) {
            return Ok(());
        }
        Err("it gives different answers to the same input: remove the random operators from the graph".into())
    }

    /// Whether rows may be merged, with a trial of as many rows as one run may have.
    fn merge(&mut self, trial: Trial) -> Result<(Trial, Merged), String> {
        if trial.sizes.rows == 1 {
            return Ok((trial, Merged::Never));
        }
        let alone = self.rows_alone(&trial)?;
        let part = |(i, output): (usize, &Tensor)| {
            let alone: Option<Vec<&Tensor>> = alone.iter().map(|outputs| outputs.get(i)).collect();
            alone.map_or(Part::Other, |alone| Part::of(output, &alone))
        };
        let parts: Vec<Part> = trial.outputs.iter().enumerate().map(part).collect();
        if parts.contains(&Part::Crossed) {
            return Ok((self.one_row(&trial)?, Merged::Crossed));
        }
        if parts.contains(&Part::Other) || parts.iter().all(|part| *part == Part::Constant) {
            return Ok((self.one_row(&trial)?, Merged::Never));
        }
        if parts.contains(&Part::Coupled) {
            return Err(
                "a row's answer depends on its neighbours in the batch: export it so that rows are independent".into(),
            );
        }
        Ok((trial, Merged::Rows))
    }

    /// Each row's outputs when it comes alone.
    fn rows_alone(&mut self, trial: &Trial) -> Result<Vec<Vec<Tensor>>, String> {
        let row = |row: usize| {
            let inputs: Option<Vec<Tensor>> = trial
                .inputs
                .iter()
                .map(|input| input.slice_rows(row, row + 1))
                .collect();
            self.run(&inputs.unwrap_or_default())
        };
        (0..trial.sizes.rows).map(row).collect()
    }

    fn one_row(&mut self, trial: &Trial) -> Result<Trial, String> {
        let sizes = Sizes { rows: 1, ..trial.sizes };
        let inputs = generate::inputs(self.signature, trial.flavour, sizes, self.settings.seed)?;
        let outputs = self.run(&inputs)?;
        Ok(Trial {
            flavour: trial.flavour,
            sizes,
            inputs,
            outputs,
        })
    }

    /// Wall time, sorted, in microseconds; and CPU time in nanoseconds, which tells versions apart also on a busy machine:
    /// the least mean of a round, because others push the caches out.
    fn latencies(&mut self, trial: &Trial) -> Result<(Vec<u64>, u64), String> {
        let one = self.one_row(trial)?;
        let started = Instant::now();
        let pid = self.runner.process().pid();
        let cpu = || crate::time::cpu::of_child(pid).unwrap_or_default();
        let (mut times, mut used, mut least) = (Vec::new(), cpu(), Duration::MAX);
        while times.len() < LATENCY_RUNS && (times.is_empty() || started.elapsed() < LATENCY_TIME) {
            let (before, used_before) = (Instant::now(), cpu());
            self.run(&one.inputs)?;
            let mut took = before.elapsed();
            if took > BRIEF && do_requests_press() {
                // The runner may have rested, which is not the model's time.
                took = took.min(cpu().saturating_sub(used_before));
            }
            times.push(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
            if times.len().is_multiple_of(LATENCY_ROUND) {
                let now = cpu();
                least = least.min(now.saturating_sub(used) / ROUND_RUNS);
                used = now;
            }
        }
        times.sort_unstable();
        if least == Duration::MAX {
            // Too slow for a whole round.
            least = cpu().saturating_sub(used) / u32::try_from(times.len()).unwrap_or(u32::MAX).max(1);
        }
        Ok((times, u64::try_from(least.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// True when the same bytes may fare better another time: it was the machine's fault or somebody else's.
#[must_use]
pub fn is_passing(reason: &str) -> bool {
    [NO_RUNNER, TRY_AGAIN, BROKE, WENT_AWAY]
        .iter()
        .any(|piece| reason.contains(piece))
}

const NO_RUNNER: &str = "no runner could be started";
const TRY_AGAIN: &str = "try it again";
const BROKE: &str = "broke the runner";
const WENT_AWAY: &str = "the runner went away";

fn sentence(doing: &str, fault: &RunnerFault, cpu_limit: Duration) -> String {
    match fault {
        RunnerFault::Model(reason) => format!("{doing} failed: {reason}"),
        RunnerFault::CpuOverrun => format!("{doing} took more than {cpu_limit:?} of CPU time"),
        RunnerFault::Starved => format!("{doing} did not end in time on this busy machine: {TRY_AGAIN}"),
        RunnerFault::Silent => format!("{doing} did not end: the process slept until its time was over: {TRY_AGAIN}"),
        RunnerFault::Crashed(how) if how == "SIGXCPU" => {
            format!("{doing} used up the CPU time that the vetting of one file may take in all")
        }
        RunnerFault::Crashed(how) if how == "SIGSYS" => {
            format!("{doing} tried something that the sandbox forbids, and was ended for it ({how})")
        }
        RunnerFault::Crashed(how) => format!("{doing} crashed the process ({how})"),
        RunnerFault::Killed(how) => {
            format!("the process that tried it was ended from outside ({how}): {TRY_AGAIN}")
        }
        RunnerFault::Protocol(what) => format!("{doing} {BROKE}: {what}"),
        RunnerFault::Down(what) => format!("{WENT_AWAY} while {doing}: {what}"),
    }
}
