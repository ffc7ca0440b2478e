//! Switching ONNX Runtime's telemetry off: the one variable that has to be in the environment before its library loads.
//!
//! Changing the environment is sound only while there is one thread, hence a file of its own.

/// What ONNX Runtime reads while it is loaded.
pub(super) const VARIABLE: &str = "ORT_DISABLE_TELEMETRY";

/// Sets `ORT_DISABLE_TELEMETRY=1`. Call it as the first line of `main`, before anything starts a thread. Does nothing
/// when the variable is already set so, or when the process is seen to have other threads by now;
/// [`start`](super::start) then refuses, and says so.
pub fn silence_telemetry() {
    if !is_silent() && threads() != Some(Threads::Many) {
        set();
    }
}

/// The same, where it is proven that nobody else can be looking.
pub(super) fn silence_if_alone() {
    if !is_silent() && threads() == Some(Threads::One) {
        set();
    }
}

/// True when the environment switches telemetry off.
pub(super) fn is_silent() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|value| value == "1")
}

#[allow(
    unsafe_code,
    reason = "the standard library has no other way to set a variable of this process"
)]
fn set() {
    // SAFETY: no other thread exists that could read or write the environment. Linux has just counted them, and only
    // this thread could start one; Windows guards the environment itself; elsewhere it is the contract of
    // `silence_telemetry`, which the binary keeps by calling it first.
    unsafe { std::env::set_var(VARIABLE, "1") };
}

#[derive(PartialEq, Eq)]
enum Threads {
    One,
    Many,
}

/// How many threads the process has, where the system tells.
fn threads() -> Option<Threads> {
    let tasks = std::fs::read_dir("/proc/self/task").ok()?;
    Some(if tasks.count() == 1 {
        Threads::One
    } else {
        Threads::Many
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_have_the_variable_from_cargo() {
        assert!(is_silent(), "run the tests through cargo, or with {VARIABLE}=1");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_with_threads_is_seen() {
        std::thread::scope(|scope| {
            scope.spawn(|| assert!(threads() == Some(Threads::Many)));
        });
    }
}
