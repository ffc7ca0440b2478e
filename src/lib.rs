//! dethrone, a champion–challenger inference gateway.

pub mod batch;
pub mod config;
pub mod decode;
pub mod error;
pub mod http;
pub mod id;
pub mod intake;
pub mod judge;
pub mod metrics;
pub mod model;
pub mod protocol;
pub mod score;
pub mod span;
