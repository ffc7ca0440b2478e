//! Allocations, counted by thread.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use mimalloc::MiMalloc;

use crate::rig::Rig;

/// More threads than this program has; those beyond share the last place.
const PLACES: usize = 256;
const TIMES: u64 = 1_000;
/// Calls before the counted ones.
const BEFORE: u64 = 50;

static COUNTS: [AtomicU64; PLACES] = [const { AtomicU64::new(0) }; PLACES];
static THREADS: [AtomicU32; PLACES] = [const { AtomicU32::new(0) }; PLACES];
static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static PLACE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The program's allocator, counting. A few nanoseconds per allocation: times measured with it are a little too long.
pub(crate) struct Counting;

#[expect(unsafe_code, reason = "the only way to see every allocation")]
// SAFETY: hands everything on unchanged; counting touches only atomics and a constant-initialised thread local, which
// allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { MiMalloc.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { MiMalloc.dealloc(block, layout) }
    }
}

fn count() {
    let place = PLACE.try_with(|place| {
        if place.get() == usize::MAX {
            place.set(NEXT.fetch_add(1, Relaxed).min(PLACES - 1));
            THREADS[place.get()].store(thread_id(), Relaxed);
        }
        place.get()
    });
    COUNTS[place.unwrap_or(PLACES - 1)].fetch_add(1, Relaxed);
}

#[expect(unsafe_code, reason = "the standard library does not say")]
fn thread_id() -> u32 {
    // SAFETY: only asks.
    unsafe { libc::gettid() }.cast_unsigned()
}

/// Allocations so far by the name of the thread.
fn by_thread() -> BTreeMap<String, u64> {
    // Reading allocates too: the numbers first.
    let counts: [u64; PLACES] = std::array::from_fn(|at| COUNTS[at].load(Relaxed));
    let mut named = BTreeMap::new();
    for (at, count) in counts.iter().enumerate() {
        let thread = THREADS[at].load(Relaxed);
        let name = std::fs::read_to_string(format!("/proc/self/task/{thread}/comm")).unwrap_or_default();
        *named.entry(name.trim().to_owned()).or_insert(0) += count;
    }
    named
}

fn here() -> u64 {
    COUNTS[PLACE.get()].load(Relaxed)
}

/// Prints a line per part, and per thread of a whole request.
pub(crate) fn print() {
    let rig = Rig::start();
    println!("allocations per call (what ONNX Runtime allocates itself is not seen)");
    for (name, mut part) in rig.parts() {
        (0..BEFORE).for_each(|_| part());
        let before = here();
        (0..TIMES).for_each(|_| part());
        println!("{name} {:.2}", (here() - before) as f64 / TIMES as f64);
    }
    println!("allocations per whole /predict of one row over a kept connection, by thread");
    let body = &rig.lists;
    let length = body.len();
    let request = format!(
        "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let mut stream = TcpStream::connect(rig.address).unwrap();
    let mut reply = [0; 4096];
    let mut ask = || {
        stream.write_all(request.as_bytes()).unwrap();
        // Head and body leave in one write.
        let read = stream.read(&mut reply).unwrap();
        assert!(reply[..read].starts_with(b"HTTP/1.1 200"));
    };
    (0..BEFORE).for_each(|_| ask());
    let before = by_thread();
    (0..TIMES).for_each(|_| ask());
    for (thread, count) in by_thread() {
        let count = count - before.get(&thread).copied().unwrap_or(0);
        // What happens now and then is no part of a request.
        if count >= TIMES / 10 {
            println!("{thread} {:.2}", count as f64 / TIMES as f64);
        }
    }
}
