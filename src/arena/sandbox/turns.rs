//! A runner that may wait takes short turns: while it computes, it offers the processor to whoever is there, again and again.
//!
//! `SCHED_IDLE` is not enough. A thread that has lately had more than its share of a processor (one that serves requests and
//! has just answered some) is not due when it wakes, whatever the other's weight: Linux lets an idle process go on until it
//! is, and looks only at its ticks, which come every 4 ms (EEVDF, since 6.6). Most waits above a millisecond that requests
//! had beside busy challengers were of this kind. A process that yields is passed over at once: since Linux 6.18 it gives
//! away the rest of its turn; before, it is looked at more often at least.
//!
//! Always holds: a timer of the process interrupts it every [`TURN`] while it computes, and once more after that; a process
//! that waits for work is left alone. Yields are the main thread's, which computes; threads of ONNX Runtime beside it (a
//! model with more than one) take their turns as the system likes.
//! Leaves to others: when it computes (`runner`).

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

/// A yield costs some microseconds, most of them for the timer.
const TURN: Duration = Duration::from_micros(250);

static COMPUTES: AtomicBool = AtomicBool::new(false);
/// The timer will interrupt.
static IS_SET: AtomicBool = AtomicBool::new(false);

/// Has the process take short turns from now on, whenever it [computes](set_computes). Calls that wait go on after them.
pub(in crate::arena) fn begin() -> io::Result<()> {
    super::handle(libc::SIGALRM, end_of_a_turn)?;
    set_computes(true);
    Ok(())
}

/// The process computes from now on, or waits for work. In one that does not take short turns this may not be called.
pub(in crate::arena) fn set_computes(yes: bool) {
    COMPUTES.store(yes, SeqCst);
    // Either this sees that the timer is not set any more, or the handler sees that the process computes.
    if yes && !IS_SET.load(SeqCst) {
        set_timer();
    }
}

/// One interruption: the handler sets the timer again. A process that does not get the processor is interrupted once.
fn set_timer() {
    IS_SET.store(true, SeqCst);
    let timer = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
        it_value: libc::timeval {
            tv_sec: 0,
            tv_usec: libc::suseconds_t::from(TURN.subsec_micros()),
        },
    };
    let no_old_one = std::ptr::null_mut::<libc::itimerval>();
    // SAFETY: `timer` lives across the call, which only reads it. A signal handler may call it: it is one system call.
    let _ = unsafe { libc::syscall(libc::SYS_setitimer, libc::ITIMER_REAL, &raw const timer, no_old_one) };
}

extern "C" fn end_of_a_turn(_: libc::c_int) {
    IS_SET.store(false, SeqCst);
    if COMPUTES.load(SeqCst) {
        // SAFETY: takes nothing, touches no memory and never fails.
        let _ = unsafe { libc::sched_yield() };
        // After it: the time that others took is not part of a turn.
        set_timer();
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
            begin().unwrap();
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
