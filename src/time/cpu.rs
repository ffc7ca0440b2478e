//! CPU time, as the kernel counts it.
//!
//! Always holds: every call here passes numbers, or a pointer to a local that outlives the call.
#![expect(
    unsafe_code,
    reason = "the clocks of threads and processes have no safe interface in the standard library"
)]

use std::io;
use std::time::Duration;

/// CPU time of the calling thread.
#[must_use]
pub fn of_this_thread() -> Duration {
    read(libc::CLOCK_THREAD_CPUTIME_ID).unwrap_or_default()
}

/// CPU time of all threads of this process.
#[must_use]
pub fn of_this_process() -> Duration {
    read(libc::CLOCK_PROCESS_CPUTIME_ID).unwrap_or_default()
}

/// CPU time of all threads of a child that is not reaped yet.
///
/// # Errors
/// There is no such process.
pub fn of_child(pid: u32) -> io::Result<Duration> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    let mut clock: libc::clockid_t = 0;
    // SAFETY: `clock` lives across the call, which only writes it.
    let error = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    read(clock)
}

fn read(clock: libc::clockid_t) -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives across the call, which only writes it.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Ok(Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_charged_for_what_it_does_and_not_for_waiting() {
        let before = of_this_thread();
        let mut x = 1_u64;
        while of_this_thread() == before {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        let worked = of_this_thread();
        std::thread::park_timeout(Duration::from_millis(50));
        assert!(of_this_thread() - worked < Duration::from_millis(50));
        assert!(of_this_process() >= worked);
        assert!(of_child(u32::MAX).is_err());
    }

    #[test]
    fn the_cpu_clock_of_a_process_moves_with_its_work() {
        let before = of_child(std::process::id()).unwrap();
        let mut x = 1u64;
        while of_this_process() < before + Duration::from_millis(5) {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert!(of_child(std::process::id()).unwrap() >= before + Duration::from_millis(5));
    }
}
