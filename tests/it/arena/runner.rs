//! One runner: its answers, its end, what it may do.

use super::*;

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
fn an_endless_run_is_ended_at_its_cpu_limit_or_its_wall_limit_and_the_runner_lives() {
    let spawner = spawner();
    let short = Duration::from_millis(200);
    for (limits, expected) in [
        ((short, LONG), RunnerFault::CpuOverrun),
        ((LONG, short), RunnerFault::Starved),
    ] {
        let mut runner = runner(&spawner, "endless.onnx");
        let pid = runner.process().pid();
        for _ in 0..3 {
            let fault = runner.run(&[triples(&[1e18])], &[0], limits.0, limits.1);
            assert_eq!(fault, Err(expected.clone()));
            // A machine too busy to let it listen in time would have it killed.
            if !runner.is_alive() {
                break;
            }
            let answer = runner.run(&[triples(&[2.0])], &[0], LONG, LONG);
            assert_eq!(answer.unwrap(), [floats(&[1, 1], &[2.0])]);
            assert_eq!(runner.process().pid(), pid);
        }
    }
}

/// How often a process was made to give the processor to another, and the CPU time that it used, in ticks of 10 ms.
fn turns(pid: u32) -> (u64, u64) {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
    let status = read("status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"));
    let stat = read("stat");
    let used: u64 = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|n| n.parse::<u64>().unwrap())
        .sum();
    (line.unwrap().trim().parse().unwrap(), used)
}

#[test]
fn runners_that_compete_for_a_processor_take_turns_far_shorter_than_the_kernels() {
    let allowed = std::fs::read_to_string("/proc/self/status").unwrap();
    let cpus = allowed
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .unwrap();
    let first = cpus.trim().split([',', '-']).next().unwrap();
    let spawner = spawner();
    let mut runners = [0, 1].map(|_| runner(&spawner, "endless.onnx"));
    for runner in &runners {
        let pid = runner.process().pid().to_string();
        let pinned = Command::new("taskset")
            .args(["-pc", first, &pid])
            .stdout(Stdio::null())
            .status();
        assert!(pinned.unwrap().success());
    }
    let before = turns(runners[0].process().pid());
    let pid = runners[0].process().pid();
    std::thread::scope(|scope| {
        for runner in &mut runners {
            let half = Duration::from_millis(500);
            scope.spawn(move || runner.run(&[triples(&[1e18])], &[0], half, LONG).unwrap_err());
        }
    });
    let after = turns(pid);
    let (turns, used) = (after.0 - before.0, after.1 - before.1);
    // Ticks come 100 to 1000 times a second; turns end 4000 times.
    assert!(used > 10 && turns * 100 > used * 2_000, "{turns} turns in {used}0 ms");
}

#[test]
fn a_runner_that_does_not_end_its_run_when_asked_to_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    for (script, limits, expected) in [
        (
            "trap '' USR1; while :; do :; done",
            (Duration::from_millis(200), LONG),
            RunnerFault::CpuOverrun,
        ),
        (
            "trap '' USR1; while :; do :; done",
            (LONG, Duration::from_millis(200)),
            RunnerFault::Starved,
        ),
        // One that dies of being asked.
        (
            "while :; do :; done",
            (LONG, Duration::from_millis(200)),
            RunnerFault::Starved,
        ),
    ] {
        let mut runner = liar(folder.path(), script);
        let pid = runner.process().pid();
        let fault = runner.run(&[triples(&[1.0])], &[0], limits.0, limits.1);
        assert_eq!(fault, Err(expected), "{script}");
        assert!(!runner.is_alive() && !exists(pid), "{script}");
    }
}

#[test]
fn a_runner_ended_from_outside_is_told_apart_from_a_crash() {
    let mut runner = runner(&spawner(), "mean.onnx");
    kill(runner.process().pid());
    let fault = runner.run(&[triples(&[1.0])], &[0], LONG, LONG);
    assert_eq!(fault, Err(RunnerFault::Killed("SIGKILL".into())));
}

