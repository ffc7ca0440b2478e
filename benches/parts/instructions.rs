//! Instructions per call, by callgrind.
//!
//! This program runs itself under valgrind once; each part is repeated by a function of its own, whose inclusive cost
//! callgrind knows by name.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::rig::{Part, Rig};

const TIMES: u64 = 500;
/// Calls before the counted ones, so that what is made once is not counted.
const BEFORE: u64 = 20;

/// One function per part: callgrind tells functions apart, not closures in a list.
macro_rules! counted {
    ($($name:ident),*) => {
        $(
            #[inline(never)]
            fn $name(part: &mut Part<'_>) {
                (0..TIMES).for_each(|_| part());
            }
        )*
        const COUNTED: &[(&str, fn(&mut Part<'_>))] = &[$((stringify!($name), $name)),*];
    };
}
counted!(framing, decode, decode_named, slot_load, run, id, offer, encode, judge);

/// What valgrind watches.
pub(crate) fn repeat(dir: &Path) {
    let rig = Rig::start_in(dir);
    for (name, mut part) in rig.parts() {
        (0..BEFORE).for_each(|_| part());
        let (_, repeat) = COUNTED.iter().find(|(known, _)| *known == name).unwrap();
        repeat(&mut part);
    }
}

/// Prints a line per part: name and instructions, and the change since `against`.
pub(crate) fn print(against: Option<&Path>) {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("valgrind is not installed: no instructions are counted");
        return;
    }
    let before = against.map(|file| read(&std::fs::read_to_string(file).unwrap()));
    let dir = tempfile::tempdir().unwrap();
    // The model is admitted here, at full speed.
    drop(Rig::start_in(dir.path()));
    let profile = dir.path().join("profile");
    let ran = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--fair-sched=yes"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(std::env::current_exe().unwrap())
        .arg("--counted")
        .arg(dir.path())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let costs = Command::new("callgrind_annotate")
        .args(["--inclusive=yes", "--threshold=100", "--auto=no"])
        .arg(&profile)
        .output()
        .unwrap();
    let costs = String::from_utf8_lossy(&costs.stdout).into_owned();
    for (name, _) in COUNTED {
        let function = format!("::instructions::{name} [");
        let line = costs.lines().find(|line| line.contains(&function));
        let cost = line.and_then(|line| {
            line.trim_start()
                .split(' ')
                .next()?
                .replace(',', "")
                .parse::<u64>()
                .ok()
        });
        let cost = cost.unwrap() / TIMES;
        match before.as_ref().and_then(|before| before.get(*name)) {
            Some(old) => {
                let change = 100.0 * (cost as f64 / *old as f64 - 1.0);
                println!("{name} {cost} ({change:+.1} %)");
            }
            None => println!("{name} {cost}"),
        }
    }
}

fn read(text: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let mut words = line.split(' ');
        Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}
