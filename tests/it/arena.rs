//! Runners are real child processes of the real binary here, running real models.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failed helper is a failed test"
)]

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

#[test]
fn a_runner_answers_as_a_session_in_this_process_does() {
    let spawner = spawner();
    for name in ["e01_logreg.onnx", "e02_tree.onnx", "mean.onnx"] {
        let mut session = Session::load(&file(name), 1).unwrap();
        let mut runner = runner(&spawner, name);
        let report = probe(&spawner, &file(name), &ProbeSettings::default()).unwrap();
        let inputs = sample(&report);
        let outputs: Vec<usize> = (0..session.signature().outputs.len()).collect();
        let here = session.run(&inputs, &outputs).unwrap();
        assert_eq!(runner.run(&inputs, &outputs, LONG, LONG).unwrap(), here, "{name}");
        // Another order, and a selection.
        let last = outputs.len() - 1;
        assert_eq!(
            runner.run(&inputs, &[last, 0], LONG, LONG).unwrap(),
            [here[last].clone(), here[0].clone()]
        );
    }
}

/// Three rows for any model of columns or of one block.
fn sample(report: &ProbeReport) -> Vec<Tensor> {
    let made = report.signature.inputs.iter().enumerate().map(|(i, spec)| {
        let width = spec
            .shape
            .get(1)
            .copied()
            .and_then(|d| usize::try_from(d).ok())
            .unwrap_or(1);
        let cells: Vec<f32> = (0..3 * width).map(|k| ((i + k) % 7) as f32 / 7.0).collect();
        match spec.datatype.name() {
            "BYTES" => {
                let mut text = Text::default();
                (0..3 * width).for_each(|k| assert!(text.push([b"1", b"2", b"3"][k % 3])));
                Tensor::new(vec![3, width], Data::Bytes(text)).unwrap()
            }
            "INT64" => Tensor::new(vec![3, width], Data::Int64((0..3 * width as i64).collect())).unwrap(),
            "FP64" => Tensor::new(vec![3, width], Data::Fp64(cells.iter().map(|&x| x.into()).collect())).unwrap(),
            _ => floats(&[3, width], &cells),
        }
    });
    made.collect()
}

#[test]
fn a_model_error_leaves_the_runner_alive() {
    let mut runner = runner(&spawner(), "mean.onnx");
    let pid = runner.process().pid();
    let wrong = runner.run(&[floats(&[1, 2], &[1.0, 2.0])], &[0], LONG, LONG);
    assert!(matches!(wrong, Err(RunnerFault::Model(_))), "{wrong:?}");
    let wrong = runner.run(&[triples(&[1.0])], &[7], LONG, LONG);
    assert!(matches!(wrong, Err(RunnerFault::Model(_))), "{wrong:?}");
    assert_eq!(
        runner.run(&[triples(&[1.5])], &[0], LONG, LONG).unwrap(),
        [floats(&[1, 1], &[1.5])]
    );
    assert_eq!(runner.process().pid(), pid);
    assert!(matches!(
        runner.load(&file("make_bad.py"), 1, LONG, LONG),
        Err(RunnerFault::Model(_))
    ));
    runner.ping(LONG).unwrap();
}

#[test]
fn a_crash_names_its_signal_and_leaves_no_process_behind() {
    let mut runner = runner(&spawner(), "div.onnx");
    let pid = runner.process().pid();
    let fault = runner.run(&[ints(&[i64::MIN]), ints(&[-1])], &[0], LONG, LONG);
    assert_eq!(fault, Err(RunnerFault::Crashed("SIGFPE".into())));
    assert!(!exists(pid));
    let later = runner.run(&[ints(&[4]), ints(&[2])], &[0], LONG, LONG);
    assert!(matches!(later, Err(RunnerFault::Down(_))), "{later:?}");
}

#[test]
fn an_endless_run_ends_at_its_cpu_limit_and_a_starved_one_at_its_wall_limit() {
    let spawner = spawner();
    let mut overrun = runner(&spawner, "hang.onnx");
    let started = Instant::now();
    let fault = overrun.run(&[triples(&[1.0])], &[0], Duration::from_millis(200), LONG);
    assert_eq!(fault, Err(RunnerFault::CpuOverrun));
    assert!(started.elapsed() < LONG && !exists(overrun.process().pid()));
    let mut starved = runner(&spawner, "hang.onnx");
    let fault = starved.run(&[triples(&[1.0])], &[0], LONG, Duration::from_millis(50));
    assert_eq!(fault, Err(RunnerFault::Starved));
}

