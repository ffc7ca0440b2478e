//! Models as files and as running sessions.

pub mod signature;
pub mod tensor;
