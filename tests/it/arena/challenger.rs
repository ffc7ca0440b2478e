//! A challenger's queue and the life of its runner.

use super::*;

struct Rig {
    challenger: Challenger,
    reports: Receiver<ShadowReport>,
    events: Receiver<RunnerEvent>,
}

/// A challenger on a regression over native tensors.
fn rig(name: &str, change: impl FnOnce(&mut ChallengerSpec)) -> Rig {
    rig_with(spawner(), name, change)
}

/// The same with runners of this spawner.
fn rig_with(spawner: Spawner, name: &str, change: impl FnOnce(&mut ChallengerSpec)) -> Rig {
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
    let challenger = Challenger::start(spec, spawner, sink, teller);
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
    let rig = rig("endless.onnx", |spec| spec.cpu_limit = LONG);
    rig.event();
    rig.challenger.offer(work(1, vec![triples(&[1e18])])).unwrap();
    wait_until(|| rig.challenger.stats().queued_rows == 0);
    kill(rig.challenger.stats().pid.unwrap());
    assert_eq!(rig.outcomes(1)[&1], Outcome::Shed(Shed::RunnerDown));
    assert!(matches!(rig.event(), RunnerEvent::Restarted { reason, .. } if reason.contains("SIGKILL")));
    rig.challenger.offer(work(2, vec![triples(&[2.0])])).unwrap();
    assert_eq!(rig.outcomes(1)[&2], scored(2.0));
    assert_eq!(rig.challenger.stats().restarts, 1);
}

#[test]
fn a_runner_killed_while_idle_is_replaced_before_a_row_is_lost() {
    let rig = rig("mean.onnx", |_| {});
    rig.event();
    for round in 0..2 {
        kill(rig.challenger.stats().pid.unwrap());
        assert!(matches!(rig.event(), RunnerEvent::Restarted { .. }));
        rig.challenger.offer(work(round, vec![triples(&[1.0])])).unwrap();
        assert_eq!(rig.outcomes(1)[&round], scored(1.0));
    }
}

#[test]
fn a_version_that_crashes_only_on_merged_rows_is_quarantined_without_blaming_a_row() {
    let rig = rig("crowd.onnx", |_| {});
    for id in [0, 2, 4] {
        rig.challenger.offer(work(id, vec![triples(&[1.0, 2.0])])).unwrap();
        let expected = [(id, scored(1.0)), (id + 1, scored(2.0))];
        assert_eq!(rig.outcomes(2), expected.into());
    }
    let last = std::iter::repeat_with(|| rig.event()).find(|e| matches!(e, RunnerEvent::Quarantine { .. }));
    assert!(matches!(last, Some(RunnerEvent::Quarantine { reason, .. }) if reason.contains("SIGFPE")));
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
    let Some(RunnerEvent::Quarantine { reason, .. }) = last else {
        panic!("{last:?}");
    };
    let said = ["SIGFPE", "on row 2", "faults counted: 3"];
    assert!(said.iter().all(|words| reason.contains(words)), "{reason}");
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
fn a_starved_run_is_shed_and_nobodys_fault_also_where_the_host_is_busy() {
    let rig = rig("endless.onnx", |spec| {
        (spec.cpu_limit, spec.wall_limit) = (LONG, Duration::from_millis(300));
    });
    rig.event();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // As many as there are processors, all of them before an idle runner.
        for _ in 0..std::thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let starved = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for id in 0..4 {
                rig.challenger.offer(work(id, vec![triples(&[1e18])])).unwrap();
                assert_eq!(rig.outcomes(1)[&id], Outcome::Shed(Shed::Starved));
            }
        }));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        starved.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let mut events = rig.events.try_iter();
    assert!(events.all(|event| !matches!(event, RunnerEvent::Quarantine { .. })));
    rig.challenger.offer(work(9, vec![triples(&[2.0])])).unwrap();
    let mut last = rig.outcomes(1);
    assert_eq!(last.remove(&9), Some(scored(2.0)));
}

