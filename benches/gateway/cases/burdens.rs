//! What the champion's clients notice of files that are a burden: while they are shadowed, and while they are looked at.

use std::path::Path;
use std::time::{Duration, Instant};

use super::super::Fallible;
use super::super::body::{Form, requests};
use super::super::duel::{Side, one};
use super::super::hostile::{self, Burden};
use super::super::load::{Load, Pace};
use super::super::numbers::Interval;
use super::super::report::{Report, at_most};
use super::super::server::{self, Server};
use super::super::settings::Settings;

const RATE: u32 = 2_000;
/// Longest wait until every file is decided: at idle priority, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);
/// A tenth of the rows keeps a challenger busy that takes ten milliseconds for each.
const SETTINGS: &str = "[shadow]\nsample = 0.1\nmax_challengers = 8\n";
/// A machine that does other work too is to be spared.
const BOUNDS: [&str; 4] = ["--runner-cpu-timeout", "300ms", "--runner-memory-bytes", "1GiB"];

/// Slow, greedy, crashing and endless challengers against none: two gateways in turns. Those that crash or never end are
/// quarantined within seconds, so that each turn has new ones.
pub(crate) fn shadowed(settings: &Settings, report: &mut Report) -> Fallible<()> {
    let (burdened, models) = server::fresh_gateway_set("burdened", settings, 1, SETTINGS, &BOUNDS)?;
    let (alone, _more) = server::fresh_gateway_set("none", settings, 1, SETTINGS, &BOUNDS)?;
    let drop = |name: &str, burden, seed| put(models.path(), name, &hostile::challenger(burden, seed));
    // `DETHRONE_BENCH_BURDENS=slow,crashing` looks for the one that costs.
    let wanted = std::env::var("DETHRONE_BENCH_BURDENS").unwrap_or_else(|_| "slow,greedy,crashing,endless".into());
    let has = |kind: &str| wanted.split(',').any(|known| known == kind);
    let steady: Vec<_> = [("slow", Burden::Slow), ("greedy", Burden::Greedy)]
        .into_iter()
        .filter(|(kind, _)| has(kind))
        .collect();
    let passing: Vec<_> = [("crashing", Burden::Crashing, 100), ("endless", Burden::Endless, 200)]
        .into_iter()
        .filter(|(kind, ..)| has(kind))
        .collect();
    for (seed, (kind, burden)) in steady.iter().enumerate() {
        drop(kind, *burden, seed as u64 + 1)?;
    }
    burdened.wait_for_challengers("logreg", steady.len())?;
    let requests = requests("logreg", Form::Lists, 1);
    let load = load(&requests, settings);
    let (mut with, mut without) = (Side::default(), Side::default());
    one(&alone, &load, 0)?;
    one(&burdened, &load, 0)?;
    for turn in 0..settings.pairs {
        let seed = turn as u64 + 1;
        for is_burdened in [turn % 2 == 0, turn % 2 == 1] {
            if is_burdened {
                for (kind, burden, first) in &passing {
                    drop(&format!("{kind}{turn}"), *burden, first + seed)?;
                }
                let (outcome, slice) = one(&burdened, &load, seed)?;
                with.take(outcome, slice);
                decided(&burdened, 1 + steady.len() + passing.len() * (turn + 1))?;
            } else {
                let (outcome, slice) = one(&alone, &load, seed)?;
                without.take(outcome, slice);
            }
        }
    }
    let roles = roles(&burdened)?;
    let count = |role: &str| roles.iter().filter(|known| *known == role).count();
    let quarantined = count("quarantined");
    if quarantined == 0 && !passing.is_empty() {
        return Err(format!("nobody was quarantined: {roles:?}").into());
    }
    let measured = format!(
        "{} × p99, {} × p50, 0 failed; {quarantined} quarantined, {:.0} restarts, {:.0} shadow rows scored, {:.0} shed",
        with.ratio(&without, |s| s.p99),
        with.ratio(&without, |s| s.p50),
        burdened.metric("dethrone_runner_restarts_total")?,
        burdened.metric("dethrone_shadow_executed_total")?,
        burdened.metric("dethrone_shadow_dropped_total")?,
    );
    let verdict = at_most(with.ratio(&without, |s| s.p99), 1.05);
    finish(report, "burdens", [("burdened", with), ("none", without)]);
    report.figure("burdens", &measured, "p99 ≤ 1.05 ×, 0 failed", verdict);
    Ok(())
}

