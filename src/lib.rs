//! dethrone, a champion–challenger inference gateway.

pub mod batch;
pub mod cli;
pub mod client;
pub mod config;
pub mod demo;
pub mod error;
pub mod id;
pub mod intake;
pub mod judge;
pub mod model;
pub mod score;
pub mod span;