#[test]
fn a_runner_that_takes_work_and_sleeps_on_it_is_quarantined_after_three_times() {
    // What a load is answered with, and then nothing.
    let reply = br#"{"signature":{"inputs":[],"outputs":[]},"metadata":{}}"#;
    let lengths = [reply.len() + 5, reply.len()].map(|n| format!("\\{n:03o}\\0\\0\\0"));
    let text = String::from_utf8(reply.to_vec()).unwrap();
    for sleep in ["exec sleep 600", "kill -STOP $$"] {
        let script = format!(
            "printf '{}\\2{}{text}' >&0; trap '' USR1; {sleep}",
            lengths[0], lengths[1]
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("liar");
        super::runner::write_script(&path, &script);
        let rig = rig_with(Spawner::start(path), "mean.onnx", |spec| {
            // Most of it must be sleep, also where the script waits for the processor before that.
            spec.wall_limit = Duration::from_millis(1_500);
        });
        // Where others kept it from falling asleep, the run counts for nothing.
        let begun = Instant::now();
        let mut outcomes = (0..).map(|id| {
            assert!(begun.elapsed() < LONG, "it is kept from falling asleep");
            rig.challenger.offer(work(id, vec![triples(&[1.0])])).unwrap();
            rig.outcomes(1)[&id].clone()
        });
        for _ in 0..3 {
            let told = outcomes.find(|outcome| *outcome != Outcome::Shed(Shed::Starved));
            assert_eq!(told, Some(Outcome::Shed(Shed::RunnerDown)));
        }
        let last = std::iter::repeat_with(|| rig.event()).find(|e| matches!(e, RunnerEvent::Quarantine { .. }));
        let Some(RunnerEvent::Quarantine { reason, .. }) = last else {
            panic!("{last:?}");
        };
        assert!(reason.contains("slept on it 3 times in a row"), "{reason}");
    }
}

#[test]
fn a_version_that_never_ends_is_quarantined_by_its_cpu_time_without_a_restart() {
    let rig = rig("endless.onnx", |spec| {
        (spec.cpu_limit, spec.cpu_limit_per_row) = (Duration::from_millis(100), Duration::ZERO);
    });
    rig.event();
    let pid = rig.challenger.stats().pid;
    for id in 0..3 {
        assert!(rig.challenger.stats().pid == pid || rig.challenger.stats().restarts > 0);
        rig.challenger.offer(work(id, vec![triples(&[1e18])])).unwrap();
        assert_eq!(rig.outcomes(1)[&id], Outcome::Failed);
    }
    let last = std::iter::repeat_with(|| rig.event()).find(|e| matches!(e, RunnerEvent::Quarantine { .. }));
    assert!(
        matches!(&last, Some(RunnerEvent::Quarantine { reason, .. }) if reason.contains("CPU time, on row 2")),
        "{last:?}"
    );
}

#[test]
fn shadows_rest_while_the_container_is_slowed_and_pinned_requests_do_not() {
    let pressure = Arc::new(Pressure::default());
    let shared = Arc::clone(&pressure);
    let rig = rig("mean.onnx", |spec| spec.pressure = shared);
    rig.event();
    pressure.set(true);
    assert_eq!(
        rig.challenger.offer(work(0, vec![triples(&[1.0])])),
        Err(Shed::Throttled)
    );
    let (reply, answer) = tokio::sync::oneshot::channel();
    assert!(rig.challenger.ask(work(0, vec![triples(&[3.0])]).batch, vec![0], reply));
    assert_eq!(answer.blocking_recv().unwrap().unwrap(), [floats(&[1, 1], &[3.0])]);
    pressure.set(false);
    rig.challenger.offer(work(1, vec![triples(&[2.0])])).unwrap();
    assert_eq!(rig.outcomes(1)[&1], scored(2.0));
}

#[test]
fn rows_wait_out_a_quiet_stretch_and_are_shed_by_their_reason_while_shadow_work_is_slowed() {
    let gate = Arc::new(Gate::new(1));
    let shared = Arc::clone(&gate);
    let rig = rig("mean.onnx", |spec| spec.gate = shared);
    rig.event();
    gate.hold(true);
    rig.challenger.offer(work(0, vec![triples(&[1.0])])).unwrap();
    let (reply, answer) = tokio::sync::oneshot::channel();
    assert!(rig.challenger.ask(work(0, vec![triples(&[3.0])]).batch, vec![0], reply));
    assert_eq!(answer.blocking_recv().unwrap().unwrap(), [floats(&[1, 1], &[3.0])]);
    assert_eq!(
        (rig.challenger.stats().queued_rows, rig.reports.len()),
        (1, 0),
        "it waits"
    );
    gate.hold(false);
    assert_eq!(rig.outcomes(1)[&0], scored(1.0));

    // A millionth of a processor: few rows may wait.
    gate.set_share(0.0);
    rig.challenger.offer(work(1, vec![triples(&[2.0])])).unwrap();
    assert_eq!(rig.outcomes(1)[&1], scored(2.0), "it never stops altogether");
    gate.hold(true);
    rig.challenger.offer(work(100, vec![triples(&[4.0; 64])])).unwrap();
    assert_eq!(
        rig.challenger.offer(work(200, vec![triples(&[4.0])])),
        Err(Shed::Interference)
    );
    gate.hold(false);
    gate.set_share(1.0);
    assert_eq!(rig.outcomes(64)[&163], scored(4.0));
    rig.challenger.offer(work(300, vec![triples(&[5.0])])).unwrap();
    assert_eq!(rig.outcomes(1)[&300], scored(5.0));
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
    // Quarantined on the way, with rows in all places; and never.
    for (seed, crashes_allowed) in [(1u64, 3), (2, 2), (3, u32::MAX)] {
        let mut state = seed;
        let mut random = move |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let rig = rig("div.onnx", |spec| {
            (spec.crashes_allowed, spec.max_batch) = (crashes_allowed, 8);
        });
        rig.event();
        let (mut next, mut accepted) = (0i64, Vec::new());
        for _ in 0..1_500 {
            let a: Vec<i64> = (0..=random(5))
                .map(|_| if random(400) == 0 { i64::MIN } else { 6 })
                .collect();
            let b = vec![-1; a.len()];
            let end = next + i64::try_from(a.len()).unwrap();
            if rig.challenger.offer(work(next, vec![ints(&a), ints(&b)])).is_ok() {
                accepted.extend(next..end);
            }
            next = end;
            match random(400) {
                0..3 => rig.challenger.stats().pid.map_or((), kill),
                3..8 => wait_until(|| rig.challenger.stats().queued_rows < 20),
                _ => {}
            }
        }
        let Rig {
            challenger, reports, ..
        } = rig;
        challenger.stop();
        drop(challenger);
        let outcomes: Vec<(i64, Outcome)> = reports.iter().flat_map(|r| r.outcomes).collect();
        let has = |wanted: fn(&Outcome) -> bool| outcomes.iter().any(|(_, outcome)| wanted(outcome));
        assert!(
            has(|o| matches!(o, Outcome::Scored(_))) && has(|o| *o == Outcome::Failed),
            "seed {seed}"
        );
        assert!(has(|o| *o == Outcome::Shed(Shed::RunnerDown)), "seed {seed}");
        let mut seen: Vec<i64> = outcomes.iter().map(|(id, _)| *id).collect();
        seen.sort_unstable();
        assert_eq!(seen, accepted, "seed {seed}");
    }
}
