//! The power goes: of what was written and not synced, any part may be missing. And the clock jumps.
//!
//! The gateway's own writes and syncs are recorded by a tracer, with their bytes. From that the state directory is built
//! as a disk may hold it at a moment: each file as of its last sync, and of the writes since then a random part, the last
//! one perhaps torn in its middle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use dethrone::id::IdKey;
use dethrone::ledger::Ledger;

use super::tracer::{self, Tracer};
use crate::recovery::random;

use super::{is_long, label, predict, site, skipped, told};

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

#[derive(Debug)]
enum Event {
    Write { at: usize, bytes: Vec<u8> },
    Cut { len: usize },
    Sync,
}

/// Bytes as the tracer prints them: `\x61\x62`.
fn bytes_of(text: &str) -> Vec<u8> {
    let hex = text.split("\\x").skip(1);
    hex.map(|two| u8::from_str_radix(two, 16).unwrap()).collect()
}

/// What the thread did to the files of the ledger, in its order: time, file, what.
fn parse(log: &str) -> Vec<(f64, String, Event)> {
    let mut events = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for line in log.lines() {
        let Some((time, call)) = line.split_once(' ') else {
            continue;
        };
        let (Ok(time), Some((name, rest))) = (time.parse::<f64>(), call.split_once('(')) else {
            continue;
        };
        let Some((path, rest)) = rest.split_once('<').and_then(|(_, rest)| rest.split_once('>')) else {
            continue;
        };
        let path = String::from_utf8(bytes_of(path)).unwrap();
        let file = path.rsplit('/').next().unwrap().to_owned();
        if !file.starts_with("ledger.") || file.ends_with("-shm") || rest.contains("= -1") {
            continue;
        }
        let number = |text: &str| text.trim().split([')', ' ']).next().unwrap().parse::<usize>().unwrap();
        let last = || number(rest.split(')').next().unwrap().rsplit(',').next().unwrap());
        let place = places.entry(file.clone()).or_default();
        let event = match name {
            // SQLite goes to a place and writes there.
            "lseek" => {
                *place = number(rest.rsplit('=').next().unwrap());
                continue;
            }
            "write" | "pwrite64" => {
                assert!(!rest.contains("\"..."), "a write was cut short in the trace");
                let (bytes, mut at) = (bytes_of(rest.split('"').nth(1).unwrap()), *place);
                match name {
                    "write" => *place += bytes.len(),
                    _ => at = last(),
                }
                Event::Write { at, bytes }
            }
            "ftruncate" => Event::Cut { len: last() },
            _ => Event::Sync,
        };
        events.push((time, file, event));
    }
    events
}

/// A file: as it was synced, and what came since.
#[derive(Debug, Default, Clone)]
struct Image {
    synced: Vec<u8>,
    since: Vec<usize>,
}

fn apply(bytes: &mut Vec<u8>, event: &Event, torn: Option<usize>) {
    match event {
        Event::Write { at, bytes: new } => {
            let new = &new[..torn.unwrap_or(new.len()).min(new.len())];
            if bytes.len() < at + new.len() {
                bytes.resize(at + new.len(), 0);
            }
            bytes[*at..at + new.len()].copy_from_slice(new);
        }
        Event::Cut { len } => bytes.resize(*len, 0),
        Event::Sync => {}
    }
}

/// The state directory as a disk may hold it just before event `cut`.
fn image(base: &Path, events: &[(f64, String, Event)], cut: usize, seed: &mut u64) -> tempfile::TempDir {
    let dir = tempfile::TempDir::new().unwrap();
    let mut files: BTreeMap<String, Image> = BTreeMap::new();
    for entry in std::fs::read_dir(base).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_file() && !name.ends_with("-shm") && name != "lock" {
            let synced = std::fs::read(entry.path()).unwrap();
            files.insert(
                name,
                Image {
                    synced,
                    since: Vec::new(),
                },
            );
        }
    }
    for (number, (_, name, event)) in events[..cut].iter().enumerate() {
        let file = files.entry(name.clone()).or_default();
        match event {
            Event::Sync => {
                for since in std::mem::take(&mut file.since) {
                    apply(&mut file.synced, &events[since].2, None);
                }
            }
            _ => file.since.push(number),
        }
    }
    for (name, mut file) in files {
        let keep = random(seed) % 3;
        for since in std::mem::take(&mut file.since) {
            // None of it, all of it, or by chance, perhaps torn.
            let torn = (random(seed).is_multiple_of(8)).then(|| usize::try_from(random(seed) % 8).unwrap() * 512);
            match keep {
                0 => {}
                1 => apply(&mut file.synced, &events[since].2, None),
                _ if random(seed).is_multiple_of(2) => apply(&mut file.synced, &events[since].2, torn),
                _ => {}
            }
        }
        std::fs::write(dir.path().join(name), file.synced).unwrap();
    }
    dir
}

