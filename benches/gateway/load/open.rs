//! The open loop: requests at random times, whether or not the earlier ones are answered.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::super::Fallible;
use super::super::client::Connection;
use super::super::numbers::Random;
use super::{Load, Outcome};

/// Requests that can be on their way at once; beyond, they wait, and their waiting counts.
const CONNECTIONS: usize = 16;

/// Sends `rate` requests per second at the times of a Poisson process.
pub(crate) fn open(address: SocketAddr, rate: u32, seed: u64, load: &Load<'_>) -> Fallible<Outcome> {
    let due = due(rate, seed, load.time);
    let next = AtomicUsize::new(0);
    let connections: Vec<Connection> = (0..CONNECTIONS)
        .map(|_| Connection::open(address))
        .collect::<Fallible<_>>()?;
    // Everyone is asleep by then.
    let begun = Instant::now() + Duration::from_millis(5);
    let parts: Vec<Fallible<Outcome>> = std::thread::scope(|scope| {
        let send = |connection| {
            let (due, next) = (&due, &next);
            scope.spawn(move || sender(connection, due, next, begun, load))
        };
        let senders: Vec<_> = connections.into_iter().map(send).collect();
        senders
            .into_iter()
            .map(|sender| sender.join().map_err(|_| "a sender panicked")?)
            .collect()
    });
    let mut all = Outcome {
        took: begun.elapsed(),
        ..Outcome::default()
    };
    for part in parts {
        let part = part?;
        all.answered += part.answered;
        all.refused += part.refused;
        all.failed += part.failed;
        all.wrong += part.wrong;
        all.latencies.extend(part.latencies);
    }
    all.latencies.sort_unstable();
    Ok(all)
}

fn due(rate: u32, seed: u64, time: Duration) -> Vec<Duration> {
    let mut random = Random::new(seed);
    let mut due = Vec::new();
    let mut at = 0.0;
    loop {
        at -= f64::from(1.0 - random.unit()).ln() / f64::from(rate);
        if at >= time.as_secs_f64() {
            return due;
        }
        due.push(Duration::from_secs_f64(at));
    }
}

fn sender(
    mut connection: Connection,
    due: &[Duration],
    next: &AtomicUsize,
    begun: Instant,
    load: &Load<'_>,
) -> Fallible<Outcome> {
    wake_in_time();
    let mut outcome = Outcome::default();
    loop {
        let at = next.fetch_add(1, Ordering::Relaxed);
        let Some(due) = due.get(at) else {
            return Ok(outcome);
        };
        let meant = begun + *due;
        std::thread::sleep(meant.saturating_duration_since(Instant::now()));
        let (status, body) = connection.ask(&load.requests[at % load.requests.len()])?;
        outcome.note(status, &body, meant.elapsed(), load.check);
    }
}

/// Linux lets a sleeping thread be 50 µs late, as much as what is measured here.
#[expect(unsafe_code, reason = "the standard library cannot ask for this")]
fn wake_in_time() {
    #[cfg(target_os = "linux")]
    // SAFETY: changes this thread's timer slack to a nanosecond, and touches no memory.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1u64);
    }
}
