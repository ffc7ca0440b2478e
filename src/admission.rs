//! From a file to a version that may be shadowed.

pub mod probe;
