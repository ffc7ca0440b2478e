//! dethrone, a champion–challenger inference gateway.

pub mod admission;
pub mod arena;
pub mod batch;
pub mod champion;
pub mod cli;
pub mod client;
pub mod config;
pub mod control;
pub mod decode;
pub mod demo;
pub mod error;
pub mod gateway;
pub mod http;
pub mod id;
pub mod intake;
pub mod judge;
pub mod ledger;
pub mod metrics;
pub mod mirror;
pub mod model;
pub mod protocol;
pub mod recorder;
pub mod score;
pub mod served;
pub mod span;
pub mod time;
