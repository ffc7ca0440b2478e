//! A runner that may wait takes short turns: while it computes, it offers the processor to whoever is there, again and again.
//!
//! `SCHED_IDLE` is not enough. A thread that has lately had more than its share of a processor (one that serves requests and
//! has just answered some) is not due when it wakes, whatever the other's weight: Linux lets an idle process go on until it
//! is, and looks only at its ticks, which come every 4 ms (EEVDF, since 6.6). Most waits above a millisecond that requests
//! had beside busy challengers were of this kind. A process that yields is passed over at once: since Linux 6.18 it gives
//! away the rest of its turn; before, it is looked at more often at least.
//!
//! Where requests press, not even that is enough ([`crate::priority`] says why). The gateway tells so again and again, and then
//! the process rests between its turns: a processor is free for three quarters of the time. Runs that are over
//! [at once](AT_ONCE) are not drawn out.
//!
//! Always holds: a timer of the process interrupts it every [`TURN`] while it computes, and once more after that; a process
//! that waits for work is left alone; one that is not told again does not rest any longer; what is interrupted does not notice.
//! Yields are the main thread's, which computes; threads of ONNX Runtime beside it (a model with more than one) take their
//! turns as the system likes.
//! Leaves to others: when it computes (`runner`).

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::time::Duration;

/// A yield costs some microseconds, most of them for the timer.
const TURN: Duration = Duration::from_micros(250);

/// A turn where it rests afterwards.
const SHORT_TURN: Duration = Duration::from_micros(100);
/// The rest.
const REST: Duration = Duration::from_micros(300);
/// Somebody else's request may be late by so much: what takes no longer is done in one piece.
const AT_ONCE: Duration = Duration::from_millis(1);
/// Once told it rests for so long: twice as long as the gateway looks away from a run.
const TOLD: Duration = Duration::from_millis(500);

/// By default nobody is ended by it: it may come before it is handled.
const REST_NOW: libc::c_int = libc::SIGURG;

static COMPUTES: AtomicBool = AtomicBool::new(false);
/// Since when it computes, and until when it rests: nanoseconds of the monotonic clock.
static COMPUTES_SINCE: AtomicI64 = AtomicI64::new(0);
static RESTS_UNTIL: AtomicI64 = AtomicI64::new(0);
/// The timer will interrupt.
static IS_SET: AtomicBool = AtomicBool::new(false);

/// Has the process take short turns from now on, whenever it [computes](set_computes), and rest between them as if it had just
/// been [told](tell_to_rest) or not. Calls that wait go on after them.
pub(in crate::arena) fn begin(rests: bool) -> io::Result<()> {
    super::handle(libc::SIGALRM, end_of_a_turn)?;
    super::handle(REST_NOW, told_to_rest)?;
    if rests {
        told_to_rest(REST_NOW);
    }
    set_computes(true);
    // Nobody waits for what a process does until it serves.
    COMPUTES_SINCE.store(0, SeqCst);
    Ok(())
}

/// Tells a child that is not reaped yet to rest between its turns for a while. One that takes no turns takes no notice.
pub(in crate::arena) fn tell_to_rest(pid: u32) {
    super::signal(pid, REST_NOW);
}

extern "C" fn told_to_rest(_: libc::c_int) {
    RESTS_UNTIL.store(now() + nanos(TOLD), SeqCst);
}

fn rests() -> bool {
    now() < RESTS_UNTIL.load(SeqCst)
}

/// A signal handler may call it.
fn now() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives across the call, which only writes it.
    let _ = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

const fn nanos(time: Duration) -> i64 {
    time.as_secs().cast_signed() * 1_000_000_000 + time.subsec_nanos() as i64
}

/// The process computes from now on, or waits for work. In one that does not take short turns this may not be called.
pub(in crate::arena) fn set_computes(yes: bool) {
    if yes {
        COMPUTES_SINCE.store(now(), SeqCst);
    }
    COMPUTES.store(yes, SeqCst);
    // Either this sees that the timer is not set any more, or the handler sees that the process computes.
    if yes && !IS_SET.load(SeqCst) {
        set_timer();
    }
}

/// One interruption: the handler sets the timer again. A process that does not get the processor is interrupted once.
fn set_timer() {
    IS_SET.store(true, SeqCst);
    let turn = if rests() { SHORT_TURN } else { TURN };
    let timer = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
        it_value: libc::timeval {
            tv_sec: 0,
            tv_usec: libc::suseconds_t::from(turn.subsec_micros()),
        },
    };
    let no_old_one = std::ptr::null_mut::<libc::itimerval>();
    // SAFETY: `timer` lives across the call, which only reads it. A signal handler may call it: it is one system call.
    let _ = unsafe { libc::syscall(libc::SYS_setitimer, libc::ITIMER_REAL, &raw const timer, no_old_one) };
}

extern "C" fn end_of_a_turn(_: libc::c_int) {
    IS_SET.store(false, SeqCst);
    if COMPUTES.load(SeqCst) {
        if rests() && now() - COMPUTES_SINCE.load(SeqCst) > nanos(AT_ONCE) {
            rest();
        } else {
            // SAFETY: takes nothing, touches no memory and never fails.
            let _ = unsafe { libc::sched_yield() };
        }
        // After it: the time that others took is not part of a turn.
        set_timer();
    }
}

fn rest() {
    let rest = libc::timespec {
        tv_sec: 0,
        tv_nsec: nanos(REST),
    };
    // SAFETY: gives this thread's own place. A sleep that is cut short leaves an error there, which is nothing to whoever was
    // interrupted, perhaps between a failed call and a look at its error.
    let error = unsafe { libc::__errno_location() };
    // SAFETY: `error` is valid for as long as the thread lives; `rest` lives across the call, which only reads it, and wants no
    // time that is left. A signal handler may call it.
    unsafe {
        let before = *error;
        libc::nanosleep(&raw const rest, std::ptr::null_mut());
        *error = before;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::checked;
    use super::*;

    /// Whether the timer will interrupt, by the kernel's word.
    fn is_set() -> bool {
        // SAFETY: all zeros are a valid `itimerval`, which the next call fills.
        let mut timer: libc::itimerval = unsafe { std::mem::zeroed() };
        // SAFETY: `timer` lives across the call, which only writes it.
        checked(unsafe { libc::getitimer(libc::ITIMER_REAL, &raw mut timer) }).unwrap();
        timer.it_value.tv_sec > 0 || timer.it_value.tv_usec > 0
    }

    fn until(mut holds: impl FnMut() -> bool) {
        let started = Instant::now();
        while !holds() {
            assert!(started.elapsed() < Duration::from_secs(60));
            std::hint::spin_loop();
        }
    }

    #[test]
    fn turns_end_again_and_again_while_the_process_computes_and_no_longer() {
        for _ in 0..2 {
            begin(false).unwrap();
            // Many times as long as a turn: whoever set the timer since is the handler.
            let started = Instant::now();
            while started.elapsed() < 40 * TURN {
                std::hint::spin_loop();
            }
            until(is_set);
            set_computes(false);
            until(|| !is_set() && !IS_SET.load(SeqCst));
        }
    }
}
