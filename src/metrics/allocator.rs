//! What the allocator holds of the system's memory.

#![allow(unsafe_code, reason = "the allocator is asked by a call to C")]

use super::page::{Page, number};

/// Appends the allocator.
pub(super) fn write(page: &mut Page) {
    let [
        mut elapsed,
        mut user,
        mut system,
        mut rss,
        mut peak_rss,
        mut committed,
        mut peak,
        mut faults,
    ] = [0_usize; 8];
    // SAFETY: all eight point to numbers of ours that outlive the call; it may be called at any time, by any thread.
    unsafe {
        libmimalloc_sys::mi_process_info(
            &raw mut elapsed,
            &raw mut user,
            &raw mut system,
            &raw mut rss,
            &raw mut peak_rss,
            &raw mut committed,
            &raw mut peak,
            &raw mut faults,
        );
    }
    for (named, value) in [
        (
            (
                "dethrone_allocator_committed_bytes",
                "Memory that the allocator holds of the system, in use or kept.",
            ),
            committed,
        ),
        (
            ("dethrone_allocator_peak_committed_bytes", "The most that it has held."),
            peak,
        ),
        (
            (
                "dethrone_peak_resident_memory_bytes",
                "The most memory that the gateway had in use.",
            ),
            peak_rss,
        ),
    ] {
        page.gauge(named, number(value as u64));
    }
    page.counter(
        ("dethrone_page_faults_total", "Pages that had to be read from a disk."),
        number(faults as u64),
    );
}