#[test]
fn a_run_beyond_its_memory_fails_and_a_small_limit_leaves_room_for_the_model() {
    let limit = 96 << 20;
    let spec = RunnerSpec {
        limits: RunnerLimits {
            data_bytes: Some(limit),
            ..RunnerLimits::default()
        },
        show_stderr: false,
    };
    let mut runner = RunnerClient::new(spawner().spawn(spec).unwrap()).unwrap();
    runner.load(&file("mean.onnx"), 1, LONG, LONG).unwrap();
    assert_eq!(
        runner.run(&[triples(&[1.5])], &[0], LONG, LONG).unwrap(),
        [floats(&[1, 1], &[1.5])]
    );
    let status = std::fs::read_to_string(format!("/proc/{}/status", runner.process().pid())).unwrap();
    let data = status.lines().find_map(|line| line.strip_prefix("VmData:")).unwrap();
    let kib: u64 = data.trim().strip_suffix("kB").unwrap().trim().parse().unwrap();
    assert!(kib < 64 << 10, "what is reserved and not used counts too: {kib} kB");
    drop(runner);
    // 72 MB of rows come in, and twice as many bytes at once do not fit.
    let mut runner = RunnerClient::new(spawner().spawn(spec).unwrap()).unwrap();
    runner.load(&file("mean.onnx"), 1, LONG, LONG).unwrap();
    let rows = triples(&vec![1.0; 6_000_000]);
    let fault = runner.run(&[rows], &[0], LONG, LONG).unwrap_err();
    assert!(
        matches!(fault, RunnerFault::Model(_) | RunnerFault::Crashed(_)),
        "{fault}"
    );
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
        names.iter().all(|n| n.is_empty()
            || n.starts_with("ORT_D")
            || n.starts_with("MIMALLOC_")
            || ["LD_LIBRARY_PATH", "DETHRONE_ONNXRUNTIME_SHA256"].contains(n)),
        "{names:?}"
    );
    assert!(runner.process().peak_memory_bytes().unwrap() > 1 << 20);
}

#[test]
fn a_runner_rests_while_requests_press_and_is_called_busy_for_it_not_silent() {
    let (end, ended) = bounded::<()>(0);
    // As if on many processors nothing else were done.
    let press = || dethrone::priority::requests_answered(LONG / 10_000, LONG);
    let asking = std::thread::spawn(move || {
        press();
        while ended
            .recv_timeout(Duration::from_millis(50))
            .is_err_and(|why| why.is_timeout())
        {
            press();
        }
    });
    wait_until(dethrone::priority::do_requests_press);
    let (cpu, row) = (Duration::from_millis(400), [triples(&[1.0])]);
    let mut endless = runner(&spawner(), "hang.onnx");
    let begun = Instant::now();
    let fault = endless.run(&row, &[0], cpu, LONG);
    assert_eq!(fault, Err(RunnerFault::CpuOverrun));
    let took = begun.elapsed();
    assert!(took > 2 * cpu, "it did not rest: {took:?} for {cpu:?} of CPU time");
    let mut endless = runner(&spawner(), "hang.onnx");
    let fault = endless.run(&row, &[0], LONG, Duration::from_secs(2));
    assert_eq!(fault, Err(RunnerFault::Starved));
    drop(end);
    asking.join().unwrap();
}

/// CPU time of a process in clock ticks: user time is field 14 of the line, and the name has no spaces.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.split_whitespace().nth(13).unwrap().parse().unwrap()
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
    let pid = runner.process().pid();
    // Before it is busy, the end of the channel alone would end it.
    let loaded = ticks(pid);
    std::thread::spawn(move || {
        wait_until(|| ticks(pid) > loaded + 5);
        println!("\nrunner {pid}");
    });
    let _ = runner.run(&[triples(&[1.0])], &[0], LONG, LONG);
}

#[test]
fn a_busy_runner_dies_with_the_gateway() {
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "arena::runner::parent_of_a_busy_runner", "--nocapture"])
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
    in_the_runners_place(folder.join("liar"), script)
}

/// The same under a name of its own.
pub(super) fn in_the_runners_place(path: PathBuf, script: &str) -> RunnerClient {
    write_script(&path, script);
    RunnerClient::new(Spawner::start(path).spawn(RunnerSpec::default()).unwrap()).unwrap()
}

