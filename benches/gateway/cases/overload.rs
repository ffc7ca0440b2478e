//! More requests than can be answered, at random times and with a deadline: what is answered in time against what could
//! be, how soon the rest is refused, and how soon all is as before.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::super::Fallible;
use super::super::body::{Form, requests};
use super::super::client::Connection;
use super::super::load::{self, Load, Pace};
use super::super::models;
use super::super::numbers::{Random, quantile};
use super::super::report::{Report, Verdict};
use super::super::server::{self, Server};
use super::super::settings::Settings;

const DEADLINE: Duration = Duration::from_millis(250);
/// Requests that can be on their way at once: more than wait and run within the deadline.
const CONNECTIONS: usize = 192;
/// Requests that must be well one after the other for all to be as before.
const WELL: usize = 5;

/// What one load came to.
#[derive(Default)]
struct Came {
    /// Nanoseconds from when each was meant to be sent.
    in_time: Vec<u32>,
    late: u64,
    /// Nanoseconds from when each was sent: a refusal should take no time.
    refused: Vec<u32>,
    took: Duration,
}

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Fallible<()> {
    let dir = tempfile::tempdir()?;
    models::lay_down(dir.path(), &["slow"], 1, "")?;
    let plain = requests("slow", Form::Lists, 1);
    let gateway = server::gateway("gateway", &settings.gateway, dir.path(), None, &plain[..1])?;
    let time = settings.slice * if settings.quick { 10 } else { 20 };
    let load = Load {
        requests: &plain,
        pace: Pace::Closed(8),
        time,
        check: None,
        held: None,
    };
    let full = load::closed(gateway.data, 8, &load)?;
    let capacity = full.per_second();
    report.note(&format!(
        "overload: capacity {capacity:.0}/s over 8 connections, p50 {:.1} ms",
        full.quantile(0.5) / 1e3
    ));
    let hurried: Vec<Vec<u8>> = plain.iter().map(|request| hurry(request)).collect();
    for (times, goal) in [(1.0, 0.0), (2.0, 0.9), (3.0, 0.9), (10.0, 0.7)] {
        let came = flood(&gateway, capacity * times, &hurried, time)?;
        let recovery = recovered(&gateway, &plain[0], full.quantile(0.5))?;
        let goodput = came.in_time.len() as f64 / came.took.as_secs_f64() / capacity;
        let ms = |latencies: &[u32]| quantile(latencies, 0.99) / 1e6;
        let measured = format!(
            "goodput {goodput:.2} of capacity, answers p99 {:.0} ms, {} refused with p99 {:.1} ms, {} late, as before after {} ms",
            ms(&came.in_time),
            came.refused.len(),
            ms(&came.refused),
            came.late,
            recovery.as_millis()
        );
        let is_well = goodput >= goal
            && (came.refused.is_empty() || ms(&came.refused) <= 5.0)
            && recovery <= Duration::from_secs(2);
        let target = format!(
            "goodput ≥ {goal}, answers within {} ms, refusals ≤ 5 ms, as before ≤ 2 s",
            DEADLINE.as_millis()
        );
        report.figure(
            &format!("overload {times} ×"),
            &measured,
            &target,
            Verdict::from(is_well),
        );
    }
    Ok(())
}

/// The same request with the deadline.
fn hurry(request: &[u8]) -> Vec<u8> {
    let line = request.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let (line, rest) = request.split_at(line);
    let header = format!("x-dethrone-timeout-ms: {}\r\n", DEADLINE.as_millis());
    [line, header.as_bytes(), rest].concat()
}

/// An open loop at this rate.
fn flood(gateway: &Server, rate: f64, requests: &[Vec<u8>], time: Duration) -> Fallible<Came> {
    let mut random = Random::new(11);
    let (mut due, mut at) = (Vec::new(), 0.0);
    while at < time.as_secs_f64() {
        due.push(Duration::from_secs_f64(at));
        at -= f64::from(1.0 - random.unit()).ln() / rate;
    }
    let next = AtomicUsize::new(0);
    let connections: Vec<Connection> = (0..CONNECTIONS)
        .map(|_| Connection::open(gateway.data))
        .collect::<Fallible<_>>()?;
    let begun = Instant::now() + Duration::from_millis(20);
    let sender = |mut connection: Connection| -> Fallible<Came> {
        let mut came = Came::default();
        while let Some(due) = due.get(next.fetch_add(1, Ordering::Relaxed)) {
            let meant = begun + *due;
            std::thread::sleep(meant.saturating_duration_since(Instant::now()));
            let sent = Instant::now();
            let (status, body) = connection.ask(&requests[0])?;
            let nanos = |time: Duration| u32::try_from(time.as_nanos()).unwrap_or(u32::MAX);
            match status {
                200 if meant.elapsed() <= DEADLINE => came.in_time.push(nanos(meant.elapsed())),
                200 | 504 => came.late += 1,
                429 => came.refused.push(nanos(sent.elapsed())),
                other => return Err(format!("{other}: {}", String::from_utf8_lossy(&body)).into()),
            }
        }
        Ok(came)
    };
    let parts: Vec<Fallible<Came>> = std::thread::scope(|scope| {
        let senders: Vec<_> = connections
            .into_iter()
            .map(|connection| scope.spawn(|| sender(connection)))
            .collect();
        senders
            .into_iter()
            .map(|sender| sender.join().map_err(|_| "a sender panicked")?)
            .collect()
    });
    let mut all = Came {
        took: begun.elapsed(),
        ..Came::default()
    };
    for part in parts {
        let part = part?;
        all.in_time.extend(part.in_time);
        all.refused.extend(part.refused);
        all.late += part.late;
    }
    all.in_time.sort_unstable();
    all.refused.sort_unstable();
    Ok(all)
}

/// How long it takes until requests, one after the other, are answered as on a quiet gateway (`p50` in microseconds is that
/// of a full one).
fn recovered(gateway: &Server, request: &[u8], p50: f64) -> Fallible<Duration> {
    let begun = Instant::now();
    let mut connection = Connection::open(gateway.data)?;
    let mut well = 0;
    while well < WELL && begun.elapsed() < Duration::from_secs(30) {
        let sent = Instant::now();
        let (status, _) = connection.ask(request)?;
        let is_well = status == 200 && sent.elapsed().as_secs_f64() * 1e6 <= p50 * 2.0;
        well = if is_well { well + 1 } else { 0 };
    }
    Ok(begun.elapsed())
}
