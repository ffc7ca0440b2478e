//! The process, under the names that every client library gives these: boards know them.
//!
//! What cannot be read leaves its series out; nothing is guessed.

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::page::{Page, number};

/// Appends the process.
pub(super) fn write(page: &mut Page, started_ms: i64) {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    #[expect(clippy::cast_precision_loss, reason = "seconds of processor time")]
    let seconds = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
    page.counter(
        (
            "process_cpu_seconds_total",
            "Processor time of the gateway, without the processes of models.",
        ),
        seconds,
    );
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are far below 2^53")]
    let started = started_ms as f64 / 1e3;
    page.gauge(
        (
            "process_start_time_seconds",
            "When the gateway was started, Unix seconds.",
        ),
        started,
    );
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    for (named, field, scale) in [
        (
            ("process_resident_memory_bytes", "Memory of the gateway in use."),
            field("VmRSS:"),
            1024,
        ),
        (
            ("process_virtual_memory_bytes", "Memory of the gateway that is mapped."),
            field("VmSize:"),
            1024,
        ),
        (("process_threads", "Threads of the gateway."), field("Threads:"), 1),
    ] {
        page.gauges(named, field.map(|value| ([], number(value * scale))));
    }
    // The one that lists them is among them.
    let open = std::fs::read_dir("/proc/self/fd")
        .ok()
        .map(|fds| fds.count().saturating_sub(1));
    page.gauges(
        ("process_open_fds", "Open files and connections."),
        open.map(|open| ([], number(open as u64))),
    );
    let most = getrlimit(Resource::Nofile).current;
    page.gauges(
        ("process_max_fds", "Open files and connections that are allowed."),
        most.map(|most| ([], number(most))),
    );
}
