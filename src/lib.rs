//! dethrone, a champion–challenger inference gateway.

pub mod admission;
pub mod arena;
pub mod batch;
pub mod cli;
pub mod client;
pub mod config;
pub mod demo;
pub mod error;
pub mod id;
pub mod intake;
pub mod judge;
pub mod ledger;
pub mod decode;
pub mod http;
pub mod metrics;
pub mod model;
pub mod protocol;
pub mod score;
pub mod span;
pub mod time;
