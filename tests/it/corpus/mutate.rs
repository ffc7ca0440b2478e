//! Mutated files of the corpus: whatever the bytes, the scan gives an answer, within the memory of the file; and what it
//! lets through ends within its limits in a runner, and costs this process nothing.
//!
//! `DETHRONE_MUTATIONS` says how many files the scan gets, 20,000 where it is not set; of those that it lets through a
//! thousandth as many are run. `DETHRONE_MUTATION_SEED` starts another series. For hours of it:
//! `DETHRONE_MUTATIONS=50000000 DETHRONE_MUTATION_SEED=2 cargo test --locked --test it mutate`

use std::time::{Duration, Instant};

use dethrone::admission::probe::{ProbeSettings, probe};
use dethrone::arena::Spawner;
use dethrone::arena::sandbox::RunnerLimits;
use dethrone::model::onnx;

use super::table;

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    #[expect(clippy::cast_possible_truncation, reason = "below a length")]
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name} must be a number"))
    })
}

/// The corpus' files as bytes, but for those whose size is their point.
fn seeds() -> Vec<Vec<u8>> {
    let root = tempfile::tempdir().unwrap();
    super::lay_out(root.path());
    super::put_all(&table::all(), root.path());
    let model = root.path().join("models").join(super::MODEL);
    let mut names: Vec<_> = std::fs::read_dir(model)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    let is_small_file = |path: &std::path::PathBuf| {
        let about = std::fs::symlink_metadata(path).unwrap();
        about.is_file() && about.len() < 64 << 10 && path.extension().is_some_and(|e| e == "onnx")
    };
    names
        .iter()
        .filter(|path| is_small_file(path))
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

/// One to four changes of the kinds that break readers.
fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(8) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            #[expect(clippy::cast_possible_truncation, reason = "any byte")]
            1 if !bytes.is_empty() => bytes[at] = random.next() as u8,
            2 => bytes.truncate(at),
            // A large number, a negative one, or a claim of much more than there is.
            3 => {
                let number: &[u8] = match random.below(3) {
                    0 => &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
                    1 => &[0x80, 0x80, 0x80, 0x80, 0x80, 0x20],
                    _ => &[0xff, 0x7f],
                };
                bytes.splice(at..(at + 1).min(bytes.len()), number.iter().copied());
            }
            // A piece once more, of this file or another.
            4 => {
                let end = (at + random.below(64)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, piece);
            }
            5 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                let end = (from + random.below(256)).min(other.len());
                bytes.splice(at..at, other[from..end].iter().copied());
            }
            6 => drop(bytes.drain(at..(at + random.below(16)).min(bytes.len()))),
            // A name changed within its length: another operator, another value.
            _ => {
                const NAMES: [&[u8]; 8] = [b"Div", b"Mod", b"Loop", b"score", b"x", b"w", b"Cast", b"Tile"];
                let name = NAMES[random.below(NAMES.len())];
                let end = (at + name.len()).min(bytes.len());
                bytes.splice(at..end, name.iter().copied());
            }
        }
    }
    bytes
}

/// Peak of this process' address space that is in memory, bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().unwrap();
    kib << 10
}

/// Runs in a process of its own (the next test), for its memory is measured.
#[test]
#[ignore = "is run by the test after it"]
fn mutated_files_alone() {
    let (seeds, mut random) = (seeds(), Random(setting("DETHRONE_MUTATION_SEED", 1)));
    for seed in &seeds {
        let _ = (onnx::scan(seed), onnx::cut_zipmap(seed), onnx::weights(seed));
    }
    let before = peak();
    let mut passed = 0u64;
    for _ in 0..setting("DETHRONE_MUTATIONS", 20_000) {
        let bytes = mutate(&mut random, &seeds);
        let _ = (onnx::cut_zipmap(&bytes), onnx::weights(&bytes));
        match onnx::scan(&bytes) {
            Ok(_) => passed += 1,
            Err(why) => assert!(why.0.len() < 2_000 && !why.0.chars().any(char::is_control), "{why:?}"),
        }
    }
    // The kernel adds its counts up now and then only: the later peak may be shown as the lower one.
    let grown = peak().saturating_sub(before);
    assert!(grown < 64 << 20, "the scan of small files took {grown} bytes");
    assert!(passed > 0);
}

#[test]
fn whatever_the_bytes_the_scan_gives_an_answer_and_takes_no_memory_by_claim() {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "corpus::mutate::mutated_files_alone"])
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn what_the_scan_lets_through_ends_within_its_limits_in_a_runner() {
    let spawner = Spawner::start(std::path::PathBuf::from(env!("CARGO_BIN_EXE_dethrone")));
    let (cpu, wall) = (Duration::from_millis(500), Duration::from_secs(30));
    let settings = ProbeSettings {
        limits: RunnerLimits {
            address_space_bytes: Some(4 << 30),
            ..RunnerLimits::default()
        },
        load_cpu_limit: cpu * 4,
        run_cpu_limit: cpu,
        wall_limit: wall,
        ..ProbeSettings::default()
    };
    let (seeds, mut random) = (seeds(), Random(setting("DETHRONE_MUTATION_SEED", 1) ^ 0x5eed));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let wanted = setting("DETHRONE_MUTATIONS", 20_000).div_ceil(1_000);
    let (mut ran, mut accepted) = (0, 0);
    let started = Instant::now();
    while ran
        < wanted.min(if std::env::var_os("DETHRONE_MUTATIONS").is_some() {
            u64::MAX
        } else {
            24
        })
    {
        let bytes = mutate(&mut random, &seeds);
        let Ok(scan) = onnx::scan(&bytes) else { continue };
        if !scan.external.is_empty() {
            continue;
        }
        std::fs::write(&path, &bytes).unwrap();
        ran += 1;
        match probe(&spawner, &path, &settings) {
            Ok(_) => accepted += 1,
            // One sentence, whatever happened to the runner.
            Err(why) => {
                let keep = || std::fs::write(std::env::temp_dir().join("dethrone-mutant.onnx"), &bytes);
                if why.is_empty() || why.contains('\n') || why.contains("broke the runner") {
                    keep().unwrap();
                    panic!("{why}");
                }
            }
        }
    }
    assert!(accepted > 0, "{ran} ran");
    // Each had at most its load and a bounded number of runs.
    let most = wall * 2 * u32::try_from(ran).unwrap();
    assert!(started.elapsed() < most);
}
