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

/// A tenth of a processor when requests want all of them.
const NICE: i32 = 10;
/// A seventieth.
const NICEST: i32 = 19;

/// Lets the calling thread give way from now on. Where that is not allowed, it does not.
pub fn give_way() {
    be_nice(NICE);
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
/// Slices, too, end at the kernel's ticks only, every 4 ms. Costs less than a microsecond where nobody is there.
pub fn offer_turn() {
    std::thread::yield_now();
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
