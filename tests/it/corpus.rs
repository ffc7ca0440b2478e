//! Anything may be dropped into the directory: a corpus of hostile files, made on the spot, and what becomes of each.
//!
//! `table` says what is put there and what must become of it; a file or an outcome that it does not list is a fault.

mod mutate;
mod table;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dethrone::admission::probe::{ProbeSettings, probe};
use dethrone::arena::Spawner;
use serde_json::{Value, json};

use crate::support::{Gateway, Site, client};
use table::{Case, Expect, Place};

const MODEL: &str = "m";
/// Stands in every canary, and must never stand anywhere else.
const CANARY: &str = "CANARY-4b1d-never-read-nor-told";
/// Generous: the files are looked at one by one, at idle priority.
const PATIENCE: Duration = Duration::from_secs(600);
const SETTINGS: &str = "interface = \"tensors\"\nchampion = \"lead\"\n[shadow]\nmax_challengers = 100\nsample = 0.2\n";

/// Makes the folder outside with its canaries, and the champion's file.
fn lay_out(root: &Path) -> PathBuf {
    let (model, outside) = (root.join("models").join(MODEL), root.join("outside"));
    std::fs::create_dir_all(&model).unwrap();
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::write(outside.join("canary.txt"), format!("{CANARY}\n")).unwrap();
    std::fs::write(outside.join("canary.data"), format!("{CANARY}{}", "x".repeat(4096))).unwrap();
    std::fs::write(outside.join("canary.onnx"), write::fine(9.0).put(2, CANARY)).unwrap();
    std::fs::write(model.join("model.toml"), SETTINGS).unwrap();
    std::fs::write(model.join("lead.onnx"), write::fine(1.0)).unwrap();
    outside
}

fn put_all(cases: &[Case], root: &Path) {
    let (model, outside) = (root.join("models").join(MODEL), root.join("outside"));
    let place = Place {
        model: &model,
        outside: &outside,
    };
    for case in cases {
        (case.put)(&place);
    }
}

/// The name under which the gateway shows a file, taken or refused by name.
fn is_shown_as(shown: &str, file: &str) -> bool {
    let printed = file.escape_debug().to_string();
    shown == printed || Some(shown) == printed.strip_suffix(".onnx")
}

/// What became of a file, in the table's words; `None` while that is open: also where the machine was too busy to examine
/// it, which the gateway does again by itself.
fn outcome(role: &str, isolation: &Value, reason: &str) -> Option<String> {
    Some(match (role, isolation.as_str()) {
        ("candidate", _) => return None,
        ("rejected", _) if reason.contains("try it again") => return None,
        ("rejected", _) => format!("refuse:{reason}"),
        ("challenger", Some("inline-safe")) => "run".into(),
        ("challenger", Some("process-only")) => "boxed".into(),
        (role, isolation) => format!("{role} {isolation:?} {reason}"),
    })
}

fn is_as_expected(expect: Expect, found: &str) -> bool {
    match expect {
        Expect::Refuse(words) => {
            let why = found.strip_prefix("refuse:");
            why.is_some_and(|why| words.split('|').any(|words| why.contains(words)))
        }
        Expect::Run => found == "run",
        Expect::Boxed => found == "boxed",
    }
}