#[test]
fn a_runner_ended_from_outside_is_told_apart_from_a_crash() {
    let mut runner = runner(&spawner(), "mean.onnx");
    kill(runner.process().pid());
    let fault = runner.run(&[triples(&[1.0])], &[0], LONG, LONG);
    assert_eq!(fault, Err(RunnerFault::Killed("SIGKILL".into())));
}

#[test]
fn a_runner_gives_way_and_is_the_first_to_go_when_memory_runs_out() {
    let runner = runner(&spawner(), "mean.onnx");
    let of = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", runner.process().pid())).unwrap();
    // Field 41 of the line is the policy; 5 is SCHED_IDLE. The name in the second field is "(dethrone)".
    assert_eq!(of("stat").split_whitespace().nth(40), Some("5"));
    assert_eq!(of("oom_score_adj").trim(), "1000");
    let limits = of("limits");
    assert!(
        limits
            .lines()
            .any(|l| l.starts_with("Max core file size") && l.contains(" 0 ")),
        "{limits}"
    );
    let environment = of("environ");
    let names: Vec<&str> = environment
        .split('\0')
        .filter_map(|pair| pair.split('=').next())
        .collect();
    assert!(
        names
            .iter()
            .all(|n| ["", "ORT_DISABLE_TELEMETRY", "ORT_DYLIB_PATH", "LD_LIBRARY_PATH"].contains(n)),
        "{names:?}"
    );
    assert!(runner.process().peak_memory_bytes().unwrap() > 1 << 20);
}

/// Not a test by itself: the parent that the next test kills.
#[test]
fn parent_of_a_busy_runner() {
    if std::env::var_os("DETHRONE_TEST_PARENT").is_none() {
        return;
    }
    let spec = RunnerSpec {
        show_stderr: true,
        ..RunnerSpec::default()
    };
    let mut runner = RunnerClient::new(spawner().spawn(spec).unwrap()).unwrap();
    runner.load(&file("hang.onnx"), 1, LONG, LONG).unwrap();
    println!("\nrunner {}", runner.process().pid());
    let _ = runner.run(&[triples(&[1.0])], &[0], LONG, LONG);
}

#[test]
fn a_busy_runner_dies_with_the_gateway() {
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "arena::parent_of_a_busy_runner", "--nocapture"])
        .env("DETHRONE_TEST_PARENT", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let pid = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("runner ").map(str::to_owned));
    let pid: u32 = pid.expect("the parent did not start its runner").parse().unwrap();
    assert!(exists(pid));
    parent.kill().unwrap();
    parent.wait().unwrap();
    // The runner holds the other end of this pipe for as long as it lives.
    let (ended, end) = bounded(1);
    let mut pipe = parent.stderr.take().unwrap();
    std::thread::spawn(move || ended.send(pipe.read_to_end(&mut Vec::new()).is_ok()));
    let outcome = end.recv_timeout(LONG);
    kill(pid);
    assert_eq!(outcome, Ok(true), "the runner outlived its gateway");
}

/// Starts a shell script in the runner's place.
fn liar(folder: &Path, script: &str) -> RunnerClient {
    let path = folder.join("liar");
    // Written by another process: a descriptor that a concurrent fork inherits would make the file busy.
    let write = "printf '%s\\n' '#!/bin/sh' \"$1\" > \"$0\" && chmod +x \"$0\"";
    let status = Command::new("sh")
        .args(["-c", write])
        .arg(&path)
        .arg(script)
        .status()
        .unwrap();
    assert!(status.success());
    RunnerClient::new(Spawner::start(path).spawn(RunnerSpec::default()).unwrap()).unwrap()
}

