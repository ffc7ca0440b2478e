//! A thousand swaps under load: seconds with swaps against seconds without, in turns, every answer checked.

use std::time::{Duration, Instant};

use super::super::Fallible;
use super::super::body::{self, Form, requests};
use super::super::client::{self, Connection};
use super::super::duel::{Side, one};
use super::super::load::{Load, Pace};
use super::super::report::{Report, Verdict, at_most};
use super::super::server::{self, Server};
use super::super::settings::Settings;

/// All swaps of a full run; a quick one has a tenth.
const SWAPS: usize = 1_000;
const RATE: u32 = 2_000;

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Fallible<()> {
    let (gateway, _models) = server::fresh_gateway("gateway", settings, 2)?;
    gateway.wait_for_challengers("logreg", 1)?;
    let requests = &requests("logreg", Form::Lists, 1)[..1];
    // What each version says to this one body; an answer of one in the other's name is mixed.
    let known = [
        pinned(&gateway, &requests[0], "v1")?,
        pinned(&gateway, &requests[0], "v2")?,
    ];
    if known[0].1 == known[1].1 {
        return Err("the two versions agree: no mixture would show".into());
    }
    let check = |answer: &[u8]| said(answer).is_some_and(|said| known.contains(&said));
    let load = Load {
        requests,
        pace: Pace::Open(RATE),
        time: settings.slice.max(Duration::from_secs(1)),
        check: Some(&check),
        held: None,
    };
    let wanted = if settings.quick { SWAPS / 10 } else { SWAPS };
    let per_turn = wanted.div_ceil(settings.pairs);
    let (mut with, mut without, mut swapped) = (Side::default(), Side::default(), 0);
    one(&gateway, &load, 0)?;
    for turn in 0..settings.pairs {
        for is_swapping in [turn % 2 == 0, turn % 2 == 1] {
            let seed = turn as u64 + 1;
            if is_swapping {
                let (measured, swaps) = std::thread::scope(|scope| {
                    let swaps = scope.spawn(|| swap(&gateway, swapped, per_turn, load.time));
                    let measured = one(&gateway, &load, seed);
                    (measured, swaps.join().map_err(|_| "the swapping thread panicked"))
                });
                swapped += swaps??;
                let (outcome, slice) = measured?;
                with.take(outcome, slice);
            } else {
                let (outcome, slice) = one(&gateway, &load, seed)?;
                without.take(outcome, slice);
            }
        }
    }
    with.latencies.sort_unstable();
    without.latencies.sort_unstable();
    let ratio = with.ratio(&without, |s| s.p99);
    let lost = gateway.metric("dethrone_requests_dropped_by_swap_total")?;
    report.case(
        "swaps",
        &format!("{per_turn} swaps per second, {RATE}/s"),
        &[("with swaps", with), ("without", without)],
    );
    // A failed or mixed answer would have ended the run.
    let measured = format!("{swapped} swaps, 0 failed, 0 mixed, {lost:.0} dropped by a swap, {ratio} × p99");
    let verdict = if lost > 0.0 {
        Verdict::Missed
    } else {
        at_most(ratio, 1.10)
    };
    report.figure("swaps", &measured, "0 failed, 0 mixed, p99 ≤ 1.10 ×", verdict);
    Ok(())
}

/// Promotes one version and the other, evenly over the time.
fn swap(gateway: &Server, before: usize, swaps: usize, time: Duration) -> Fallible<usize> {
    let admin = gateway.admin.ok_or("no admin listener")?;
    let mut connection = Connection::open(admin)?;
    let begun = Instant::now();
    for k in 0..swaps {
        let due = time.mul_f64(k as f64 / swaps as f64);
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
        // The first swap makes v2 the champion.
        let version = if (before + k).is_multiple_of(2) { "v2" } else { "v1" };
        let order = format!("{{\"version\":\"{version}\",\"author\":\"bench\",\"reason\":\"a swap under load\"}}");
        client::post(&mut connection, admin, "/api/models/logreg/promote", &order)?;
    }
    Ok(swaps)
}

/// What this version says, by name and score as written.
fn pinned(gateway: &Server, request: &[u8], version: &str) -> Fallible<(String, String)> {
    let text = String::from_utf8(request.to_vec())?;
    let (_, instances) = text.split_once("\r\n\r\n").ok_or("a request has a body")?;
    let rest = instances.strip_prefix('{').ok_or("a body is an object")?;
    let body = format!("{{\"version\":\"{version}\",{rest}");
    let request = body::http("localhost", "/models/logreg/predict", &body);
    let (_, answer) = Connection::open(gateway.data)?.ask(&request)?;
    said(&answer).ok_or_else(|| String::from_utf8_lossy(&answer).into())
}

/// Version and score of an answer, as written.
fn said(answer: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(answer).ok()?;
    let version = text.split_once("\"version\":\"")?.1.split_once('"')?.0;
    let score = text.split_once("\"score\":")?.1.split([',', '}']).next()?;
    Some((version.to_owned(), score.to_owned()))
}
