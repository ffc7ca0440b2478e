//! Where other people's models run: one child process per version, a bounded queue in front of each.
//!
//! Always holds: a model that crashes, hangs, or lies on its channel ends its own runner and nothing else; every row
//! that was taken gets exactly one outcome; nothing here can make the caller of [`challenger::Challenger::offer`] wait.
//! Leaves to others: which rows are offered (`mirror`), which files are worth a runner (`admission`), what is done
//! with outcomes (`ledger`) and with a quarantine (`registry`).
//!
//! A runner is the same binary, started as `dethrone runner`. Inside it the order is fixed, because each step narrows
//! what the next may do: die with the parent, close what was inherited, limits, idle scheduling, the OOM score, no
//! dumps; then ONNX Runtime's library and environment, which are the last that is opened; then no new privileges, the
//! rules of landlock (no file, no connection), and the filter of system calls. Only then it takes a model, whose bytes
//! come with the request in sealed memory: neither the model's reader nor its threads ever ran outside.

pub mod challenger;
pub mod channel;
pub mod client;
mod condition;
pub mod confine;
mod mailbox;
pub mod parcel;
pub mod process;
pub mod runner;
pub mod sandbox;
pub mod spawner;
pub mod wire;

pub use challenger::{Challenger, ChallengerSpec, RunnerEvent, ShadowReport, ShadowWork};
pub use client::{RunnerClient, RunnerFault};
pub use confine::{Confinement, SandboxPolicy};
pub use sandbox::RunnerLimits;
pub use spawner::{RunnerSpec, Spawner};
