//! Threads that give way to those that serve requests.
//!
//! What looks at files, feeds challengers and lets sessions go is nobody's answer: a request that wakes is not to wait for
//! it to finish its slice. Always holds: only the calling thread is concerned, and threads that it starts; runners are
//! started by a thread of their own and set their priority themselves.

/// A tenth of a processor when requests want all of them.
const NICE: i32 = 10;

/// Lets the calling thread give way from now on. Where that is not allowed, it does not.
pub fn give_way() {
    let _ = rustix::process::nice(NICE);
}