pub(super) fn write_script(path: &Path, script: &str) {
    // Written by another process: a descriptor that a concurrent fork inherits would make the file busy.
    let write = "printf '%s\\n' '#!/bin/sh' \"$1\" > \"$0\" && chmod +x \"$0\"";
    let status = Command::new("sh")
        .args(["-c", write])
        .arg(path)
        .arg(script)
        .status()
        .unwrap();
    assert!(status.success());
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
            r"printf '\15\0\0\0\4\7\0\0\0\0\0\0\0\0\0\0\0' >&0; exec sleep 600",
            protocol,
        ),
        (r"printf '\1\0\0\0\1\1\0\0\0\1' >&0; exec sleep 600", protocol),
        // An answer of 251 MB of nothing, and one that is broken off.
        (r"printf '\0\0\0\17' >&0; exec cat /dev/zero >&0", protocol),
        (r"printf '\0\0\0\17\4\4\4' >&0; exit 3", "it crashed (exit code 3)"),
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
fn silence_and_an_answer_without_end_are_over_at_the_wall_limit() {
    let folder = tempfile::tempdir().unwrap();
    for (script, is_silent) in [
        ("trap '' USR1; exec sleep 600", true),
        ("kill -STOP $$", true),
        // A byte at a time, of an answer that was said to have 251 MB.
        (
            r"trap '' USR1; printf '\0\0\0\17' >&0; while :; do printf 'x' >&0; sleep 0.02; done",
            false,
        ),
    ] {
        let mut runner = liar(folder.path(), script);
        let pid = runner.process().pid();
        let fault = runner
            .run(&[triples(&[1.0])], &[0], LONG, Duration::from_millis(500))
            .unwrap_err();
        let is_named = fault == RunnerFault::Silent || fault == RunnerFault::Starved && !is_silent;
        assert!(is_named, "{script}: {fault}");
        assert!(!exists(pid), "{script}");
    }
}

#[test]
fn a_vital_runner_that_is_stopped_or_silent_is_given_up_long_before_its_wall_limit() {
    let folder = tempfile::tempdir().unwrap();
    for (script, said) in [("exec sleep 600", "slept"), ("kill -STOP $$", "stopped")] {
        let mut runner = liar(folder.path(), script);
        runner.make_vital();
        let pid = runner.process().pid();
        let started = Instant::now();
        let fault = runner.run(&[triples(&[1.0])], &[0], LONG, LONG).unwrap_err();
        assert!(started.elapsed() < LONG, "{script}");
        assert!(fault.to_string().contains(said), "{script}: {fault}");
        assert!(!runner.is_alive() && !exists(pid), "{script}");
    }
    // One that computes for long is left alone.
    let mut runner = runner(&spawner(), "endless.onnx");
    runner.make_vital();
    let fault = runner.run(&[triples(&[1e18])], &[0], Duration::from_millis(400), LONG);
    assert_eq!(fault, Err(RunnerFault::CpuOverrun));
}