/// Files that are looked at and refused against none: one gateway in turns.
pub(crate) fn vetted(settings: &Settings, report: &mut Report) -> Fallible<()> {
    let (gateway, models) = server::fresh_gateway_set("gateway", settings, 1, SETTINGS, &BOUNDS)?;
    let requests = requests("logreg", Form::Lists, 1);
    let load = load(&requests, settings);
    let (mut with, mut without, mut took) = (Side::default(), Side::default(), Vec::new());
    one(&gateway, &load, 0)?;
    for turn in 0..settings.pairs {
        let seed = turn as u64 + 1;
        for is_vetting in [turn % 2 == 0, turn % 2 == 1] {
            if is_vetting {
                let begun = Instant::now();
                for (kind, bytes) in hostile::refused(seed) {
                    put(models.path(), &format!("{kind}{turn}"), &bytes)?;
                }
                let (outcome, slice) = one(&gateway, &load, seed)?;
                with.take(outcome, slice);
                decided(&gateway, 1 + hostile::refused(seed).len() * (turn + 1))?;
                took.push(begun.elapsed().as_secs_f64());
            } else {
                let (outcome, slice) = one(&gateway, &load, seed)?;
                without.take(outcome, slice);
            }
        }
    }
    let roles = roles(&gateway)?;
    let refused = roles.iter().filter(|role| *role == "rejected").count();
    let wanted = settings.pairs * hostile::refused(1).len();
    if refused != wanted {
        return Err(format!("{refused} of {wanted} files were refused: {roles:?}").into());
    }
    let measured = format!(
        "{} × p99, {} × p50, 0 failed; {refused} files refused, {} s for those of a turn, of which {:.1} s were measured",
        with.ratio(&without, |s| s.p99),
        with.ratio(&without, |s| s.p50),
        Interval::of(&took),
        load.time.as_secs_f64(),
    );
    let verdict = at_most(with.ratio(&without, |s| s.p99), 1.10);
    finish(report, "vetting", [("while files are vetted", with), ("none", without)]);
    report.figure("vetting", &measured, "p99 ≤ 1.10 ×, 0 failed", verdict);
    Ok(())
}

fn load<'a>(requests: &'a [Vec<u8>], settings: &Settings) -> Load<'a> {
    Load {
        requests,
        pace: Pace::Open(RATE),
        time: settings.slice,
        check: None,
        held: None,
    }
}

/// A failed or wrong answer would have ended the run before.
fn finish(report: &mut Report, name: &str, mut sides: [(&'static str, Side); 2]) {
    for (_, side) in &mut sides {
        side.latencies.sort_unstable();
    }
    report.case(name, &format!("{RATE}/s"), &sides);
}

/// A file is there at once and as a whole.
fn put(models: &Path, version: &str, bytes: &[u8]) -> Fallible<()> {
    let dir = models.join("logreg");
    let part = dir.join(format!(".{version}.part"));
    std::fs::write(&part, bytes)?;
    std::fs::rename(part, dir.join(format!("{version}.onnx")))?;
    Ok(())
}

/// Waits until all of so many files have been decided on.
fn decided(server: &Server, files: usize) -> Fallible<()> {
    let begun = Instant::now();
    loop {
        let view = server.model("logreg")?;
        let versions = view["versions"].as_array().map_or(&[][..], Vec::as_slice);
        let is_open = |version: &&serde_json::Value| version["role"] == "candidate" && version["reason"].is_null();
        let open: Vec<String> = versions
            .iter()
            .filter(is_open)
            .map(|v| v["version"].to_string())
            .collect();
        if open.is_empty() && versions.len() >= files {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("nothing became of {open:?}").into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn roles(server: &Server) -> Fallible<Vec<String>> {
    let view = server.model("logreg")?;
    let versions = view["versions"].as_array().map_or(&[][..], Vec::as_slice);
    Ok(versions
        .iter()
        .filter_map(|v| Some(v["role"].as_str()?.to_owned()))
        .collect())
}