fn report(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_table_lists_every_file_and_no_two_are_alike() {
    let root = tempfile::tempdir().unwrap();
    lay_out(root.path());
    let cases = table::all();
    assert!(cases.len() >= 60, "{}", cases.len());
    put_all(&cases, root.path());
    let listed: BTreeSet<&OsStr> = cases.iter().map(|case| OsStr::new(case.file)).collect();
    assert_eq!(listed.len(), cases.len());
    let model = root.path().join("models").join(MODEL);
    let there: Vec<_> = std::fs::read_dir(&model)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    for name in &there {
        let text = name.to_string_lossy();
        // Weights belong to the model that names them, dotted names to a volume.
        let is_part = text.ends_with(".data") || text.starts_with("..") || text == "model.toml" || text == "lead.onnx";
        assert!(
            is_part || listed.contains(name.as_os_str()),
            "{text} is not in the table"
        );
    }
    let missing: Vec<_> = listed
        .iter()
        .filter(|name| !there.iter().any(|t| t == **name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Starts the gateway, under `strace` where that is there; the second is the trace's file.
///
/// Without it the canaries are looked for in what the gateway says only. Where `CI` is set that is not enough.
fn start(site: &Site, root: &Path) -> (Gateway, Option<PathBuf>) {
    let works = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output();
    if !works.is_ok_and(|output| output.status.success()) {
        let skipped = "strace is missing or may not trace: that no file outside is opened is NOT TESTED here";
        assert!(std::env::var_os("CI").is_none(), "{skipped}; install strace");
        eprintln!("\n!!! SKIPPED: {skipped} !!!\n");
        return (site.start(), None);
    }
    let (trace, program) = (root.join("trace"), root.join("traced"));
    let binary = env!("CARGO_BIN_EXE_dethrone");
    // -D: the gateway stays the test's own child, and the tracer goes with it.
    let script = format!(
        "#!/bin/sh\nexec strace -D -f -qq --seccomp-bpf -s 4096 -e trace=open,openat,openat2 -o '{}' '{binary}' \"$@\"\n",
        trace.display()
    );
    std::fs::write(&program, script).unwrap();
    let made = Command::new("chmod").arg("+x").arg(&program).status().unwrap();
    assert!(made.success());
    (site.start_program(&program), Some(trace))
}

/// Asks the champion again and again, and counts.
fn load(gateway: &Gateway, done: &AtomicBool, answers: &AtomicUsize) -> Vec<String> {
    let mut failed = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let body = json!({"model": MODEL, "inputs": {"x": [[1.5, 2.5, 3.5]]}, "outputs": true});
        let (status, said) = gateway.predict(&body);
        if status != 200 || said["version"] != "lead" {
            failed.push(format!("{status}: {said}"));
        }
        answers.fetch_add(1, Ordering::Relaxed);
        // Some hundred a second: files are looked at with what this leaves of the processors.
        std::thread::park_timeout(Duration::from_millis(5));
    }
    failed
}

/// Waits until the directory has made up its mind about every file; gives outcomes by shown name.
fn until_decided(gateway: &Gateway, cases: &[Case]) -> BTreeMap<String, String> {
    let end = Instant::now() + PATIENCE;
    loop {
        let view = gateway.view(MODEL);
        let versions = view["versions"].as_array().cloned().unwrap_or_default();
        let found: BTreeMap<String, Option<String>> = versions
            .iter()
            .filter(|v| v["version"] != "lead")
            .map(|v| {
                let text = |key: &str| v[key].as_str().unwrap_or_default();
                let outcome = outcome(text("role"), &v["isolation"], text("reason"));
                (text("version").to_owned(), outcome)
            })
            .collect();
        let open: Vec<&str> = cases
            .iter()
            .filter(|case| {
                !found
                    .iter()
                    .any(|(name, o)| is_shown_as(name, case.file) && o.is_some())
            })
            .map(|case| case.file)
            .collect();
        if open.is_empty() {
            return found
                .into_iter()
                .map(|(name, outcome)| (name, outcome.unwrap_or_default()))
                .collect();
        }
        assert!(Instant::now() < end, "nothing became of {open:?}");
        std::thread::park_timeout(Duration::from_millis(250));
    }
}

#[test]
fn a_hostile_directory_costs_no_answer_and_every_file_in_it_fares_as_the_table_says() {
    let site = Site::new("settle_ms = 50\nmax_model_bytes = \"64MiB\"\n");
    let root = site.models().parent().unwrap().to_owned();
    lay_out(&root);
    let (gateway, trace) = start(&site, &root);
    let gateway = gateway.ready();
    let cases = table::all();
    let (done, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (found, failed) = std::thread::scope(|scope| {
        let client = scope.spawn(|| load(&gateway, &done, &answers));
        put_all(&cases, &root);
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| until_decided(&gateway, &cases)));
        done.store(true, Ordering::Relaxed);
        (found, client.join().unwrap())
    });
    let found = found.unwrap_or_else(|why| std::panic::resume_unwind(why));
    assert_eq!(failed, [""; 0]);
    assert!(answers.load(Ordering::Relaxed) > 100, "{answers:?}");
    let mut wrong: Vec<String> = found
        .keys()
        .filter(|name| !cases.iter().any(|case| is_shown_as(name, case.file)))
        .map(|name| format!("{name} is not in the table: {}", found[name]))
        .collect();
    for case in &cases {
        let found: Vec<&String> = found
            .iter()
            .filter(|(name, _)| is_shown_as(name, case.file))
            .map(|(_, o)| o)
            .collect();
        if found.len() != 1 || !is_as_expected(case.expect, found[0]) {
            wrong.push(format!("{:?}: {:?} expected, found {found:?}", case.file, case.expect));
        }
    }
    let said = [
        site.log(),
        gateway.view(MODEL).to_string(),
        client::get(gateway.admin, "/metrics").text(),
        client::get(gateway.admin, "/api/models").text(),
        client::get(gateway.data, &format!("/v2/models/{MODEL}")).text(),
    ];
    for text in &said {
        let shows = [CANARY, "\u{1b}", "\u{202e}"]
            .into_iter()
            .filter(|piece| text.contains(piece));
        wrong.extend(shows.map(|piece| format!("{piece:?} stands in {text}")));
    }
    // A line of the log is the gateway's own.
    for line in site.log().lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(line["timestamp"].is_string(), "{line}");
    }
    assert_eq!(
        gateway.stop(),
        Some(0),
        "the gateway that started ended when it was told to"
    );
    if let Some(trace) = trace {
        let trace = std::fs::read_to_string(trace).unwrap();
        assert!(trace.contains("lead.onnx"), "the trace shows what was opened");
        let opened = trace.lines().filter(|line| line.contains("canary"));
        wrong.extend(opened.map(|line| format!("a file outside was opened: {line}")));
    }
    report(&wrong);
}

#[test]
fn check_says_of_every_file_what_the_directory_does() {
    let root = tempfile::tempdir().unwrap();
    lay_out(root.path());
    let cases = table::all();
    put_all(&cases, root.path());
    let model = root.path().join("models").join(MODEL);
    let (next, temporary) = (AtomicUsize::new(0), tempfile::tempdir().unwrap());
    let judge = || {
        let mut wrong = Vec::new();
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let path = model.join(case.file);
            let path = if path.is_dir() { path.join("model.onnx") } else { path };
            let check = || {
                let output = Command::new(env!("CARGO_BIN_EXE_dethrone"))
                    .args([
                        OsStr::new("check"),
                        path.as_os_str(),
                        OsStr::new("--json"),
                        OsStr::new("--model"),
                    ])
                    .arg(&model)
                    .env("TMPDIR", temporary.path())
                    .output()
                    .unwrap();
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                let errors = String::from_utf8_lossy(&output.stderr).into_owned();
                let said: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
                let role = match (output.status.code(), &said["accepted"]) {
                    (Some(0), Value::Bool(true)) => said["role"].as_str().unwrap_or_default(),
                    (Some(1), Value::Bool(false)) => "rejected",
                    _ => "broken",
                };
                let found = outcome(role, &said["isolation"], said["reason"].as_str().unwrap_or_default());
                (found, text + &errors)
            };
            let mut said = String::new();
            // Told to try it again, whoever asked does.
            let found = (0..5).find_map(|_| {
                let (found, text) = check();
                said += &text;
                found
            });
            let found = found.unwrap_or_default();
            if !is_as_expected(case.expect, &found) || said.contains(CANARY) {
                wrong.push(format!(
                    "{:?}: {:?} expected, found {found} {said}",
                    case.file, case.expect
                ));
            }
        }
        wrong
    };
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(judge)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    report(&wrong);
}

