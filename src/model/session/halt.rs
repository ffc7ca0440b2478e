//! Ending a run from a signal handler: for a runner, whose only thread is inside the run.
//!
//! Always holds: what the handler points ONNX Runtime to is there for as long as it can be pointed to, because the thread
//! that runs is the one that the handler interrupts (the signal is blocked in all others); a run that was ended leaves the
//! session fit for the next.
//! Leaves to others: who signals, and what is done about a run that does not listen (`arena::client`).
#![allow(
    unsafe_code,
    reason = "a handler may do next to nothing, and the binding has no call for it"
)]

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use ort::AsPointer;
use ort::session::{HasSelectedOutputs, RunOptions};
use ort::sys;

/// The options of the run that is under way; null between runs.
static UNDER_WAY: AtomicPtr<sys::OrtRunOptions> = AtomicPtr::new(ptr::null_mut());

/// A run that can be ended.
pub(super) struct Haltable<'a>(&'a RunOptions<HasSelectedOutputs>);

impl<'a> Haltable<'a> {
    pub(super) fn new(options: &'a RunOptions<HasSelectedOutputs>) -> Self {
        UNDER_WAY.store(options.ptr().cast_mut(), Ordering::SeqCst);
        Self(options)
    }
}

impl Drop for Haltable<'_> {
    fn drop(&mut self) {
        UNDER_WAY.store(ptr::null_mut(), Ordering::SeqCst);
        // Options that could not be reset would end the next run too, which says so.
        let _ = self.0.unterminate();
    }
}

/// Ends the run that is under way, at its next operator. May be called from a signal handler of the thread that runs.
pub fn halt() {
    let options = UNDER_WAY.load(Ordering::SeqCst);
    if options.is_null() {
        return;
    }
    // SAFETY: the options are borrowed by the run's guard, which this thread cannot leave while it is here; the call
    // stores a flag in them.
    let status = unsafe { (ort::api().RunOptionsSetTerminate)(options) };
    // It is null: a flag can always be stored. Anything else is leaked, for a handler must not free.
    let _ = status;
}