#[test]
fn a_runner_that_lies_or_leaves_is_ended_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let protocol = "it broke the protocol";
    let lies = [
        // An unknown tag; half a tensor; a frame beyond the limit; a pong; another run's answer; two answers.
        (r"printf '\1\0\0\0\11' >&0; exec sleep 600", protocol),
        (r"printf '\4\0\0\0\4\1\0\0' >&0; exec sleep 600", protocol),
        (r"printf '\377\377\377\377' >&0; exec sleep 600", protocol),
        (r"printf '\1\0\0\0\1' >&0; exec sleep 600", protocol),
        (
            r"printf '\25\0\0\0\4\7\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0' >&0; exec sleep 600",
            protocol,
        ),
        (r"printf '\1\0\0\0\1\1\0\0\0\1' >&0; exec sleep 600", protocol),
        ("exec 0<&-; exec sleep 600", protocol),
        ("exit 3", "it crashed (exit code 3)"),
        ("kill -SEGV $$", "it crashed (SIGSEGV)"),
        ("kill -TERM $$", "it was ended from outside (SIGTERM)"),
    ];
    for (script, words) in lies {
        let mut runner = liar(folder.path(), script);
        let pid = runner.process().pid();
        let fault = runner.run(&[triples(&[1.0])], &[0], LONG, LONG).unwrap_err();
        assert!(fault.to_string().starts_with(words), "{script}: {fault}");
        assert!(!exists(pid), "{script}");
    }
}

#[test]
fn admission_reports_what_a_good_file_is() {
    let spawner = spawner();
    for (name, batched) in [
        ("e01_logreg.onnx", true),
        ("e02_tree.onnx", true),
        ("mean.onnx", true),
        ("single.onnx", false),
    ] {
        let report = probe(&spawner, &file(name), &ProbeSettings::default()).unwrap();
        assert_eq!(
            (report.batched, report.probe_rows),
            (batched, if batched { 4 } else { 1 }),
            "{name}"
        );
        assert_eq!(report.probe_outputs.len(), report.signature.outputs.len());
        assert!(
            report.probe_outputs.iter().all(|o| o.rows() == report.probe_rows),
            "{name}"
        );
        assert!(0 < report.latency_us_p50 && report.latency_us_p50 <= report.latency_us_p99);
        assert!(report.memory_bytes > 1 << 20);
        let again = probe(&spawner, &file(name), &ProbeSettings::default()).unwrap();
        assert_eq!(again.probe_outputs, report.probe_outputs, "{name}");
    }
}

#[test]
fn admission_refuses_bad_files_with_a_sentence_each() {
    let spawner = spawner();
    let settings = ProbeSettings {
        run_cpu_limit: Duration::from_millis(500),
        ..ProbeSettings::default()
    };
    let expected = [
        ("hang.onnx", "took more than 500ms of CPU time"),
        ("nan.onnx", "not finite"),
        ("random.onnx", "different answers to the same input"),
        ("coupled.onnx", "depends on its neighbours"),
        ("misfit.onnx", "fails on every made-up row"),
        ("make_bad.py", "loading it failed"),
        ("absent.onnx", "loading it failed"),
    ];
    for (name, words) in expected {
        let refusal = probe(&spawner, &file(name), &settings).map(|_| "admitted").unwrap_err();
        assert!(refusal.contains(words), "{name}: {refusal}");
    }
    let tight = ProbeSettings {
        limits: RunnerLimits {
            address_space_bytes: Some(1 << 20),
            ..RunnerLimits::default()
        },
        ..settings
    };
    assert!(probe(&spawner, &file("mean.onnx"), &tight).is_err());
}

struct Rig {
    challenger: Challenger,
    reports: Receiver<ShadowReport>,
    events: Receiver<RunnerEvent>,
}

/// A challenger on a regression over native tensors.
fn rig(name: &str, change: impl FnOnce(&mut ChallengerSpec)) -> Rig {
    let session = Session::load(&file(name), 1).unwrap();
    let signature = session.signature();
    let layout = Layout::bind_tensors(signature, signature).unwrap();
    let settings = HeadSettings {
        task: Some(Task::Regression),
        ..HeadSettings::default()
    };
    let head = Head::find(signature, &Scan::default(), &[floats(&[4, 1], &[0.5; 4])], 4, &settings).unwrap();
    let mut spec = ChallengerSpec::new(VersionNo(7), name.into(), file(name), layout, head);
    (spec.batched, spec.wall_limit) = (true, LONG);
    change(&mut spec);
    let (sink, reports) = bounded(100_000);
    let (teller, events) = bounded(100);
    let challenger = Challenger::start(spec, spawner(), sink, teller);
    Rig {
        challenger,
        reports,
        events,
    }
}

