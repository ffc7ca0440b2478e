//! The integration tests: one binary, so that ONNX Runtime is linked once.

mod arena;
mod exports;
