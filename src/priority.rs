//! Threads that give way to those that serve requests.
//!
//! What looks at files, feeds challengers, counts and lets sessions go is nobody's answer: a request that wakes is not to
//! wait for it to finish its slice. Always holds: only the calling thread is concerned, and threads that it starts; runners
//! are started by a thread of their own, which `arena::spawner` gives their priority.
//!
//! To be nice is not enough. Linux lets whoever runs finish a slice of some 3 ms, whatever its weight, before it looks whether
//! somebody who woke is due: of the waits above a millisecond that requests had at 2,000 a second, most were for the
//! monitor, at nice 19, and while files arrived for control. So these threads ask for short slices (Linux 6.12 grants them; earlier ones take no notice).
//! They are not `SCHED_IDLE`: with locks of the allocator or a database in hand they would wait behind every challenger.
//!
//! Nor are short turns enough where a processor is never free. On two of them, one loop at idle priority made the 99th
//! percentile of requests twice as long: they queued behind each other on one processor while the loop had the other
//! (probably because Linux looks for a processor for who wakes only as long as they are not all busy, with whatever it is);
//! a loop that slept for three quarters of the time cost less. So who has much to do that nobody waits for rests in between, for as long as
//! [requests press](do_requests_press); runners do the same (`arena`).

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A tenth of a processor when requests want all of them.
const NICE: i32 = 10;
/// A seventieth.
const NICEST: i32 = 19;

/// Lets the calling thread give way from now on. Where that is not allowed, it does not.
pub fn give_way() {
    be_nice(NICE);
}

/// The same, and while requests press the thread rests after each [turn](offer_turn): nobody waits for its work that cannot
/// wait longer.
pub fn give_way_and_rest() {
    give_way();
    RESTS.set(true);
}

/// Lets it give way to those that give way, too: nobody waits for its work.
pub fn give_way_to_all() {
    be_nice(NICEST);
}

/// Lets it take short turns, as much of the processor as it takes otherwise: somebody waits for its work, but requests do
/// not wait for all of it.
pub fn take_short_turns() {
    be_nice(0);
}

/// Offers the processor to whoever is there: to be called every tenth of a millisecond or so by a thread with much to do.
/// Slices, too, end at the kernel's ticks only, every 4 ms. Costs less than a microsecond where nobody is there. A thread
/// that [rests](give_way_and_rest) does it here.
pub fn offer_turn() {
    if RESTS.get() && do_requests_press() {
        std::thread::sleep(REST);
    } else {
        std::thread::yield_now();
    }
}

/// Three times as long as a turn: a thread that rests so much leaves a processor free for three quarters of the time.
const REST: Duration = Duration::from_micros(300);
/// Requests press for so long after they were last seen to: others will follow.
const LATELY: Duration = Duration::from_millis(500);
/// Requests press where the process takes more than such a part of the processors to answer them. Where it takes less, they
/// seldom meet each other, and need no second processor.
const PRESSING: u32 = 16;

thread_local! {
    static RESTS: Cell<bool> = const { Cell::new(false) };
}

/// Milliseconds after the start until which requests press.
static PRESS_UNTIL: AtomicU64 = AtomicU64::new(0);

/// To be called, several times a second, by somebody who sees that requests have been answered for some time, of which the
/// process took so much of one processor.
pub fn requests_answered(time: Duration, taken: Duration) {
    static PROCESSORS: OnceLock<u32> = OnceLock::new();
    let processors = *PROCESSORS.get_or_init(|| {
        let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        u32::try_from(count).unwrap_or(u32::MAX)
    });
    if taken.saturating_mul(PRESSING) > time.saturating_mul(processors) {
        PRESS_UNTIL.store(now_ms().saturating_add(millis(LATELY)), Relaxed);
    }
}

/// Whether this process has lately had much to do with answering requests.
#[must_use]
pub fn do_requests_press() -> bool {
    now_ms() < PRESS_UNTIL.load(Relaxed)
}

fn now_ms() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    millis(START.get_or_init(Instant::now).elapsed())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn be_nice(by: i32) {
    if let Ok(nice) = rustix::process::nice(by) {
        short_slices(nice);
    }
}

/// The shortest that the kernel knows.
#[cfg(target_os = "linux")]
const SLICE_NS: u64 = 100_000;

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no crate at hand sets this attribute")]
fn short_slices(nice: i32) {
    // SAFETY: all zeros are a valid `sched_attr`.
    let mut wanted: libc::sched_attr = unsafe { std::mem::zeroed() };
    wanted.size = u32::try_from(size_of::<libc::sched_attr>()).unwrap_or_default();
    // Where an operator chose a real-time policy, which has no slices, the call fails and all is as it was.
    wanted.sched_flags = u64::try_from(libc::SCHED_FLAG_KEEP_POLICY).unwrap_or_default();
    wanted.sched_nice = nice;
    wanted.sched_runtime = SLICE_NS;
    let (this_thread, no_flags) = (0, 0);
    // SAFETY: `wanted` lives across the call, which only reads it and as much of it as it says; 0 is the calling thread.
    let _ = unsafe { libc::syscall(libc::SYS_sched_setattr, this_thread, &raw const wanted, no_flags) };
}

#[cfg(not(target_os = "linux"))]
fn short_slices(_nice: i32) {}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    /// Nice value and slice of the calling thread, as far as this kernel shows them.
    fn shown() -> (i32, Option<u64>) {
        let sched = std::fs::read_to_string("/proc/thread-self/sched").unwrap_or_default();
        let value = |name: &str| -> Option<u64> {
            let line = sched.lines().find(|line| line.starts_with(name))?;
            line.rsplit(':').next()?.trim().parse().ok()
        };
        let nice = rustix::process::nice(0).unwrap();
        (nice, value("se.slice"))
    }

    fn grants_slices() -> bool {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
        (numbers.next(), numbers.next()) >= (Some(6), Some(12)) && shown().1.is_some()
    }

    #[test]
    fn a_thread_rests_while_requests_press_where_nobody_waits_for_it() {
        let time = Duration::from_millis(50);
        let took = |turns: u32| {
            let started = Instant::now();
            (0..turns).for_each(|_| offer_turn());
            started.elapsed()
        };
        let patient = move || {
            give_way_and_rest();
            requests_answered(time, time.saturating_mul(1_000));
            took(20)
        };
        let rested = std::thread::spawn(patient).join().unwrap();
        assert!(rested >= 20 * REST, "{rested:?}");
        let until = PRESS_UNTIL.swap(0, Relaxed);
        assert!(until > 0 && !do_requests_press());
        requests_answered(time, time / PRESSING);
        assert!(!do_requests_press(), "on whatever machine this is little");
        requests_answered(time, time.saturating_mul(1_000));
        assert!(do_requests_press());
        assert!(!RESTS.get(), "this thread is as it was");
    }

    #[test]
    fn a_thread_that_gives_way_takes_short_turns_and_no_other_thread_does() {
        let before = shown();
        for (give_way, by) in [
            (take_short_turns as fn(), 0),
            (give_way as fn(), NICE),
            (give_way_to_all as fn(), NICEST),
        ] {
            let (nice, slice) = std::thread::spawn(move || {
                give_way();
                shown()
            })
            .join()
            .unwrap();
            assert_eq!(nice, (before.0 + by).min(19));
            if grants_slices() {
                assert_eq!(slice, Some(SLICE_NS));
            }
        }
        assert_eq!(shown(), before, "this thread is as it was");
    }
}