fn work(first_id: i64, inputs: Vec<Tensor>) -> ShadowWork {
    let rows = inputs[0].rows();
    ShadowWork {
        first_id,
        batch: Arc::new(Batch::Tensors { inputs, rows }),
        rows: 0..rows,
    }
}

impl Rig {
    fn event(&self) -> RunnerEvent {
        self.events.recv_timeout(LONG).expect("no event")
    }

    /// Outcomes until `rows` rows have one; fails on a second outcome for a row.
    fn outcomes(&self, rows: usize) -> BTreeMap<i64, Outcome> {
        let mut seen = BTreeMap::new();
        while seen.len() < rows {
            let report = self.reports.recv_timeout(LONG).expect("a row has no outcome");
            assert_eq!(report.version, VersionNo(7));
            for (id, outcome) in report.outcomes {
                assert_eq!(seen.insert(id, outcome), None, "row {id} has two outcomes");
            }
        }
        seen
    }
}

fn scored(x: f64) -> Outcome {
    Outcome::Scored(Score::Value(x))
}

#[test]
fn shadow_scores_are_the_models_and_belong_to_their_rows() {
    let rig = rig("mean.onnx", |_| {});
    assert_eq!(rig.event(), RunnerEvent::Ready { version: VersionNo(7) });
    rig.challenger.offer(work(10, vec![triples(&[0.5, 1.5, 2.5])])).unwrap();
    let mut late = work(100, vec![triples(&[4.0, 5.0, 6.0])]);
    late.rows = 1..3;
    rig.challenger.offer(late).unwrap();
    let expected = [(10, 0.5), (11, 1.5), (12, 2.5), (100, 5.0), (101, 6.0)];
    assert_eq!(
        rig.outcomes(5),
        expected.into_iter().map(|(id, x)| (id, scored(x))).collect()
    );
    assert_eq!(rig.challenger.stats().executed_rows, 5);
    rig.challenger.stop();
}

#[test]
fn a_version_that_cannot_merge_rows_gets_them_one_by_one() {
    let rig = rig("single.onnx", |spec| spec.batched = false);
    for id in 0..5 {
        rig.challenger.offer(work(id, vec![triples(&[id as f32])])).unwrap();
    }
    assert_eq!(rig.outcomes(5), (0..5).map(|id| (id, scored(id as f64))).collect());
}

#[test]
fn killing_the_runner_loses_nothing_but_shadow_rows() {
    let rig = rig("mean.onnx", |_| {});
    rig.event();
    kill(rig.challenger.stats().pid.unwrap());
    rig.challenger.offer(work(1, vec![triples(&[1.0])])).unwrap();
    assert_eq!(rig.outcomes(1)[&1], Outcome::Shed(Shed::RunnerDown));
    assert!(matches!(rig.event(), RunnerEvent::Restarted { reason, .. } if reason.contains("SIGKILL")));
    rig.challenger.offer(work(2, vec![triples(&[2.0])])).unwrap();
    assert_eq!(rig.outcomes(1)[&2], scored(2.0));
    assert_eq!(rig.challenger.stats().restarts, 1);
}

#[test]
fn only_the_guilty_row_of_a_merged_run_fails() {
    let rig = rig("div.onnx", |_| {});
    rig.event();
    let (a, b) = (ints(&[6, 8, i64::MIN, 9, 5]), ints(&[2, 2, -1, 3, 5]));
    rig.challenger.offer(work(0, vec![a, b])).unwrap();
    let expected = [scored(3.0), scored(4.0), Outcome::Failed, scored(3.0), scored(1.0)];
    assert_eq!(rig.outcomes(5), (0..).zip(expected).collect());
}