#[test]
fn whatever_the_disk_had_not_synced_when_the_power_goes_acknowledged_labels_are_there() {
    if !tracer::works() {
        return skipped("a power cut: strace is missing or may not trace");
    }
    let site = site();
    let gateway = site.start().ready();
    predict(&gateway);
    let trace = tempfile::TempDir::new().unwrap();
    let calls = "trace=lseek,write,pwrite64,ftruncate,fsync,fdatasync";
    let args = ["-ttt", "-y", "-xx", "-s", "70000", "-e", calls];
    let tracer = Tracer::attach(&gateway, &trace.path().join("trace"), &args);
    // Nothing is written while nothing is asked.
    let base = trace.path().join("base");
    std::fs::create_dir(&base).unwrap();
    for entry in std::fs::read_dir(site.state()).unwrap().flatten() {
        if entry.path().is_file() {
            std::fs::copy(entry.path(), base.join(entry.file_name())).unwrap();
        }
    }
    let (writers, each) = if is_long() { (4, 400) } else { (2, 12) };
    let acknowledged: Mutex<Vec<(f64, String)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..writers {
            scope.spawn(|| {
                for _ in 0..each {
                    let id = predict(&gateway);
                    if label(&gateway, &id, 1).2 == "accepted" {
                        acknowledged.lock().unwrap().push((now(), id));
                    }
                }
            });
        }
    });
    gateway.kill();
    tracer.end();
    let events = parse(&std::fs::read_to_string(trace.path().join("trace")).unwrap());
    let acknowledged = acknowledged.into_inner().unwrap();
    assert!(
        events.len() > acknowledged.len() && acknowledged.len() >= each,
        "{} events",
        events.len()
    );
    let key = IdKey::load(&base.join("ids.key")).unwrap();
    let (cuts, mut seed) = (if is_long() { 1_000 } else { 16 }, 20_261_126_u64);
    let (mut lost, mut checked) = (0, 0);
    for k in 0..cuts {
        // Every event has its turn; the last cut is the end.
        let cut = events.len() * (k + 1) / cuts;
        let power = events.get(cut).map_or(f64::INFINITY, |(time, ..)| *time);
        let began = seed;
        let dir = image(&base, &events, cut, &mut seed);
        let ledger = Ledger::open(dir.path()).unwrap();
        let reader = ledger.reader();
        for (at, id) in &acknowledged {
            if *at < power {
                checked += 1;
                let number = key.parse(id).unwrap().number;
                if reader.label(number).unwrap().is_none_or(|label| label.label != "1") {
                    eprintln!("cut {cut} of {}, seed {began}: {id} is lost", events.len());
                    lost += 1;
                }
            }
        }
        let (_, damage) = ledger.damage().found();
        let false_alarm = damage.iter().filter(|what| !what.starts_with("ledger.mark"));
        for what in false_alarm {
            eprintln!("cut {cut} of {}, seed {began}: {what}", events.len());
            lost += 1;
        }
    }
    assert!(checked > cuts, "hardly anything was acknowledged");
    told("a power cut that drops and tears unsynced writes", cuts, checked, lost);
}

/// Shifts the system's clock, and no other, by as many seconds as a file says at each reading. It takes no memory: the
/// program's allocator is its own, and asks for the time before it is ready.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *time) {
    int done = syscall(SYS_clock_gettime, clock, time);
    if (done == 0 && clock == CLOCK_REALTIME) {
        char text[32] = {0};
        int file = open(SHIFT, O_RDONLY);
        if (file >= 0) {
            if (read(file, text, sizeof text - 1) > 0) time->tv_sec += atoll(text);
            close(file);
        }
    }
    return done;
}
"#;

/// The library that gives a process another clock, which reads `shift`.
fn other_clock(folder: &Path, shift: &Path) -> PathBuf {
    let (source, library) = (folder.join("shim.c"), folder.join("shim.so"));
    std::fs::write(&source, SHIM).unwrap();
    let define = format!("-DSHIFT=\"{}\"", shift.display());
    let mut compile = std::process::Command::new("cc");
    compile
        .args(["-shared", "-fPIC", "-O1", &define, "-o"])
        .arg(&library)
        .arg(&source);
    assert!(
        compile.status().unwrap().success(),
        "the C compiler that the build needs"
    );
    library
}

#[test]
fn a_clock_that_jumps_between_and_during_runs_loses_no_label_and_issues_no_id_twice() {
    let site = site();
    let program = site.models().join("../late");
    let offset = site.models().join("../offset");
    let library = other_clock(site.models().parent().unwrap(), &offset);
    let script = format!(
        "#!/bin/sh\nLD_PRELOAD='{}' exec '{}' \"$@\"\n",
        library.display(),
        env!("CARGO_BIN_EXE_dethrone")
    );
    std::fs::write(&program, script).unwrap();
    assert!(
        std::process::Command::new("chmod")
            .arg("+x")
            .arg(&program)
            .status()
            .unwrap()
            .success()
    );
    let mut acknowledged: Vec<(String, u8)> = Vec::new();
    let runs = if is_long() { 40 } else { 4 };
    const DAY: i64 = 86_400;
    let jumps = [0, -DAY, DAY, -400 * DAY, 3 * 3_600, 20 * DAY, -20 * DAY];
    for run in 0..runs {
        std::fs::write(&offset, jumps[run % jumps.len()].to_string()).unwrap();
        let gateway = site.start_program(&program).ready();
        for k in 0..6 {
            if k == 3 {
                std::fs::write(&offset, jumps[(run + 3) % jumps.len()].to_string()).unwrap();
            }
            let id = predict(&gateway);
            let (status, _, became) = label(&gateway, &id, 1);
            assert_eq!((status, became.as_str()), (200, "accepted"), "run {run}, label {k}");
            acknowledged.push((id, 1));
        }
        gateway.kill();
    }
    let mut ids: Vec<&String> = acknowledged.iter().map(|(id, _)| id).collect();
    let in_order = ids.is_sorted();
    ids.sort();
    ids.dedup();
    assert!(
        in_order && ids.len() == acknowledged.len(),
        "an id was issued twice, or out of order"
    );
    let gateway = site.start().ready();
    let missing = super::lost(&gateway, &acknowledged);
    told("jumps of the clock by hours and days", runs, runs * 2, missing);
}
