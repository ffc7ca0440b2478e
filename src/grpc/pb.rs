//! The messages of `proto/*.proto`, written by prost from them; a test writes them anew and compares.

/// The Open Inference Protocol.
pub mod inference {
    #![expect(missing_docs, reason = "generated: the proto file explains them")]
    include!("pb/inference.rs");
}

/// Health.
pub mod health {
    #![expect(missing_docs, reason = "generated: the proto file explains them")]
    include!("pb/health.rs");
}

/// Reflection; both of its versions have these messages.
pub mod reflection {
    #![expect(missing_docs, reason = "generated: the proto file explains them")]
    include!("pb/reflection.rs");
}

/// All proto files as a serialized `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!("pb/descriptors.bin");