#[test]
fn a_version_that_keeps_crashing_is_quarantined_and_its_rows_are_shed() {
    let rig = rig("div.onnx", |_| {});
    for id in 0..3 {
        rig.challenger
            .offer(work(id, vec![ints(&[i64::MIN]), ints(&[-1])]))
            .unwrap();
        assert_eq!(rig.outcomes(1)[&id], Outcome::Failed);
    }
    let last = std::iter::repeat_with(|| rig.event()).find(|e| matches!(e, RunnerEvent::Quarantine { .. }));
    assert!(matches!(last, Some(RunnerEvent::Quarantine { reason, .. }) if reason.contains("SIGFPE")));
    rig.challenger.offer(work(9, vec![ints(&[4]), ints(&[2])])).unwrap();
    assert_eq!(rig.outcomes(1)[&9], Outcome::Shed(Shed::RunnerDown));
    assert_eq!(rig.challenger.stats().pid, None);
}

#[test]
fn an_endless_loop_fails_its_own_row_at_the_cpu_limit() {
    let rig = rig("endless.onnx", |spec| spec.cpu_limit = Duration::from_millis(200));
    rig.event();
    rig.challenger.offer(work(0, vec![triples(&[1.0, 1e18, 2.0])])).unwrap();
    let expected = [scored(1.0), Outcome::Failed, scored(2.0)];
    assert_eq!(rig.outcomes(3), (0..).zip(expected).collect());
}

#[test]
fn a_starved_run_is_shed_and_nobodys_fault() {
    let rig = rig("endless.onnx", |spec| {
        (spec.cpu_limit, spec.wall_limit) = (LONG, Duration::from_millis(100));
    });
    for id in 0..4 {
        rig.challenger.offer(work(id, vec![triples(&[1e18])])).unwrap();
        assert_eq!(rig.outcomes(1)[&id], Outcome::Shed(Shed::Starved));
    }
    let mut events = rig.events.try_iter();
    assert!(events.all(|event| !matches!(event, RunnerEvent::Quarantine { .. })));
}

#[test]
fn stopping_returns_at_once_and_gives_every_waiting_row_its_outcome() {
    let rig = rig("endless.onnx", |spec| {
        (spec.cpu_limit, spec.wall_limit) = (LONG * 10, LONG * 10);
    });
    rig.event();
    let pid = rig.challenger.stats().pid.unwrap();
    rig.challenger.offer(work(0, vec![triples(&[1e18])])).unwrap();
    wait_until(|| rig.challenger.stats().queued_rows == 0);
    rig.challenger.offer(work(1, vec![triples(&[1.0; 200])])).unwrap();
    let Rig {
        challenger, reports, ..
    } = rig;
    let started = Instant::now();
    challenger.stop();
    drop(challenger);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let outcomes: Vec<_> = reports.iter().flat_map(|report| report.outcomes).collect();
    assert_eq!(outcomes.len(), 201);
    assert!(
        outcomes
            .iter()
            .all(|(_, outcome)| *outcome == Outcome::Shed(Shed::Left))
    );
    assert!(!exists(pid));
}

#[test]
fn an_offer_that_races_with_a_stop_is_refused_or_reported() {
    for round in 0..20 {
        let Rig {
            challenger, reports, ..
        } = rig("mean.onnx", |_| {});
        let batch = work(0, vec![triples(&[1.0, 2.0])]).batch;
        let accepted: usize = std::thread::scope(|scope| {
            let offerers: Vec<_> = (0..3i64)
                .map(|thread| {
                    let (challenger, batch) = (&challenger, &batch);
                    scope.spawn(move || {
                        let mut accepted = 0;
                        for k in 0.. {
                            let (first_id, batch) = (thread * 1_000_000 + 2 * k, Arc::clone(batch));
                            match challenger.offer(ShadowWork {
                                first_id,
                                batch,
                                rows: 0..2,
                            }) {
                                Ok(()) => accepted += 2,
                                Err(Shed::Left) => break,
                                Err(_) => {}
                            }
                        }
                        accepted
                    })
                })
                .collect();
            wait_until(|| challenger.stats().queued_rows > round);
            challenger.stop();
            offerers.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        drop(challenger);
        assert_eq!(
            reports.iter().map(|report| report.outcomes.len()).sum::<usize>(),
            accepted
        );
    }
}

#[test]
fn a_row_without_a_feature_that_the_version_needs_is_not_run() {
    let session = Session::load(&file("mean.onnx"), 1).unwrap();
    let names = ["a", "b", "c"].map(str::to_owned);
    let features = Layout::features(session.signature(), Some(&names)).unwrap();
    let schema = Arc::new(Schema::new(features));
    let layout = Layout::bind_features(session.signature(), Some(&names), &schema).unwrap();
    let rig = rig("mean.onnx", |spec| spec.layout = layout);
    let mut rows = Rows::new(schema, 3);
    for (row, feature) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2)] {
        assert!(rows.set(row, feature, Cell::Float(row as f64)));
    }
    rig.challenger
        .offer(ShadowWork {
            first_id: 40,
            batch: Arc::new(Batch::Features(rows)),
            rows: 0..3,
        })
        .unwrap();
    let expected = [(40, scored(0.0)), (41, Outcome::Uncovered), (42, scored(2.0))];
    assert_eq!(rig.outcomes(3), expected.into());
}

