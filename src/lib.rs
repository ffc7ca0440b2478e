//! dethrone, a champion–challenger inference gateway.

pub mod batch;
pub mod config;
pub mod error;
pub mod id;
pub mod intake;
pub mod judge;
pub mod model;
pub mod score;
pub mod span;