#[test]
fn through_shared_memory_a_runner_answers_fails_and_ends_as_over_its_socket() {
    let spawner = spawner();
    let shared = |name: &str| {
        let mut runner = runner(&spawner, name);
        runner.share_memory(LONG).unwrap();
        runner
    };
    let mut there = shared("mean.onnx");
    let mut over_the_socket = runner(&spawner, "mean.onnx");
    // The largest ones do not fit into what is shared, neither as a question nor as an answer.
    for rows in [1, 2, 700, 30_000, 3, 9_000, 1] {
        let cells: Vec<f32> = (0..rows).map(|row| row as f32 / 8.0).collect();
        let inputs = [triples(&cells)];
        assert_eq!(
            there.run(&inputs, &[0], LONG, LONG).unwrap(),
            over_the_socket.run(&inputs, &[0], LONG, LONG).unwrap(),
            "{rows} rows"
        );
    }
    let wrong = there.run(&[triples(&[1.0])], &[7], LONG, LONG);
    assert!(matches!(wrong, Err(RunnerFault::Model(_))), "{wrong:?}");
    there.ping(LONG).unwrap();
    // With a descriptor, which memory cannot carry.
    there.load(&file("mean.onnx"), 1, LONG, LONG).unwrap();
    assert_eq!(
        there.run(&[triples(&[2.5])], &[0], LONG, LONG).unwrap(),
        [floats(&[1, 1], &[2.5])]
    );
    // Ended by somebody else while nothing is asked of it: nobody was to blame.
    let pid = there.process().pid();
    assert!(
        Command::new("kill")
            .args(["-KILL", &pid.to_string()])
            .status()
            .unwrap()
            .success()
    );
    crate::support::until("its end", || there.process().has_ended().then_some(()));
    let fault = there.ask(&[triples(&[1.0])], &[0], LONG, LONG).unwrap_err();
    assert_eq!(fault, RunnerFault::Killed("SIGKILL".into()));

    let mut crashes = shared("div.onnx");
    let fault = crashes.run(&[ints(&[i64::MIN]), ints(&[-1])], &[0], LONG, LONG);
    assert_eq!(fault, Err(RunnerFault::Crashed("SIGFPE".into())));
    let mut crashes = shared("div.onnx");
    let pending = crashes
        .ask(&[ints(&[i64::MIN]), ints(&[-1])], &[0], LONG, LONG)
        .unwrap();
    assert!(crashes.glance(&pending, Duration::from_millis(1)).is_none());
    assert_eq!(crashes.finish(pending), Err(RunnerFault::Crashed("SIGFPE".into())));

    let mut endless = shared("endless.onnx");
    let fault = endless.run(&[triples(&[1e18])], &[0], Duration::from_millis(200), LONG);
    assert_eq!(fault, Err(RunnerFault::CpuOverrun));
    if endless.is_alive() {
        let answer = endless.run(&[triples(&[2.0])], &[0], LONG, LONG);
        assert_eq!(answer.unwrap(), [floats(&[1, 1], &[2.0])]);
    }
}

#[test]
fn nobody_can_cut_off_the_memory_of_a_model_and_a_model_that_is_cut_short_is_refused_by_name() {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::FileExt;

    use dethrone::arena::parcel::Parcel;

    let parcel = Parcel::pack(&file("mean.onnx")).unwrap();
    let slips = parcel.slips();
    let length = std::fs::metadata(file("mean.onnx")).unwrap().len();
    assert_eq!((slips.len(), slips[0].length), (1, length));
    // Opened anew by its name, as whoever got hold of the descriptor could do, it can be written to as far as modes go.
    let name = format!("/proc/self/fd/{}", parcel.file().as_raw_fd());
    let again = std::fs::File::options().read(true).write(true).open(name).unwrap();
    for size in [0, 1, length - 1, length + 1] {
        let refused = again.set_len(size).unwrap_err();
        assert_eq!(
            refused.kind(),
            std::io::ErrorKind::PermissionDenied,
            "{size}: {refused}"
        );
    }
    assert!(again.write_all_at(b"x", 0).is_err());
    assert!(
        rustix::fs::fallocate(
            &again,
            rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE,
            0,
            length
        )
        .is_err()
    );
    let mut bytes = vec![0; usize::try_from(length).unwrap()];
    again.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, std::fs::read(file("mean.onnx")).unwrap());

    // One whose file was short before it was packed: the runner says so, and lives.
    let folder = tempfile::tempdir().unwrap();
    let short = folder.path().join("short.onnx");
    let mut runner = runner(&spawner(), "mean.onnx");
    let pid = runner.process().pid();
    for kept in [0, 1, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&short, &bytes[..kept]).unwrap();
        let fault = runner.load(&short, 1, LONG, LONG).unwrap_err();
        let RunnerFault::Model(why) = &fault else {
            panic!("{kept} of {} bytes: {fault}", bytes.len());
        };
        let named = if kept == 0 {
            "it is empty"
        } else {
            "protobuf parsing failed"
        };
        assert!(why.contains(named), "{kept} of {} bytes: {why}", bytes.len());
    }
    runner.load(&file("mean.onnx"), 1, LONG, LONG).unwrap();
    assert_eq!(
        runner.run(&[triples(&[1.5])], &[0], LONG, LONG).unwrap(),
        [floats(&[1, 1], &[1.5])]
    );
    assert_eq!(runner.process().pid(), pid);
}