#[test]
fn a_chain_of_a_hundred_thousand_nodes_is_no_trouble() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chain.onnx");
    let bytes = table::chain(100_000);
    assert!(dethrone::model::onnx::scan(&bytes.0).is_ok());
    std::fs::write(&path, bytes).unwrap();
    let spawner = Spawner::start(PathBuf::from(env!("CARGO_BIN_EXE_dethrone")));
    let (mut settings, patience) = (ProbeSettings::default(), Duration::from_secs(600));
    // At idle priority a busy machine would leave it nothing, for long.
    settings.limits.idle = false;
    (settings.load_cpu_limit, settings.wall_limit) = (patience, patience);
    let found = probe(&spawner, &path, &settings).unwrap();
    assert!(found.batched && found.probe_rows > 1, "{found:?}");
}

#[test]
fn a_file_beyond_the_limit_is_refused_without_being_read() {
    let site = Site::new("settle_ms = 50\n");
    let root = site.models().parent().unwrap().to_owned();
    lay_out(&root);
    let gateway = site.start().ready();
    let read = || -> u64 {
        let io = std::fs::read_to_string(format!("/proc/{}/io", gateway.pid())).unwrap();
        let line = io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap();
        line.trim().parse().unwrap()
    };
    let before = read();
    let path = root.join("models").join(MODEL).join("two_gigabytes.onnx");
    // It takes no room on the disk; what is said of its first bytes would hold for the others.
    let huge = std::fs::File::create(&path).unwrap();
    huge.set_len((2 << 30) + 1).unwrap();
    let entry = gateway.until_role(MODEL, "two_gigabytes.onnx", "rejected");
    let why = entry["reason"].as_str().unwrap();
    assert!(why.contains("more than max_model_bytes = 2147483648"), "{why}");
    let grown = read() - before;
    std::fs::remove_file(&path).unwrap();
    assert!(grown < 256 << 20, "{grown} bytes were read");
}

#[test]
fn a_file_that_never_stands_still_is_told_so() {
    let site = Site::new("settle_ms = 50\n");
    let root = site.models().parent().unwrap().to_owned();
    lay_out(&root);
    let gateway = site.start().ready();
    let growing = root.join("models").join(MODEL).join("growing.onnx");
    let done = AtomicBool::new(false);
    let entry = std::thread::scope(|scope| {
        scope.spawn(|| {
            use std::io::Write;
            let mut file = std::fs::File::create(&growing).unwrap();
            while !done.load(Ordering::Relaxed) {
                file.write_all(b"more").unwrap();
                std::thread::park_timeout(Duration::from_millis(5));
            }
        });
        let entry = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            gateway.until_role(MODEL, "growing", "rejected")
        }));
        done.store(true, Ordering::Relaxed);
        entry
    });
    let entry = entry.unwrap_or_else(|why| std::panic::resume_unwind(why));
    let why = entry["reason"].as_str().unwrap();
    assert!(why.contains("still being written") && why.contains("rename"), "{why}");
    // It stands still now, whole: what it is counts.
    std::fs::write(&growing, write::fine(1.5)).unwrap();
    gateway.until_role(MODEL, "growing", "challenger");
}
