//! What shadow work costs the answers: measured all the time, and slowed where it costs too much.
//!
//! A challenger runs at idle priority, and still takes caches, memory bandwidth and wake-ups from every request, mirrored
//! or not. So requests are not compared with requests but moments with moments: now and then, for a short stretch drawn by
//! chance, no shadow work is begun at all, and the champion's latencies within these quiet stretches are held against those
//! of the rest. Where the tail of the rest is longer than the budget allows, and chance does not explain it, shadow work
//! is slowed to a share of the processors' time; it gets more again as soon as the tails agree.
//!
//! Always holds: a request costs one load, and while challengers are there one addition in its thread's own place; no
//! clock is read for it. Which rows are shadowed follows from when they came and from what was measured before, never from
//! what they hold or from how they were answered: evidence stays valid, there is less of it. It never stops altogether.
//! Leaves to others: what a driver does while it may not begin (`arena`), and the reasons of dropped rows (`score`).

mod controller;
mod gate;
mod tail;
mod watch;

pub use gate::{Gate, Member, Pass};
pub use tail::Tail;
pub use watch::{Board, Interference, View};
