//! Models as files and as running sessions.

pub mod head;
pub mod layout;
pub mod onnx;
pub mod remedy;
pub mod runtime;
pub mod session;
pub mod signature;
pub mod tensor;