#[test]
fn a_full_queue_refuses_the_offer_with_its_reason() {
    let rig = rig("endless.onnx", |spec| {
        (spec.cpu_limit, spec.wall_limit, spec.queue_rows) = (LONG * 10, LONG * 10, 5);
    });
    rig.event();
    rig.challenger.offer(work(0, vec![triples(&[1e18])])).unwrap();
    wait_until(|| rig.challenger.stats().queued_rows == 0);
    rig.challenger.offer(work(1, vec![triples(&[1.0; 3])])).unwrap();
    assert_eq!(
        rig.challenger.offer(work(4, vec![triples(&[1.0; 3])])),
        Err(Shed::QueueFull)
    );
    rig.challenger.offer(work(4, vec![triples(&[1.0; 2])])).unwrap();
    assert_eq!(rig.challenger.stats().queued_rows, 5);
}

#[test]
fn pinned_requests_are_answered_before_waiting_shadow_rows() {
    let rig = rig("mean.onnx", |spec| spec.max_batch = 1);
    rig.event();
    for id in 0..500 {
        rig.challenger.offer(work(id, vec![triples(&[0.0])])).unwrap();
    }
    let (reply, answer) = tokio::sync::oneshot::channel();
    let batch = work(0, vec![triples(&[3.0, 4.0])]).batch;
    assert!(rig.challenger.ask(batch, vec![0], reply));
    assert_eq!(answer.blocking_recv().unwrap().unwrap(), [floats(&[2, 1], &[3.0, 4.0])]);
    assert!(rig.challenger.stats().queued_rows > 0);
    assert_eq!(rig.outcomes(500).len(), 500);
}

#[test]
fn every_row_gets_one_outcome_whatever_happens_to_the_runner() {
    for seed in [1u64, 2] {
        let mut state = seed;
        let mut random = move |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let rig = rig("div.onnx", |spec| (spec.crashes_allowed, spec.max_batch) = (4, 8));
        let (mut next, mut accepted) = (0i64, Vec::new());
        for _ in 0..2_000 {
            let rows = usize::try_from(1 + random(5)).unwrap();
            let bad = random(200) == 0;
            let a: Vec<i64> = (0..rows).map(|_| if bad { i64::MIN } else { 6 }).collect();
            if rig
                .challenger
                .offer(work(next, vec![ints(&a), ints(&vec![-1; rows])]))
                .is_ok()
            {
                accepted.extend(next..next + rows as i64);
            }
            next += rows as i64;
            if random(300) == 0
                && let Some(pid) = rig.challenger.stats().pid
            {
                kill(pid);
            }
            if random(100) == 0 {
                let _ = rig.reports.recv_timeout(Duration::from_millis(1)).map(|r| {
                    r.outcomes.iter().for_each(|(id, _)| accepted.retain(|x| x != id));
                });
            }
        }
        let Rig {
            challenger, reports, ..
        } = rig;
        challenger.stop();
        drop(challenger);
        let mut seen: Vec<i64> = reports.iter().flat_map(|r| r.outcomes).map(|(id, _)| id).collect();
        seen.sort_unstable();
        assert_eq!(seen, accepted, "seed {seed}");
    }
}
